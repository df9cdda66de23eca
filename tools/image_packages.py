"""Fill /opt/guise with what one image runs: by its lock, compiled, slim, and listed.

`python tools/image_packages.py audit`; the Dockerfile runs it in the stage that builds.
The same input gives the same bytes.  Only the standard library is there.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path("/opt/guise")
TOOLS: Final = Path("/tools/bin")
OURS: Final = frozenset({"functions", "models", "knative"})
"""Their sources stay, for who reads a traceback, and as Alembic's are read."""
WITH_SOURCES: Final = OURS | {"cv2"}
"""cv2 reads `config.py` beside it as text."""
S3: Final = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})
"""Of botocore's 440 services: the store, and where its credentials come from."""
LEXERS: Final = frozenset({"__init__", "_mapping", "special", "text", "python"})
"""Of pygments' 250: rich colours nothing else, and nothing here."""
DIALECTS: Final = frozenset({"postgresql", "sqlite"})
"""Of SQLAlchemy's: what audit and billing speak."""
UNREAD: Final = ("pyasn1", "pyasn1-modules", "pycparser")
"""Two read by google-auth where the package `rsa` is, and here it is not; one read by
cffi where it compiles, and here it does not."""
COMMANDS: Final = frozenset({"guise", "gunicorn", "python", "python3"})
STRIPPED: Final = ("cryptography", "sqlalchemy", "yaml")
"""Large with symbols.  What auditwheel has patched does not load once stripped."""
IMPORTED: Final = {
    "door": "functions.swap.door functions.swap.sweeper tink",
    "worker-cpu": "functions.swap.worker numpy cv2 onnxruntime c2pa models.verify tink",
    "worker-gpu": "functions.swap.worker numpy cv2 onnxruntime c2pa models.verify tink",
    "audit": "functions.audit.app psycopg alembic.command",
    "billing": "functions.billing.app psycopg alembic.command reportlab.pdfgen tink",
}
"""What must still be there in the end, beside the stores' clients."""
STORES: Final = (
    "functions.storage.s3 functions.storage.gcs google.oauth2.service_account "
    "functions.cli.commands"
)
IN_NO_IMAGE: Final = ("tests", "test", "testing", "benchmarks")
NEEDED: Final = frozenset({"numpy/testing"})
"""Imported by numpy itself."""
FOR_WHO_BUILDS: Final = (".pyi", ".pyx", ".pxd", ".proto", ".c", ".h", ".a")


def main() -> None:
    """Build the packages of one image, and see that they still import."""
    [image] = sys.argv[1:]
    _run(sys.executable, "-m", "venv", "--without-pip", HERE)
    pip = (TOOLS / "python", "-m", "pip", "--python", HERE / "bin/python")
    # The locks are complete, and we do not ship all that packages ask for.
    options = ("--quiet", "--no-deps", "--no-compile")
    lock = Path("requirements/images") / f"{image}.lock"
    _run(*pip, "install", *options, "--require-hashes", "-r", lock)
    _run(*pip, "install", *options, *Path("/wheel").glob("*.whl"))
    _run(*pip, "uninstall", "--quiet", "--yes", *UNREAD)
    sbom = ("--output-reproducible", "--output-format", "JSON", "--output-file")
    bom = TOOLS / "cyclonedx-py"
    _run(bom, "environment", *sbom, HERE / "sbom.cdx.json", HERE / "bin/python")
    [site] = HERE.glob("lib/python3*/site-packages")
    slim(site)
    compile_all(site)
    for each in (*HERE.glob("bin/*"), *HERE.glob("include")):
        if each.name not in COMMANDS and not each.name.startswith("python3."):
            _remove(each)
    wanted = ", ".join([*IMPORTED[image].split(), *STORES.split()])
    _run(HERE / "bin/python", "-I", "-B", "-c", f"import {wanted}")


def slim(site: Path) -> None:
    """Take away what nothing here reads, and the symbols of what was compiled."""
    for each in list(unread(site)):
        _remove(each)
    strip = shutil.which("strip")
    if strip is None:
        sys.exit("error: TOOLS has no strip (binutils)")
    for name in STRIPPED:
        for each in sorted((site / name).rglob("*.so")):
            _run(strip, "--strip-unneeded", each)


def unread(site: Path) -> Iterator[Path]:
    """Yield each file and folder of the packages that nothing in an image reads."""
    for each in site.rglob("*"):
        name = each.relative_to(site)
        is_test = each.name in IN_NO_IMAGE and name.as_posix() not in NEEDED
        unread = each.suffix in FOR_WHO_BUILDS or (is_test and each.is_dir())
        if unread and name.parts[0] not in OURS:
            yield each
    yield from site.glob("*.dist-info/RECORD")  # what pip brought, much of it gone
    for found, kept in (
        ("botocore/data/*/", S3),
        ("pygments/lexers/*.py", LEXERS),
        ("sqlalchemy/dialects/*/", DIALECTS),
    ):
        yield from (each for each in site.glob(found) if each.stem not in kept)


def compile_all(site: Path) -> None:
    """Compile every module; of those that are not ours, only that stays.

    A compiled file is believed without a look at its source, or its source's time.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for each in sorted(site.iterdir()):
        beside = each.name not in WITH_SOURCES
        if each.is_dir():
            options = {"quiet": 1, "invalidation_mode": mode, "legacy": beside}
            done = compileall.compile_dir(each, maxlevels=64, **options)  # type: ignore[arg-type]
        elif each.suffix == ".py":
            done = compileall.compile_file(
                each, quiet=1, invalidation_mode=mode, legacy=beside
            )
        else:
            continue
        if not done:
            sys.exit(f"error: {each.name} does not compile")
        if beside:
            for source in [each] if each.is_file() else each.rglob("*.py"):
                source.unlink()


def _remove(each: Path) -> None:
    if each.is_dir() and not each.is_symlink():
        shutil.rmtree(each)
    else:
        each.unlink(missing_ok=True)


def _run(*command: str | Path) -> None:
    subprocess.run([str(each) for each in command], check=True)  # noqa: S603  # ours


if __name__ == "__main__":
    main()
