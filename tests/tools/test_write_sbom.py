"""tools/write_sbom.py: what a wheel brings with it is listed, with digest and licence, and nothing is left out."""

import json
from hashlib import sha256
from zipfile import ZipFile

import pytest
from onnx import TensorProto, helper

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime.contract import Weights
from tiny_contract import tiny_contract
from write_sbom import bill_of_materials, main

METADATA = """Metadata-Version: 2.4
Name: iqa-deploy
Version: 1.2.3
Summary: A package
License-Expression: Apache-2.0
"""
LICENCES = """| file | size | made from | author | licence | changes |
| --- | --- | --- | --- | --- | --- |
| `fig.jpg` | 480 x 325 | `figs.jpg` | A. Nyone | [CC BY-SA 4.0] | resized |
"""


def network():
    """Return an artefact of no node."""
    value = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    model = helper.make_model(helper.make_graph([], "g", [], [value]))
    weights = Weights(file="w.pth", sha256="0" * 64, trained=True, licence="CC0-1.0", trained_on="nothing")
    embed_contract(model, tiny_contract(32, weights=weights))
    return model.SerializeToString()


@pytest.fixture
def contents():
    return {
        "iqa_runtime/__init__.py": b"",
        "iqa_runtime/py.typed": b"",
        "iqa_runtime/_kernels.cpython-311-x86_64-linux-gnu.so": b"machine code",
        "iqa_runtime/_jpeg_bands.cpython-311-x86_64-linux-gnu.so": b"more machine code",
        "iqa_runtime/models/tiny.onnx": network(),
        "iqa_runtime/models/tiny.reference.onnx": b"half of it",
        "iqa_calibration/photographs/fig.jpg": b"pixels",
        "iqa_calibration/photographs/LICENCES.md": LICENCES.encode(),
        "iqa_deploy-1.2.3.dist-info/METADATA": METADATA.encode(),
        "iqa_deploy-1.2.3.dist-info/RECORD": b"",
    }


@pytest.fixture
def pack(tmp_path):
    def pack(contents):
        wheel = tmp_path / "iqa_deploy-1.2.3-py3-none-any.whl"
        with ZipFile(wheel, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return wheel

    return pack


def test_kernels_networks_and_photographs_are_listed_with_digest_and_licence(contents, pack):
    wheel = pack(contents)
    found = bill_of_materials(wheel)
    about = found["metadata"]["component"]
    assert (about["name"], about["version"], about["purl"]) == ("iqa-deploy", "1.2.3", "pkg:pypi/iqa-deploy@1.2.3")
    assert about["hashes"] == [{"alg": "SHA-256", "content": sha256(wheel.read_bytes()).hexdigest()}]
    expected = {
        "iqa_runtime/_kernels.cpython-311-x86_64-linux-gnu.so": ("library", {"id": "Apache-2.0"}),
        "iqa_runtime/_jpeg_bands.cpython-311-x86_64-linux-gnu.so": ("library", {"id": "Apache-2.0"}),
        "iqa_runtime/models/tiny.onnx": ("machine-learning-model", {"name": "CC0-1.0"}),
        "iqa_runtime/models/tiny.reference.onnx": ("machine-learning-model", {"name": "CC0-1.0"}),
        "iqa_calibration/photographs/fig.jpg": ("data", {"id": "CC-BY-SA-4.0"}),
    }
    components = {component["name"]: component for component in found["components"]}
    assert components.keys() == expected.keys()
    for name, (kind, licence) in expected.items():
        assert components[name]["type"] == kind
        assert components[name]["licenses"] == [{"license": licence}]
        assert components[name]["hashes"] == [{"alg": "SHA-256", "content": sha256(contents[name]).hexdigest()}]
    assert components["iqa_calibration/photographs/fig.jpg"]["authors"] == [{"name": "A. Nyone"}]
    assert components["iqa_runtime/models/tiny.onnx"]["description"] == "trained on: nothing"
    assert set(found["dependencies"][0]["dependsOn"]) == expected.keys()


def test_the_same_wheel_gives_the_same_bytes(contents, pack, tmp_path):
    wheel = pack(contents)
    written = [tmp_path / "sbom" / name for name in ("one.json", "two.json")]
    for file in written:
        main(str(wheel), str(file))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert json.loads(written[0].read_text())["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize("name", ["iqa_runtime/models/other.bin", "iqa_runtime.libs/libz.so.1"])
def test_a_file_of_which_nothing_is_known_does_not_come_in_unnoticed(contents, pack, name):
    with pytest.raises(ValueError, match="nothing says whose it is"):
        bill_of_materials(pack(contents | {name: b"bytes"}))


def test_a_photograph_without_a_licence_does_not_either(contents, pack):
    with pytest.raises(ValueError, match=r"new\.jpg: not in iqa_calibration/photographs/LICENCES\.md"):
        bill_of_materials(pack(contents | {"iqa_calibration/photographs/new.jpg": b"pixels"}))
