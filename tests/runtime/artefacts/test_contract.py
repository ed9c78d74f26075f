"""The contract: JSON there and back, in and out of ONNX, every way to be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqa_runtime import ArtefactError, FileError, read_contract
from iqa_runtime.artefacts.contract_json import contract_from_json, contract_to_json
from iqa_runtime.commands.check import describe_contract
from iqa_runtime.contract import METADATA_KEY, FileDigest, MapOutput


def test_there_and_back(artefacts: Any) -> None:
    contract = artefacts.contract(
        options={"segment": "joint"},
        maps=(MapOutput(name="quality_map", rows=7, columns=7),),
        reference_encoder=FileDigest(file="x.reference.onnx", sha256="ab"),
        gate={"srcc": 0.99},
        gmac=4.4,
    )
    assert contract_from_json(contract_to_json(contract)) == contract
    assert contract_to_json(contract_from_json(contract_to_json(contract))) == contract_to_json(contract)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int8-weights"])
def test_every_precision_goes_there_and_back(artefacts: Any, precision: str) -> None:
    contract = artefacts.contract(precision=precision, calibration={"seed": 0}, gate={"skipped": True})
    assert contract_from_json(contract_to_json(contract)) == contract


def test_the_number_of_multiply_accumulates_is_optional_and_listed(artefacts: Any) -> None:
    fields = json.loads(contract_to_json(artefacts.contract()))
    del fields["gmac"]
    before = contract_from_json(json.dumps(fields))
    assert before.gmac is None
    assert "gmac" not in describe_contract(before)
    assert describe_contract(artefacts.contract(gmac=4.4))["gmac"] == "4.4"


def test_out_of_an_artefact(artefacts: Any) -> None:
    contract = read_contract(artefacts.packed(per_item=4))
    assert contract == artefacts.contract(inputs=contract.inputs, patch_plan=contract.patch_plan)
    assert contract.crops_per_item == 4
    assert not contract.needs_reference
    assert read_contract(artefacts.difference()).needs_reference


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda fields: fields.pop("score"), "score"),
        (lambda fields: fields["patch_plan"].update(kind="six"), r"\$\.patch_plan\.kind"),
        (lambda fields: fields["patch_plan"].update(size="224"), r"\$\.patch_plan\.size"),
        (lambda fields: fields.update(task="ranking"), r"\$\.task"),
        (lambda fields: fields.update(precision="int4"), r"\$\.precision"),
        (lambda fields: fields["inputs"][0].update(name="picture"), "no input called 'image'"),
        (lambda fields: fields.update(schema=99), "schema 99"),
        (lambda fields: fields.pop("schema"), "schema"),
        (lambda fields: fields["inputs"].append(fields["inputs"][0]), r"two inputs of one name - at `\$\.inputs`"),
        *(
            (lambda fields, shape=shape: fields["inputs"][0].update(shape=shape), r"at `\$\.inputs\[0\]\.shape`")
            for shape in (
                [],
                ["batch"],
                [1, 3, 32, 32],
                ["batch", 3, "height", 32],
                ["batch", 3, 0, 32],
                ["batch", 3, -32, 32],
                ["batch", 3, 10**30, 32],
                ["batch", 4, 3, 32, 32],
            )
        ),
        (lambda fields: fields["inputs"][0].update(std=[1, 0, 1]), r"above zero - at `\$\.inputs\[0\]\.std`"),
        (lambda fields: fields["score"].update(low=5, high=1), r"low is 5 and high 1, not a range - at `\$\.score`"),
        (lambda fields: fields["score"].update(low=1, high=1), "not a range"),
        *(
            (lambda fields, gmac=gmac: fields.update(gmac=gmac), rf"{gmac} is no number .* at `\$\.gmac`")
            for gmac in (0, -4.5)
        ),
        (lambda fields: fields.update(gmac="4.5"), r"\$\.gmac"),
        (lambda fields: fields.update(maps=[{"name": "quality_map", "rows": 0, "columns": 7}]), r"\$\.maps\[0\]"),
        (lambda fields: fields.update(extras=[{"name": "restored", "shape": []}]), r"\$\.extras\[0\]\.shape"),
        *(
            (lambda fields, size=size: fields["options"].update(baked_height=size), r"\$\.options\.baked_height")
            for size in ("y", "", "-3", "0", "1.5", "²", "9" * 30, str(2**20 + 1))
        ),
        (lambda fields: fields["options"].update(baked_height="99999", baked_width="99999"), "more than any image"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(artefacts: Any, change: Any, complaint: str) -> None:
    fields = json.loads(contract_to_json(artefacts.contract()))
    change(fields)
    with pytest.raises(ArtefactError, match=complaint) as caught:
        contract_from_json(json.dumps(fields), source="some.onnx")
    assert str(caught.value).startswith("some.onnx: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff"])
def test_what_is_no_contract_at_all(text: str | bytes) -> None:
    with pytest.raises(ArtefactError, match="export the model again"):
        contract_from_json(text)


def test_files_that_are_no_artefacts(artefacts: Any, tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    model = onnx.load(artefacts.mean())
    del model.metadata_props[:]
    onnx.save(model, plain)
    with pytest.raises(ArtefactError, match="without a contract"):
        read_contract(plain)
    for name, content in {"empty": b"", "text": b"no protobuf, really", "zeros": bytes(100)}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match="not an ONNX file"):
            read_contract(path)
    for path in (tmp_path, tmp_path / "missing.onnx"):
        with pytest.raises(FileError, match="cannot read"):
            read_contract(path)


def test_a_reference_encoder_alone_is_named_with_its_artefact(artefacts: Any) -> None:
    encoder = artefacts.cached("photo").with_name("photo.reference.onnx")
    with pytest.raises(
        ArtefactError, match=r"photo\.reference\.onnx: the reference encoder of photo\.onnx.*give photo"
    ):
        read_contract(encoder)


def test_a_cut_file_is_no_artefact_wherever_it_is_cut(artefacts: Any, tmp_path: Path) -> None:
    content = artefacts.mean().read_bytes()
    path = tmp_path / "cut.onnx"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ArtefactError):
            read_contract(path)


# No deadline: the first example writes the file, and a busy machine may take any time.
@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 255))
def test_a_damaged_file_is_an_error_of_ours_or_a_contract(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    path = _sound_file(tmp_path_factory)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    damaged = path.with_name("damaged.onnx")
    damaged.write_bytes(content)
    try:
        contract = read_contract(damaged)
    except ArtefactError:
        return
    assert contract.input("image") is not None


def _sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of the same structure without a heavy graph, once."""
    path = tmp_path_factory.getbasetemp() / "sound.onnx"
    if not path.exists():
        contract = (
            '{"model":"m","variant":"v","task":"nr","options":{},"precision":"fp32","target":"any","opset":20,'
            '"inputs":[{"name":"image","shape":["batch",3,8,8]}],"plan":{"kind":"five","size":8},"pooling":"mean",'
            '"score":{"low":0,"high":1,"higher_is_better":true,"bounded":true,"scale":"s"},"weights":{"file":"f",'
            '"sha256":"0","trained":true,"licence":"l","trained_on":"t"},"faithful":"f","exporter":"e","schema":1}'
        )
        model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
        onnx.helper.set_model_props(model, {METADATA_KEY: contract})
        onnx.save(model, path)
    return path
