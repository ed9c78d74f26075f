"""What a contract may say and what none says, each thing that is wrong named with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iqa_runtime import ArtefactError
from iqa_runtime.artefacts.contract_json import contract_from_json, contract_to_json

WHOLE = {"kind": "whole", "size": 0}
SQUARE = {"to": "exact", "size": [32, 32], "filter": "bicubic"}
OWN = ["batch", 3, "height", "width"]


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


def _whole(fields: dict[str, Any], **plan: Any) -> None:
    fields.update(patch_plan=WHOLE | plan)
    fields["inputs"][0].update(shape=OWN)


def _nested(depth: int) -> Any:
    return {} if depth == 0 else {"a": _nested(depth - 1)}
