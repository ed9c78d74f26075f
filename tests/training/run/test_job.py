"""What a run trains on: never the part that iqa-eval judges on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from iqa_training.configuration import RunConfig
from iqa_training.datasets import read_dataset, select
from iqa_training.run.job import _read


@pytest.fixture
def twenty_pictures(tmp_path) -> Path:
    rows = ["distorted,reference,mos"]
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((40, 40, 3), 12 * index, np.uint8))
        rows.append(f"{index}.png,,{index / 19}")
    (tmp_path / "mos.csv").write_text("\n".join(rows))
    return tmp_path


def test_the_test_part_is_left_for_evaluation(twenty_pictures):
    settings = RunConfig(dataset="csv", part="train", part_seed=3, validation=0.25)
    sources, _ = _read(settings, twenty_pictures, twenty_pictures / "cache", 1, lambda *_: None)
    seen = {source.item(index).content for source in sources for index in range(len(source))}
    judged = {sample.content for sample in select(read_dataset("csv", twenty_pictures), "test", seed=3).samples}
    assert [len(source) for source in sources] == [12, 4]
    assert len(judged) == 4
    assert not seen & judged


def test_without_a_share_for_validation_all_are_trained_on(twenty_pictures):
    settings = RunConfig(dataset="csv", part="all", validation=0.0)
    sources, described = _read(settings, twenty_pictures, twenty_pictures / "cache", 1, lambda *_: None)
    assert len(sources[0]) == 20
    assert sources[1] is None
    assert described.endswith("20 pictures of part all")
