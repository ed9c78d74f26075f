import json
from dataclasses import replace

import numpy as np
import pytest

from iqa_calibration.gate.gate import LIMITS, Extreme, compare
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.jobs.records import CalibrationRecord, gate_to_contract
from iqa_runtime.artefacts.contract_json import contract_from_json, contract_to_json
from tiny_contract import tiny_contract

SIDE = 24


@pytest.fixture
def gate_set(photographs):
    return GateSet.build(tiny_contract(SIDE), [photographs / "texture0.png"])


def record(**changes):
    fields = {"photographs": 3, "renditions": 3, "items_per_rendition": 4, "seed": 1, "digest": "ab", "method": "mse"}
    kept = {"kept_float": {"node": "as asked"}, "attention": None}
    return CalibrationRecord(**(fields | {"converted": 2} | kept | changes))


def test_what_does_not_apply_is_left_out():
    assert record().to_contract() == {
        "photographs": 3,
        "renditions": 3,
        "items_per_rendition": 4,
        "seed": 1,
        "digest": "ab",
        "method": "mse",
        "converted": 2,
        "kept_float": {"node": "as asked"},
    }
    assert record(attention="refused").to_contract()["attention"] == "refused"


@pytest.mark.parametrize("lost", [False, True])
def test_a_verdict_fits_a_contract_whether_scores_are_finite_or_not(gate_set, lost):
    scores = np.linspace(0, 1, 17)
    candidate = scores * np.nan if lost else scores + np.where(np.arange(17) == 3, 0.01, 0)
    pictures = [Extreme(picture="a black picture", fp32=np.nan, candidate=0.5)]
    verdict = compare(scores, candidate, gate_set, LIMITS["int8"], pictures)
    content = gate_to_contract(verdict, "onnxruntime", 7)
    stored = replace(tiny_contract(SIDE), gate=content, calibration=record().to_contract())
    assert contract_from_json(contract_to_json(stored)).gate == json.loads(json.dumps(content, allow_nan=False))
    assert (content["backend"], content["seed"], content["passed"]) == ("onnxruntime", 7, not lost)
    assert content["limits"] == {"largest": 0.04, "mean": 0.01, "srcc": 0.995, "extreme": 0.4}
    assert content["worst"] == ("texture0.png" if lost else "texture0.png, blur 3")
    assert not {"extremes", "fp32_scores", "candidate_scores", "trained"} & content.keys()


def test_no_verdict_is_said_to_be_none():
    assert gate_to_contract(None, "onnxruntime", 0) == {"skipped": True}
