"""tools/finish_wheel.py: what says where a wheel's parts come from gets into it, and RECORD lists it."""

import base64
import csv
import json
from hashlib import sha256
from zipfile import ZipFile

import pytest

from finish_wheel import SBOM, finish

LIBRARY = "iqa_deploy.libs/libjpeg-0123abcd.so.62.3.0"
ABOUT = "iqa_deploy-1.2.3.dist-info/"
METADATA = (
    "Metadata-Version: 2.4\nName: iqa-deploy\nVersion: 1.2.3\nSummary: A package\nLicense-Expression: Apache-2.0\n"
)


@pytest.fixture
def wheel(tmp_path):
    def pack(**more):
        path = tmp_path / "iqa_deploy-1.2.3-cp311-abi3-any.whl"
        contents = {
            "iqa_runtime/__init__.py": b"",
            "iqa_runtime/_kernels.abi3.so": b"machine code",
            ABOUT + "METADATA": METADATA.encode(),
            **more,
            ABOUT + "RECORD": b"iqa_runtime/__init__.py,,\n",
        }
        with ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path

    return pack


@pytest.fixture
def licence(tmp_path):
    path = tmp_path / "libjpeg-turbo" / "LICENSE.md"
    path.parent.mkdir()
    path.write_text("do as you like")
    return path


def test_bill_and_licences_lie_in_the_wheel_and_are_recorded(wheel, licence, tmp_path):
    library = b"\x7fELF libjpeg-turbo version 3.1.4 (build 1)"
    finished = finish(wheel(**{LIBRARY: library}), tmp_path / "out", [licence])
    assert finished == tmp_path / "out" / "iqa_deploy-1.2.3-cp311-abi3-any.whl"
    with ZipFile(finished) as archive:
        recorded = {row[0]: row[1:] for row in csv.reader(archive.read(ABOUT + "RECORD").decode().splitlines())}
        for name in (ABOUT + SBOM, ABOUT + "licenses/libjpeg-turbo/LICENSE.md"):
            content = archive.read(name)
            digest = base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
            assert recorded[name] == [f"sha256={digest}", str(len(content))]
        bill = json.loads(archive.read(ABOUT + SBOM))
        assert archive.namelist()[-1] == ABOUT + "RECORD"
    assert "hashes" not in bill["metadata"]["component"]
    [turbo] = [part for part in bill["components"] if part["name"] == LIBRARY]
    assert turbo["version"] == "3.1.4"
    assert turbo["purl"] == "pkg:generic/libjpeg-turbo@3.1.4"
    assert turbo["licenses"] == [{"expression": "IJG AND BSD-3-Clause AND Zlib"}]


def test_the_same_wheel_gives_the_same_bytes(wheel, tmp_path):
    source = wheel()
    first, second = finish(source, tmp_path / "a"), finish(source, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_a_library_needs_a_licence(wheel, licence, tmp_path):
    with pytest.raises(ValueError, match="give the licences"):
        finish(wheel(**{LIBRARY: b"libjpeg-turbo version 3.1.4"}), tmp_path / "out")
    with pytest.raises(ValueError, match="none where there are none"):
        finish(wheel(), tmp_path / "out", [licence])


def test_another_libjpeg_is_refused(wheel, licence, tmp_path):
    with pytest.raises(ValueError, match="not libjpeg-turbo"):
        finish(wheel(**{LIBRARY: b"libjpeg 9f"}), tmp_path / "out", [licence])
