"""What has to hold of wheels and source distributions before they are published: ``check_release.py FOLDER [TAG]``.

The version is the same everywhere and has its changes written down, under "Unreleased" until there is a tag; files are
small enough, whole, and say what is in them.
"""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Collection, Iterator
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

from finish_wheel import SBOM
from iqa_runtime import __version__
from iqa_runtime.artefacts.bundled import BUNDLED

ROOT = Path(__file__).parents[1]
MOST_BYTES = 45 * 10**6
IN_WHEEL = (
    "iqa_runtime/_kernels.",
    *(f"iqa_runtime/models/{name}.onnx" for name in BUNDLED),
    "iqa_runtime/models/LICENCES.md",
    "iqa_calibration/photographs/LICENCES.md",
    f"iqa_deploy-{__version__}.dist-info/licenses/LICENSE",
    f"iqa_deploy-{__version__}.dist-info/{SBOM}",
)
IN_SOURCES = ("csrc/_kernels.pyx", "csrc/jpeg/_jpeg_bands.pyx", "export/iqa_export/weights/yoto-edge.safetensors")
BUILT = (".so", ".pyd", "csrc/_kernels.c", "csrc/jpeg/_jpeg_bands.c")


def complaints(folder: Path, tag: str | None = None) -> Iterator[str]:
    """Yield what is wrong, a line each.

    Parameters
    ----------
    folder
        Of the wheels and the source distribution.
    tag
        What is about to be published, ``v1.2.3``; None before that.
    """
    if tag is not None and tag != f"v{__version__}":
        yield f"{tag}: iqa_runtime.__version__ is {__version__}"
    yield from changelog_complaints((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), released=tag is not None)
    wheels, sources = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if not wheels or len(sources) != 1:
        yield f"{folder}: {len(wheels)} wheels and {len(sources)} source distributions"
    for path in [*wheels, *sources]:
        if not path.name.startswith(f"iqa_deploy-{__version__}"):
            yield f"{path.name}: not of {__version__}"
    for wheel in wheels:
        yield from _wheel_complaints(wheel, released=tag is not None)
    for source in sources:
        with tarfile.open(source) as archive:
            names = [name.partition("/")[2] for name in archive.getnames()]
        yield from _missing(source, names, IN_SOURCES)
        yield from (f"{source.name}: {name} was built" for name in names if name.endswith(BUILT))


def changelog_complaints(text: str, *, released: bool) -> Iterator[str]:
    """Yield what is wrong with the changes of this version."""
    heading = (
        rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d"
        if released
        else rf"Unreleased|{re.escape(__version__)}\b[^\n]*"
    )
    section = re.search(rf"^## (?:{heading})\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        yield (
            f"CHANGELOG.md: no heading ## {__version__} - YYYY-MM-DD" if released else "CHANGELOG.md: no ## Unreleased"
        )
    elif "\n- " not in section[1]:
        yield "CHANGELOG.md: nothing under the heading"


def _wheel_complaints(wheel: Path, *, released: bool) -> Iterator[str]:
    if (size := wheel.stat().st_size) > MOST_BYTES:
        yield f"{wheel.name}: {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}"
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        about = message_from_bytes(archive.read(f"iqa_deploy-{__version__}.dist-info/METADATA"))
    yield from _missing(wheel, names, IN_WHEEL)
    if about["Version"] != __version__:
        yield f"{wheel.name}: its metadata are of {about['Version']}"
    if released and "Project-URL" not in about:
        yield f"{wheel.name}: no Project-URL; pyproject.toml wants [project.urls] with the address of the repository"
    if "-linux_" in wheel.name:
        yield f"{wheel.name}: of this machine alone; auditwheel repairs it"


def _missing(path: Path, names: Collection[str], wanted: Collection[str]) -> Iterator[str]:
    for start in wanted:
        if not any(name.startswith(start) for name in names):
            yield f"{path.name}: {start} is missing"


def main(folder: str, tag: str | None = None) -> None:
    """Print what is wrong, and fail if anything is."""
    found = list(complaints(Path(folder), tag))
    print("\n".join(found) or f"{folder}: ready")
    sys.exit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:3])
