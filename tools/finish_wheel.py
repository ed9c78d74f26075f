"""Put into a built wheel what says where its parts come from: ``finish_wheel.py WHEEL FOLDER [LICENCE...]``.

Its bill of materials (PEP 770), and the licences of libraries that were copied into it. The finished wheel is written
to the folder, under the same name; the same wheel gives the same bytes.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from write_sbom import LIBRARIES, bill_of_materials

SBOM = "sboms/iqa-deploy.cdx.json"


def finish(wheel: Path, folder: Path, licences: Sequence[Path] = ()) -> Path:
    """Write a wheel anew, with its bill of materials and licences.

    Parameters
    ----------
    wheel
        As setuptools built it, and auditwheel repaired it.
    folder
        Where the finished one goes; another than the wheel's own.
    licences
        Texts of what holds for the libraries in it.

    Returns
    -------
    pathlib.Path
        The finished wheel.

    Raises
    ------
    ValueError
        If there are libraries in it and no licences, or the other way round.
    """
    bill = json.dumps(bill_of_materials(wheel, inside=True), indent=1, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / wheel.name
    with ZipFile(wheel) as source, ZipFile(finished, "w", ZIP_DEFLATED) as target:
        names = source.namelist()
        if any(name.startswith(LIBRARIES) for name in names) != bool(licences):
            raise ValueError(f"{wheel}: give the licences of the libraries in it, and none where there are none")
        [record] = [name for name in names if name.endswith(".dist-info/RECORD")]
        about = record.removesuffix("RECORD")
        added = {f"{about}licenses/{path.parent.name}/{path.name}": path.read_bytes() for path in licences}
        added[about + SBOM] = bill.encode()
        for entry in source.infolist():
            if entry.filename != record:
                target.writestr(entry, source.read(entry), ZIP_DEFLATED)
        last = source.getinfo(record)
        for name, content in added.items():
            target.writestr(_like(last, name), content, ZIP_DEFLATED)
        lines = source.read(record).decode() + "".join(_line(name, content) for name, content in added.items())
        target.writestr(last, lines, ZIP_DEFLATED)
    return finished


def _like(entry: ZipInfo, name: str) -> ZipInfo:
    """Return an entry of the same date and permissions."""
    other = ZipInfo(name, entry.date_time)
    other.external_attr = entry.external_attr
    return other


def _line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


if __name__ == "__main__":
    print(finish(Path(sys.argv[1]), Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]]))
