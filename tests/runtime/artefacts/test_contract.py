"""The contract: JSON there and back, in and out of ONNX, every way to be wrong."""

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
        (
            lambda fields: fields["inputs"][0].update(std=[1, 0, 1]),
            r"not within 1e-06 .* at `\$\.inputs\[0\]\.std`",
        ),
        (
            lambda fields: fields["score"].update(low=5, high=1),
            r"low is 5\.0 and high 1\.0, .* at `\$\.score`",
        ),
        (lambda fields: fields["score"].update(low=1, high=1), "not a range"),
        *(
            (lambda fields, gmac=gmac: fields.update(gmac=gmac), rf"{gmac} is no number .* at `\$\.gmac`")
            for gmac in (0, -4.5)
        ),
        (lambda fields: fields.update(gmac="4.5"), r"\$\.gmac"),
        (lambda fields: fields.update(maps=[{"name": "quality_map", "rows": 0, "columns": 7}]), r"\$\.maps\[0\]"),
        (lambda fields: fields.update(extras=[{"name": "restored", "shape": []}]), r"\$\.extras\[0\]\.shape"),
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


WHOLE = {"kind": "whole", "size": 0}
SQUARE = {"to": "exact", "size": [32, 32], "filter": "bicubic"}
OWN = ["batch", 3, "height", "width"]


def _pair(fields: dict[str, Any], **reference: Any) -> None:
    """Turn a contract into one of pictures at their own size that are compared with a reference."""
    fields.update(task="fr", patch_plan=WHOLE)
    fields["inputs"][0].update(shape=OWN)
    fields["inputs"].append({**fields["inputs"][0], "name": "reference"} | reference)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields["inputs"][0].update(resize={"to": "shorter", "size": 512, "filter": "lanczos"}),
        lambda fields: fields["inputs"][0].update(resize={"to": "pixels", "size": 250_000, "filter": "box"}),
        lambda fields: (fields.update(patch_plan=WHOLE), fields["inputs"][0].update(resize=SQUARE)),
        lambda fields: (
            fields.update(patch_plan=WHOLE | {"multiple": 32, "fit": "reflect"}),
            fields["inputs"][0].update(shape=["batch", 3, "height", "width"]),
            fields.update(maps=[{"name": "quality_map", "rows": 0, "columns": 0, "cell": 8}]),
        ),
        lambda fields: (
            fields.update(patch_plan={"kind": "whole"}),
            fields["inputs"][0].update(shape=["batch", 3, 24, 32], resize={**SQUARE, "size": [24, 32]}),
            fields.update(extras=[{"name": "restored", "shape": [3, 24, 32]}]),
        ),
        lambda fields: (
            fields.update(patch_plan=WHOLE | {"smallest": 63}),
            fields["inputs"][0].update(shape=OWN, resize={"to": "shorter", "size": 512, "filter": "bicubic"}),
            fields.update(maps=[{"name": "quality_map", "rows": 7, "columns": 7}]),
        ),
        _pair,
        lambda fields: fields.update(patch_plan={"kind": "uniform", "size": 32, "count": 20}),
        lambda fields: fields["score"].update(low=0, high=None, bounded=False),
        lambda fields: fields["score"].update(low=None, high=None, bounded=False),
        lambda fields: fields["score"].update(quantiles={"population": "p", "images": 9, "scores": [0.1, 0.1, 0.9]}),
        lambda fields: fields.update(extras=[{"name": "distortions", "shape": [2], "labels": ["blur", "noise"]}]),
        lambda fields: fields.update(pooling="median"),
        lambda fields: fields["weights"].update(entry="params_ema"),
        lambda fields: fields["inputs"][0].update(color_space="stored", color="BGR"),
    ],
)
def test_what_schema_2_can_say(artefacts: Any, change: Any) -> None:
    fields = json.loads(contract_to_json(artefacts.contract()))
    change(fields)
    contract = contract_from_json(json.dumps(fields))
    assert contract_from_json(contract_to_json(contract)) == contract


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda fields: fields.update(colour="RGB"), r"no such field - at `\$\.colour`"),
        (lambda fields: fields["inputs"][0].update(gamma=2), r"no such field - at `\$\.inputs\[0\]\.gamma`"),
        (lambda fields: fields["score"].update({"low end": 0}), r"no such field - at `\$\.score\['low end'\]`"),
        (lambda fields: fields["weights"].update(licence="a\0b"), r"control characters - at `\$\.weights\.licence`"),
        (lambda fields: fields["options"].update({"a\x1b": "b"}), "control characters"),
        (lambda fields: fields.update(gate={"worst": "\x1b[2J"}), r"at `\$\.gate\.worst`"),
        (lambda fields: fields.update(gate={"worst": "\x9b2J"}), r"at `\$\.gate\.worst`"),
        (lambda fields: fields.update(gate=_nested(40)), r"levels deep - at `\$\.gate\.a\.a"),
        (lambda fields: fields["inputs"][0].update(mean=[1e30, 0, 0]), r"\.mean`"),
        (lambda fields: fields["inputs"][0].update(std=[1e-30, 1, 1]), r"\.std`"),
        (lambda fields: fields["inputs"][0].update(std=[1e300, 1, 1]), r"\.std`"),
        (lambda fields: fields["inputs"][0].update(shape=["batch", 3, 2**20, 2**20]), "more elements than any memory"),
        (lambda fields: fields["score"].update(high=1e300), r"at `\$\.score`"),
        (lambda fields: fields["inputs"].append({**fields["inputs"][0], "name": "foo"}), "no input is called 'foo'"),
        (lambda fields: fields["inputs"][0].update(layout="features"), r"'image' is not 'features'"),
        (lambda fields: fields["inputs"][0].update(shape=["", 3, 32, 32]), r"\.shape`"),
        (lambda fields: fields["inputs"][0].update(shape=["batch", *[1] * 60_000]), "60001 axes"),
        # Their product would have millions of digits.
        (lambda fields: fields.update(extras=[{"name": "d", "shape": [2**62] * 60_000}]), "60001 axes"),
        (
            lambda fields: fields.update(extras=[{"name": "restored", "shape": [5]}]),
            r"restored crops are \[3, 32, 32\]",
        ),
        (
            lambda fields: fields.update(maps=[{"name": "weight_map", "rows": 4, "columns": 4}]),
            "goes with a quality_map",
        ),
        (lambda fields: fields.update(opset=-5), r"at `\$\.opset`"),
        (lambda fields: fields.update(gmac=1e308), r"at `\$\.gmac`"),
        (lambda fields: fields.update(target=""), "need names"),
        (lambda fields: fields["weights"].update(licence="a\nschema  1"), "control characters"),
        (lambda fields: fields["weights"].update(licence="\u202eevil"), "control characters"),
        (lambda fields: fields["score"].update(low=None), r"at `\$\.score\.bounded`"),
        (lambda fields: fields.update(task="fr"), r"'fr' with no reference - at `\$\.task`"),
        (lambda fields: fields["inputs"].append({**fields["inputs"][0], "name": "reference"}), r"at `\$\.task`"),
        (
            lambda fields: (
                fields.update(task="fr"),
                fields["inputs"].append({**fields["inputs"][0], "name": "reference", "color_space": "stored"}),
            ),
            "image is in sRGB, reference in stored",
        ),
        (lambda fields: fields["weights"].update(file="../../etc/passwd"), r"at `\$\.weights\.file`"),
        (lambda fields: fields["inputs"][0].update(resize={**SQUARE, "size": 32}), r"resize\.size`"),
        (lambda fields: fields["inputs"][0].update(resize={**SQUARE, "size": [0, 32]}), r"resize\.size`"),
        (lambda fields: fields["inputs"][0].update(resize={**SQUARE, "filter": "magic"}), r"resize\.filter"),
        (lambda fields: fields["inputs"][0].update(resize={**SQUARE, "when": "shrink"}), r"resize\.when"),
        (lambda fields: fields.update(patch_plan=WHOLE), "resize to exactly that size"),
        (lambda fields: fields["inputs"][0].update(shape=["batch", 3, "height", "width"]), r"\.shape`"),
        (
            lambda fields: (
                fields.update(patch_plan=WHOLE),
                fields["inputs"][0].update(shape=["batch", 3, 32, 48], resize=SQUARE),
            ),
            "resize to exactly that size",
        ),
        (
            lambda fields: (
                fields.update(patch_plan=WHOLE | {"smallest": 8}),
                fields["inputs"][0].update(resize=SQUARE),
            ),
            r"only with them - at `\$\.patch_plan\.smallest`",
        ),
        (lambda fields: fields.update(patch_plan=WHOLE | {"seed": 0}), "no size, count, seed and stride"),
        (lambda fields: _whole(fields, multiple=8), "multiple and fit go together"),
        (lambda fields: _whole(fields, fit="crop"), "multiple and fit go together"),
        (lambda fields: _whole(fields, multiple=0, fit="crop"), r"\$\.patch_plan\.multiple"),
        (lambda fields: _whole(fields, smallest=0), r"\$\.patch_plan\.smallest"),
        (
            lambda fields: (_whole(fields), fields.update(extras=[{"name": "restored", "shape": [3, 32, 32]}])),
            "their own size cannot be restored",
        ),
        (
            lambda fields: (
                fields.update(patch_plan=WHOLE),
                fields["inputs"][0].update(resize=SQUARE),
                fields.update(maps=[{"name": "quality_map", "rows": 0, "columns": 0, "cell": 8}]),
            ),
            "0 x 0 cells",
        ),
        (
            lambda fields: (
                fields.update(patch_plan=WHOLE),
                fields["inputs"][0].update(shape=["batch", 1, 3, 32, 32], layout="NPCHW", resize=SQUARE),
            ),
            "whole pictures are NCHW",
        ),
        (lambda fields: (_pair(fields), fields.update(task="nar")), "no common height and width"),
        (lambda fields: _pair(fields, resize=SQUARE), "resized alike"),
        (lambda fields: _pair(fields, shape=["batch", 3, 32, 32]), r"reference \['batch', 3, 32, 32\]"),
        (
            lambda fields: (
                _whole(fields),
                fields.update(task="fr", baked_reference={"file": "a", "sha256": "", "width": 8, "height": 8}),
            ),
            "not with features of one",
        ),
        (lambda fields: fields.update(extras=[{"name": "score", "shape": [2]}]), "names of their own"),
        (lambda fields: fields.update(extras=[{"name": "d", "shape": [2], "labels": ["one"]}]), r"labels`"),
        *(
            (lambda fields, wrong=wrong: fields.update(extras=[{"name": "distortions"} | wrong]), message)
            for wrong, message in (
                ({"shape": [2]}, "one probability for each"),
                ({"shape": [3, 2], "labels": ["blur", "noise"]}, "one probability for each"),
                ({"shape": [2], "labels": ["blur", "blur"]}, "two of one name"),
                ({"shape": [2], "labels": ["blur", "noise,rain"]}, "without commas"),
                ({"shape": [2], "labels": ["blur", ""]}, "without commas"),
                ({"shape": [2], "labels": ["blur", " noise"]}, "without commas"),
            )
        ),
        (
            lambda fields: fields["score"].update(quantiles={"population": "p", "images": 9, "scores": [0.9, 0.1]}),
            r"quantiles\.scores`",
        ),
    ],
)
def test_what_no_contract_says(artefacts: Any, change: Any, complaint: str) -> None:
    fields = json.loads(contract_to_json(artefacts.contract()))
    change(fields)
    with pytest.raises(ArtefactError, match=complaint):
        contract_from_json(json.dumps(fields))


def test_nesting_without_end_is_an_error_of_ours() -> None:
    with pytest.raises(ArtefactError, match="nested too deeply"):
        contract_from_json('{"schema":2,"gate":' + "[" * 100_000)


def test_half_a_surrogate_pair_is_an_error_of_ours(artefacts: Any) -> None:
    text = contract_to_json(artefacts.contract())
    with pytest.raises(ArtefactError, match="surrogate"):
        contract_from_json(text.replace("tiny", "\ud800", 1))


def _whole(fields: dict[str, Any], **plan: Any) -> None:
    fields.update(patch_plan=WHOLE | plan)
    fields["inputs"][0].update(shape=OWN)


def _nested(depth: int) -> Any:
    return {} if depth == 0 else {"a": _nested(depth - 1)}
