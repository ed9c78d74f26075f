"""Scoring apart: an image that kills the process is named, and costs no other its score."""

from functools import partial

import cv2
import numpy as np
import pytest

from iqa_runtime import Score
from iqa_serving.ray_data.items import Item, ItemScorer
from iqa_serving.ray_data.recovery import ScorerApart
from lethal_backend import MARK, LethalBackend


def flat(value):
    return cv2.imencode(".png", np.full((30, 30, 3), value, np.uint8))[1].tobytes()


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_named_and_the_others_have_scores(artefact, tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    make = partial(
        ItemScorer,
        artefact(),
        folder="",
        compared=False,
        fetch_bytes=1,
        fetch_timeout=1.0,
        backend=LethalBackend,
        threads=1,
    )
    items = [Item("a", flat(10)), Item("white", flat(255)), Item("b", flat(20))]
    apart = ScorerApart(make)
    try:
        scored = list(apart.score(items))
        assert [score.path for score in apart.score(items[:1])] == ["a"]
    finally:
        apart.close()
    assert [isinstance(each, Score) for each in scored] == [True, False, True]
    assert scored[1].name == "white"
    assert "it ended the process that scored it" in scored[1].error
    expected = [score.value for score in make().score([items[0], items[2]])]
    assert [scored[0].value, scored[2].value] == expected
