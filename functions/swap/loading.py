"""From a pack in a folder to what jobs need; where it is unfit, the process ends."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from functions.swap import vetting
from functions.swap.pipeline import Loaded
from functions.swap.provenance import Credentials
from functions.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.keys import KeyProvider
    from functions.settings import Settings
    from models.manifest import Pack

log = logging.getLogger(__name__)

_BOOT_FAILED: Final = 3
"""The exit status that gunicorn takes to mean: do not start me again."""


def pack_named(folder: Path) -> dict[str, str]:
    """Return what records say of the pack, from its manifest alone."""
    from models.verify import verify

    return _named(verify(folder, full=False))


def _named(pack: Pack) -> dict[str, str]:
    named = {"id": pack.id, "version": pack.version, "tier": pack.tier}
    return named | {"digest": pack.pack_digest}


def load_or_end(settings: Settings, keys: KeyProvider) -> Loaded:
    """Return what jobs need; models or certificates that are unfit end the process."""
    with _ending("the worker does not load"):
        return load(settings, keys)


@contextmanager
def _ending(said: str) -> Iterator[None]:
    """End the process where the body fails, and let gunicorn start no other."""
    try:
        yield
    except BaseException:
        log.critical(said, exc_info=True)
        os._exit(_BOOT_FAILED)


def load(settings: Settings, keys: KeyProvider) -> Loaded:
    """Load what signs, and the pack, once it may serve here.

    The two load side by side: most of either is reading a native library.

    Raises:
        models.errors.PackRefused: the pack is not what it says, nobody vouches for
            it, or its licence does not allow it.
        functions.swap.engine.Unfit: a network is wrong here, or there is no such
            device.
        SettingsError: a setting that production needs is missing.
    """
    from models.verify import verify

    credentials = Warm(lambda: Credentials.load(settings, keys))
    folder, full = settings.need("models"), settings.verify == "full"
    pack = verify(folder, full=False, trust=vetting.trust(settings))
    vetted = vetting.admit_pack(pack, settings, keys)
    from functions.swap import engine as engines

    engine = engines.load(
        folder,
        pack,
        device=settings.device,
        full=full,
        gpu_memory_bytes_max=settings.limits.gpu_memory_bytes_max,
        cuda_graph=settings.cuda_graph,
    )
    if not engine.offers.classifier:
        log.warning("the pack %s has no content gate", pack.id)
    return Loaded(
        engine=engine,
        device=engine.device.as_dict(),
        model_digest=pack.pack_digest,
        credentials=credentials.get(),
        proof=Warm(lambda: _proved_or_end(engine.proof)),
        vetted={"verified": settings.verify, **vetted},
        gate_accepted=vetting.without_gate(pack, settings, keys),
    )


def _proved_or_end(proof: Warm[None]) -> None:
    """Wait for the proof; a pack that fails it must not answer anything more."""
    with _ending("the models are not what they should be"):
        proof.get()
