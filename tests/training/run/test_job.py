"""What a run trains on: never the part that iqa-eval judges on."""

import cv2
import numpy as np

from iqa_training.configuration import RunConfig
from iqa_training.datasets import read_dataset, select
from iqa_training.run.job import _read


def test_the_test_part_is_left_for_evaluation(tmp_path):
    rows = ["distorted,reference,mos"]
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((40, 40, 3), 12 * index, np.uint8))
        rows.append(f"{index}.png,,{index / 19}")
    (tmp_path / "mos.csv").write_text("\n".join(rows))
    settings = RunConfig(dataset="csv", part="train", part_seed=3, validation=0.25)
    sources, _ = _read(settings, tmp_path, tmp_path / "cache", 1, lambda *_: None)
    seen = {source.item(index).content for source in sources for index in range(len(source))}
    judged = {sample.content for sample in select(read_dataset("csv", tmp_path), "test", seed=3).samples}
    assert [len(source) for source in sources] == [12, 4]
    assert len(judged) == 4
    assert not seen & judged
