"""Start every image as a cluster would, and ask it: `python -m tools.image_checks`.

For root, on a machine with buildah and the images of `make image`.  Each runs as its
own user without a capability, from a root that is read-only, with /tmp in memory, in
the development profile.  Between them is a relay that stands for the broker.  What
cannot be tried here is skipped, and said.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools import image_container
from tools.image_look import look
from tools.image_tally import Tally
from tools.image_town import Town, large

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.image_container import Image

IMAGES: Final = ("door", "worker-cpu", "worker-gpu", "audit", "billing")
VERSION: Final = "0.1.0"
ONLY_A_GPU: Final = (
    "that networks run on it, that BASE has the CUDA and cuDNN they want, "
    "and that the device comes into the container"
)
"""What nothing else can show of worker-gpu."""


def lacking() -> str:
    """Return why nothing can be tried on this machine; empty where it can."""
    if os.geteuid() != 0:
        return "only root may mount an image"
    return "" if shutil.which("buildah") else "buildah is not here"


def main() -> None:
    """Try every image there is; say what was not tried; fail if a rule is broken."""
    tally = Tally()
    why = lacking()
    if why:
        tally.skip("the images", why)
        return
    [version] = sys.argv[1:] or [VERSION]
    image_container.alone()
    known = image_container.names()
    with ExitStack() as ending:
        images = {}
        for target in IMAGES:
            name = f"guise-{target}:{version}"
            if name not in known:
                tally.skip(target, f"there is no image {name}")
                continue
            mounted = image_container.mounted(target, name)
            images[target] = ending.enter_context(mounted)
            for rule, held, seen in look(images[target], version):
                tally.check(f"{target} {rule}", held, seen)
        _live(images, tally)
    if tally.failed:
        sys.exit(f"failed: {'; '.join(tally.failed)}")


def _live(images: Mapping[str, Image], tally: Tally) -> None:
    for worker in ("worker-cpu", "worker-gpu"):
        if missing := {worker, "door", "audit", "billing"} - images.keys():
            tally.skip(f"starting {worker}", f"without {', '.join(sorted(missing))}")
        elif not (images[worker].root / "models/pack.json").exists():
            why = "its image has no pack: `make image PACK=`"
            tally.skip(f"starting {worker}", why)
        else:
            _start(worker, images, tally)
    tally.skip("worker-gpu on a GPU", f"only one shows {ONLY_A_GPU}")


def _start(worker: str, images: Mapping[str, Image], tally: Tally) -> None:
    """Start all four; on a GPU's image, by its processor, as there is no GPU in it."""
    on_gpu = worker == "worker-gpu"
    with ExitStack() as ending:
        made = tempfile.TemporaryDirectory(prefix="guise-")
        folder = Path(ending.enter_context(made))
        target = large(folder)
        device = "cpu" if on_gpu else "auto"
        town = Town(
            images, folder / "home", tally, ending, worker=worker, device=device
        )
        town.wake()
        town.ask()
        if on_gpu:
            town.without(images[worker])
        else:
            town.probe(target)
        town.end(target)


if __name__ == "__main__":
    main()
