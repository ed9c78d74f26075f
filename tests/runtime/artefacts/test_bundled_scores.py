"""The bundled models score the example photographs as they did before: a change of a bit is a change that was meant."""

import json

import pytest

import record_scores

OTHER_HOST = 1e-5
"""Other processors add up in another order; twice the largest difference that parity has seen between two of them."""


def test_scores_are_those_on_record():
    record = json.loads(record_scores.RECORD.read_text(encoding="utf-8"))
    expected = {key: [float.fromhex(value) for value in values] for key, values in record["scores"].items()}
    scores = record_scores.scores()
    assert scores.keys() == expected.keys()
    assert len(expected) > 20
    if record["host"] == record_scores.host():
        assert scores == expected
    else:
        for key, values in expected.items():
            assert scores[key] == pytest.approx(values, abs=OTHER_HOST), key
