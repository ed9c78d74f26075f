"""Say what a wheel brings with it, as a CycloneDX document: ``python tools/write_sbom.py WHEEL BOM.json``.

Kernels, trained networks and photographs, each with its SHA-256 and the licence that it names itself; what the wheel
depends on is in no wheel and so not here. The same wheel gives the same bytes. https://cyclonedx.org/docs/1.6/json
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.artefacts.onnx_metadata import read_metadata
from iqa_runtime.contract import METADATA_KEY

CODE = (".py", ".pyi", ".j2", ".html", ".css", ".js", ".md", "py.typed")
"""Endings of what is text of the package itself, under its own licence, and not listed file by file."""

LIBRARIES = "iqa_deploy.libs/"
"""Where auditwheel copies what extensions are linked with."""

_TURBO_VERSION = re.compile(rb"libjpeg-turbo version ([0-9.]+)")
_PHOTOGRAPH = re.compile(
    r"^\| `(?P<file>[^`]+)` \|[^|]*\|(?P<source>[^|]*)\|(?P<author>[^|]*)\| \[(?P<licence>[^]]+)\]", re.MULTILINE
)
"""A row of LICENCES.md."""


def bill_of_materials(wheel: Path, *, inside: bool = False) -> dict[str, Any]:
    """Describe a wheel.

    Parameters
    ----------
    wheel
        Its file.
    inside
        Whether the document will lie in the wheel, whose digest it then cannot tell.

    Returns
    -------
    dict
        A CycloneDX 1.6 document.

    Raises
    ------
    ValueError
        If something lies in it whose licence nothing says, so that no file comes in unnoticed.
    """
    digest = sha256(wheel.read_bytes()).hexdigest()
    hashes = {} if inside else {"hashes": [{"alg": "SHA-256", "content": digest}]}
    with ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = message_from_bytes(archive.read(metadata))
        components = list(_components(archive, about))
    package = f"pkg:pypi/{about['Name']}@{about['Version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{package}#{digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": package,
                "purl": package,
                "name": about["Name"],
                "version": about["Version"],
                "description": about["Summary"],
                "licenses": [{"license": {"id": about["License-Expression"]}}],
                **hashes,
            }
        },
        "components": components,
        "dependencies": [{"ref": package, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _components(archive: ZipFile, about: Message) -> Iterator[dict[str, Any]]:
    for name in sorted(archive.namelist()):
        if name.endswith(("/", *CODE)) or ".dist-info/" in name:
            continue
        content = archive.read(name)
        if name.startswith("iqa_runtime/_kernels."):
            what = {
                "type": "library",
                "licenses": [{"license": {"id": about["License-Expression"]}}],
                "description": "compiled from csrc/ with the support code that Cython writes; holds no other library",
            }
        elif name.startswith("iqa_runtime/_jpeg_bands."):
            what = {
                "type": "library",
                "licenses": [{"license": {"id": about["License-Expression"]}}],
                "description": "compiled from csrc/jpeg/ as the kernels are; needs libjpeg-turbo",
            }
        elif name.startswith(LIBRARIES) and "jpeg" in name:
            what = {"type": "library", **_libjpeg_turbo(content, name)}
        elif name.endswith(".onnx"):
            # An encoder of references is half of the artefact beside it, whose contract speaks for both.
            whole = name.replace(".reference.onnx", ".onnx")
            weights = contract_from_json(read_metadata(archive.read(whole))[METADATA_KEY], source=whole).weights
            what = _network(weights.licence, weights.trained_on)
        elif name.endswith(".jpg"):
            what = _photograph(archive, name)
        else:
            raise ValueError(f"{name}: nothing says whose it is; teach tools/write_sbom.py about such files")
        yield {
            "bom-ref": name,
            "name": name,
            "version": about["Version"],
            "hashes": [{"alg": "SHA-256", "content": sha256(content).hexdigest()}],
            **what,
        }


def _libjpeg_turbo(content: bytes, name: str) -> dict[str, Any]:
    version = _TURBO_VERSION.search(content)
    if version is None:
        raise ValueError(f"{name}: not libjpeg-turbo; the wheel was linked with another libjpeg")
    number = version[1].decode()
    return {
        "version": number,
        "purl": f"pkg:generic/libjpeg-turbo@{number}",
        "licenses": [{"expression": "IJG AND BSD-3-Clause AND Zlib"}],
        "description": "libjpeg-turbo, copied from where the wheel was built",
    }


def _network(licence: str, trained_on: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "licenses": [{"license": {"name": licence}}],
        "description": f"trained on: {trained_on}",
    }


def _photograph(archive: ZipFile, name: str) -> dict[str, Any]:
    folder, _, file = name.rpartition("/")
    table = archive.read(f"{folder}/LICENCES.md").decode()
    for row in _PHOTOGRAPH.finditer(table):
        if row["file"] == file:
            return {
                "type": "data",
                "authors": [{"name": row["author"].strip()}],
                # "CC BY 4.0" is CC-BY-4.0 in SPDX's list.
                "licenses": [{"license": {"id": row["licence"].replace(" ", "-")}}],
                "description": f"photograph, made from {row['source'].strip().strip('`')}",
            }
    raise ValueError(f"{name}: not in {folder}/LICENCES.md; write down who made it and under which licence")


def main(wheel: str, output: str) -> None:
    """Write the document."""
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bill_of_materials(Path(wheel)), indent=1, ensure_ascii=False) + "\n"
    Path(output).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
