"""`guise tenant render`: a tenant's spec as the objects that a cluster has of it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import yaml

from functions.cli.tenant.making import current
from functions.cli.terminal import err
from functions.local.manifests import ManifestError
from functions.problems import InvalidRequest, Unavailable
from functions.roster.reading import write
from functions.storage.locate import PLACE, Stores
from functions.tenant import Tenant
from knative.cluster import ClusterError, read
from knative.kustomize import KustomizeError, identity
from knative.render import (
    Tenancy,
    everybody_config_map,
    flags,
    pool_config_map,
    render,
)
from models import channels
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from functions.cli.tenant.place import Place
    from functions.roster import Spec
    from knative.cluster import Cluster
    from knative.kustomize import Manifest


def render_tenants(
    place: Place, ids: Iterable[str], file: Path, packs: Path, *, everybody: bool
) -> None:
    """Print the objects of tenants as YAML; of all with `everybody`, and the pool's.

    `file` describes the cluster; `packs` is the folder with the channels of packs.
    Raises `ManifestError` where it does not come to anything that could be applied;
    of all, once those are printed for whom it does.
    """
    try:
        cluster = read(file)
    except ClusterError as error:
        raise ManifestError(str(error)) from error
    if everybody:
        _render_all(place, cluster, file, packs)
        return
    specs = [current(place, Tenant(name)) for name in ids]
    if not specs:
        raise InvalidRequest("name a tenant, or say --all")
    made = _Made()
    for spec in specs:
        made.add(spec, cluster, file, packs)
    made.print()


def _render_all(place: Place, cluster: Cluster, file: Path, packs: Path) -> None:
    """Print everybody whose objects there are; then raise for the others."""
    made = _Made()
    known: dict[str, str] = {}
    pooled: dict[str, str] = {}
    faults: list[str] = []
    for tenant in place.roster().names():
        try:
            spec = current(place, tenant)
            if not spec.living:
                continue
            known[spec.id] = write(spec).decode()
            made.add(spec, cluster, file, packs)
            if not spec.isolation.compute:
                pooled[spec.id] = known[spec.id]
        except ManifestError as error:
            faults.append(str(error))
        except Unavailable as error:  # its spec is broken: the pool goes without
            faults.append(f"{tenant.id}: {error}")
    made.print(everybody_config_map(known), pool_config_map(pooled))
    if faults:
        raise ManifestError(f"all but {len(faults)} are rendered: {'; '.join(faults)}")


class _Made:
    """What is rendered: the objects of some tenants, and the flags that they need."""

    def __init__(self) -> None:
        self._objects: list[Manifest] = []
        self._flags: set[str] = set()

    def add(self, spec: Spec, cluster: Cluster, file: Path, packs: Path) -> None:
        """Add a tenant's objects, all of them, or raise `ManifestError`."""
        if not spec.living:
            raise ManifestError(
                f"{spec.id} is {spec.state}, and has nothing to render: "
                "delete what it has on the cluster"
            )
        try:
            tenancy = tenancy_of(spec, cluster, file, packs)
            self._objects += render(tenancy, cluster)
        except (ClusterError, KustomizeError, ModelError) as error:
            raise ManifestError(f"{spec.id}: {error}") from error
        self._flags.update(flags(tenancy, cluster))

    def print(self, *more: Manifest) -> None:
        """Print the objects, and `more`, for kubectl; and for a person the flags.

        Raises `ManifestError` where one object would replace another.
        """
        objects = [*self._objects, *more]
        counted = Counter(map(identity, objects))
        if twice := ["/".join(each) for each, count in counted.items() if count > 1]:
            raise ManifestError(f"twice, so one would replace the other: {twice}")
        sys.stdout.write(as_yaml(objects))
        if self._flags:
            err().print(
                "the cluster must have these flags, which are off by default: "
                f"{', '.join(sorted(self._flags))}; docs/operations.md has where",
                markup=False,
            )


def as_yaml(objects: Iterable[Manifest]) -> str:
    """Return objects as YAML, one document each, nothing in it an alias."""
    text: str = yaml.dump_all(
        objects, Dumper=_Plain, sort_keys=False, explicit_start=True
    )
    return text


_AMBIGUOUS: Final = re.compile(r"[-+.~\d].*|[yn]|", re.IGNORECASE | re.DOTALL)
"""What some reader of YAML takes for a number, a flag or nothing.

kubectl reads YAML 1.1 by other rules than PyYAML writes it: `y`, `1e3` and `0o17` are
no text to it.
"""


class _Plain(yaml.SafeDumper):
    """Writes out twice what is in two places, and in quotes what might not be text."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Return a text, in quotes where it looks like something else."""
        style = "'" if _AMBIGUOUS.fullmatch(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401  # as its base
        """Return that nothing is said by reference."""
        del data
        return True


_Plain.add_representer(str, _Plain.represent_str)


def tenancy_of(spec: Spec, cluster: Cluster, file: Path, packs: Path) -> Tenancy:
    """Return what a tenant's spec comes to on a cluster.

    Raises `ClusterError` for a tenant who is to be served in another region alone.
    """
    if spec.region not in {"", cluster.region}:
        here = cluster.region or "no region"
        raise ClusterError(
            f"region: the spec says {spec.region}, and the cluster's file {here}"
        )
    pack, version = _pack(spec, cluster, packs) if spec.isolation.compute else ("", "")
    trust = file.parent / cluster.trust if cluster.trust else None
    return Tenancy(
        id=spec.id,
        document=write(spec).decode(),
        store=cluster.store.replace(PLACE, spec.id),
        prefix=Stores(cluster.store).place(spec.tenant)[1],
        tier=spec.tier,
        compute=spec.isolation.compute,
        pack=pack,
        version=version,
        gpus=spec.quotas.gpus,
        gpu_memory_gib=spec.quotas.gpu_memory_gib,
        cpus=spec.quotas.cpus,
        log_days=spec.retention.log_days,
        trust={each.name: each.read_text() for each in sorted(trust.glob("*.pem"))}
        if trust
        else {},
    )


def _pack(spec: Spec, cluster: Cluster, packs: Path) -> tuple[str, str]:
    """Return the pack and the version that a tenant gets: its pin, channel or share.

    Where no channels are kept there may be only one version to choose from.
    """
    pack, models = spec.models.pack or cluster.pack, spec.models
    if models.pin:
        return pack, models.pin
    versions = cluster.packs.get(pack, {})
    if not (packs / channels.NAME).exists() and len(versions) == 1:
        return pack, next(iter(versions))
    line = channels.load(packs).line(pack)
    if models.channel != "stable" and line.current(models.channel):
        return pack, line.current(models.channel)
    return pack, channels.resolve(line, spec.id).version
