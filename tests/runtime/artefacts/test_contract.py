"""The contract: JSON there and back, in and out of ONNX, damaged, exchanged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime import ArtefactError, FileError, Scorer, UsageError, read_contract
from iqa_runtime.artefacts.contract_json import contract_from_json, contract_to_json
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.check import describe
from iqa_runtime.contract import METADATA_KEY, BakedReference, MapOutput, PatchPlan


def test_there_and_back(artefacts: Any) -> None:
    contract = artefacts.contract(
        options={"segment": "joint"},
        maps=(MapOutput(name="quality_map", rows=7, columns=7),),
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
    assert "gmac" not in describe(before)
    assert describe(artefacts.contract(gmac=4.4))["gmac"] == "4.4"


def test_out_of_an_artefact(artefacts: Any) -> None:
    contract = read_contract(artefacts.packed(per_item=4))
    assert replace(contract, sha256="") == artefacts.contract(inputs=contract.inputs, patch_plan=contract.patch_plan)
    assert contract.crops_per_item == 4
    assert not contract.needs_reference
    assert read_contract(artefacts.difference()).needs_reference


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
def test_a_damaged_file_of_schema_1_is_an_error_of_ours_or_a_contract(
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
        model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
        onnx.helper.set_model_props(model, {METADATA_KEY: SCHEMA_1})
        onnx.save(model, path)
    return path


SCHEMA_1 = (
    '{"model":"m","variant":"v","task":"fr","options":{"segment":"joint","baked_width":"80","baked_height":"64"},'
    '"precision":"fp32","target":"any","opset":20,'
    '"inputs":[{"name":"image","shape":["batch",5,3,8,8],"layout":"NPCHW"}],"plan":{"kind":"five","size":8},'
    '"pooling":"mean","score":{"low":0,"high":1,"higher_is_better":true,"bounded":true,"scale":"s"},'
    '"weights":{"file":"f","sha256":"0","trained":true,"licence":"l","trained_on":"t"},'
    '"baked_reference":{"file":"clean.png","sha256":"1"},"faithful":"f","exporter":"e","schema":1}'
)


def test_schema_1_is_read_and_brought_up() -> None:
    contract = contract_from_json(SCHEMA_1)
    assert contract.schema == 2
    assert contract.patch_plan == PatchPlan(kind="five", size=8)
    assert contract.baked_reference == BakedReference(file="clean.png", sha256="1", width=80, height=64)
    assert contract.options == {"segment": "joint"}
    assert contract.image_size == (64, 80)
    assert contract_from_json(contract_to_json(contract)) == contract


@pytest.mark.parametrize("size", ["y", "", "-3", "0", "1.5", "²", "9" * 30, str(2**20 + 1)])
def test_sizes_that_schema_1_had_as_text_are_checked(size: str) -> None:
    with pytest.raises(ArtefactError, match=r"at `\$\.baked_reference"):
        contract_from_json(SCHEMA_1.replace('"64"', json.dumps(size)))


def test_any_changed_byte_of_an_artefact_is_found(artefacts: Any, tmp_path: Path) -> None:
    """Graph, contract, digest: there is no byte whose change goes unnoticed."""
    content = artefacts.mean().read_bytes()
    path = tmp_path / "changed.onnx"
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ArtefactError):
            open_artefact(path)


def test_calling_it_schema_1_does_not_help(artefacts: Any, tmp_path: Path) -> None:
    """Contracts of schema 1 have no digest; one of schema 2 cannot pass for one."""
    content = artefacts.mean().read_bytes()
    assert content.count(b'"schema":2') == 1
    for changed in (b'"schema":1', b'"schema":2,"schema":1'):
        path = tmp_path / "older.onnx"
        path.write_bytes(content.replace(b'"schema":2', changed))
        with pytest.raises(ArtefactError):
            open_artefact(path)


def test_the_order_of_fields_counts(artefacts: Any, tmp_path: Path) -> None:
    """Protobuf reads fields in any order; an artefact is its bytes."""
    model = onnx.load(artefacts.mean())
    parts = [onnx.ModelProto(), onnx.ModelProto()]
    parts[0].CopyFrom(model)
    parts[0].ClearField("metadata_props")
    parts[1].metadata_props.extend(model.metadata_props)
    path = tmp_path / "reordered.onnx"
    path.write_bytes(parts[1].SerializeToString() + parts[0].SerializeToString())
    assert onnx.load(path) == model
    with pytest.raises(ArtefactError, match="changed or damaged"):
        open_artefact(path)


def test_the_digest_stands_in_one_place(artefacts: Any, tmp_path: Path) -> None:
    path = artefacts.mean()
    contract, model = read_contract(path), onnx.load(path)
    model.doc_string = contract.sha256
    (tmp_path / "twice.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="changed or damaged"):
        open_artefact(tmp_path / "twice.onnx")


def test_a_digest_cannot_be_left_out(artefacts: Any, tmp_path: Path) -> None:
    model = onnx.load(artefacts.mean())
    contract = replace(read_contract(artefacts.mean()), sha256="")
    onnx.helper.set_model_props(model, {METADATA_KEY: contract_to_json(contract)})
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ArtefactError, match="changed or damaged"):
        read_contract(tmp_path / "bare.onnx")


def test_bytes_that_run_are_the_bytes_that_were_read(artefacts: Any) -> None:
    path, other = artefacts.mean(), artefacts.first_channel()
    artefact = open_artefact(path)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    assert artefact.graph.take() == content
    assert artefact.graph.sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(ArtefactError, match="exchanged for another file since it was opened"):
        artefact.graph.take()
    path.write_bytes(content)
    assert artefact.graph.take() == content


def test_the_scorer_runs_what_was_opened(artefacts: Any) -> None:
    path, other = artefacts.mean(), artefacts.first_channel()
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[..., 0] = 255
    artefact = open_artefact(path)
    path.write_bytes(other.read_bytes())
    with Scorer(artefact, threads=1) as scorer:
        assert scorer.score(picture).value == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="open already; give ``trust`` where it is opened"):
        Scorer(artefact, trust="key.pem")


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
def test_weights_in_another_file_are_refused(artefacts: Any, where: str) -> None:
    path = artefacts.mean()
    contract, model = read_contract(path), onnx.load(path)
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "elsewhere")
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    if where == "initializer":
        model.graph.initializer.append(tensor)
    else:
        node = onnx.helper.make_node("Constant", [], ["constant"], value=tensor)
        if where == "subgraph":
            branch = onnx.helper.make_graph([node], "branch", [], [])
            node = onnx.helper.make_node("If", ["image"], ["chosen"], then_branch=branch, else_branch=branch)
        model.graph.node.append(node)
    embed_contract(model, contract)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="its weights lie in another file"):
        open_artefact(path)


def test_a_tensor_may_be_called_location(artefacts: Any) -> None:
    path = artefacts.mean()
    contract, model = read_contract(path), onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(4, np.float32), "location"))
    embed_contract(model, contract)
    path.write_bytes(model.SerializeToString())
    assert open_artefact(path).contract.model == "tiny"


def test_nesting_without_end_is_an_error_of_ours() -> None:
    with pytest.raises(ArtefactError, match="nested too deeply"):
        contract_from_json('{"schema":2,"gate":' + "[" * 100_000)


def test_half_a_surrogate_pair_is_an_error_of_ours(artefacts: Any) -> None:
    text = contract_to_json(artefacts.contract())
    with pytest.raises(ArtefactError, match="surrogate"):
        contract_from_json(text.replace("tiny", "\ud800", 1))
