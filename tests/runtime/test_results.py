"""The result of one image: row, text, equality."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from iqa_runtime import ImageError, Score

GOOD = Score(
    path="a/photo.jpg",
    value=0.73124,
    percentile=12.5,
    range=(0.0, 1.0),
    higher_is_better=True,
    trained=True,
    width=640,
    height=480,
    color="Display P3 -> sRGB",
    patches=2,
    patch_scores=(0.7, 0.76248),
    milliseconds=12.34567,
    artefact="3f2a9c01d47e:five",
)
BAD = Score(
    path="b.jpg",
    value=None,
    range=(1.0, 5.0),
    higher_is_better=False,
    trained=True,
    error=ImageError("b.jpg: truncated"),
)


def test_the_row_has_these_keys_in_this_order_and_goes_through_json() -> None:
    assert json.loads(json.dumps(GOOD.row())) == {
        "path": "a/photo.jpg",
        "score": 0.73124,
        "percentile": 12.5,
        "verdict": None,
        "reasons": None,
        "measures": None,
        "group": None,
        "rank": None,
        "range": [0.0, 1.0],
        "direction": "higher",
        "width": 640,
        "height": 480,
        "color": "Display P3 -> sRGB",
        "patches": 2,
        "milliseconds": 12.346,
        "artefact": "3f2a9c01d47e:five",
        "error": None,
    }
    assert " ".join(GOOD.row()) == (
        "path score percentile verdict reasons measures group rank range direction width height color patches "
        "milliseconds artefact error"
    )


def test_reasons_are_what_is_likely_the_likeliest_first() -> None:
    named = replace(GOOD, distortions={"none": 0.1, "blur": 0.5, "noise": 0.49, "color": 0.9})
    assert named.reasons == ("color", "blur")
    assert named.row()["reasons"] == ["color", "blur"]
    assert replace(GOOD, distortions={"none": 0.2}).row()["reasons"] == []
    assert replace(GOOD, distortions={"none": 0.9}).reasons == ("none",)
    assert replace(GOOD, distortions={"none": 0.9, "blur": 0.6}).reasons == ("blur",)
    assert BAD.reasons is None
    assert named != GOOD
    assert hash(named) == hash(replace(named))


def test_a_row_without_a_score_has_the_reason() -> None:
    row = BAD.row()
    assert row["score"] is None
    assert row["error"] == "b.jpg: truncated"
    assert (row["width"], row["height"], row["color"], row["patches"]) == (None, None, None, 0)
    assert row["direction"] == "lower"


def test_text_says_range_direction_and_whether_it_means_anything() -> None:
    assert str(GOOD) == "a/photo.jpg: 0.7312 in [0, 1], higher is better"
    assert str(replace(GOOD, trained=False, path=None)).startswith(
        "image: 0.7312 in [0, 1], higher is better (untrained"
    )
    assert str(BAD) == "b.jpg: no score: b.jpg: truncated"


def test_time_and_map_are_no_part_of_equality() -> None:
    other = replace(GOOD, milliseconds=1.0, map=np.zeros((2, 2), dtype=np.float32))
    assert other == GOOD
    assert replace(GOOD, value=0.5) != GOOD
