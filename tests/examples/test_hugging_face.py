"""The example of Hugging Face's datasets, where that is installed; it is no dependency of the tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from iqa_run import lines, run

ROOT = Path(__file__).parents[2]
KEPT, POOR = ["drum.jpg", "stream.jpg"], "stream_jpeg_3.jpg"


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "images").mkdir()
    for name in (*KEPT, POOR):
        shutil.copy(ROOT / "examples/photographs" / name, tmp_path / "images")
    (tmp_path / "images/broken.jpg").write_bytes((tmp_path / "images/drum.jpg").read_bytes()[:5000])
    return tmp_path / "images"


def test_good_images_of_a_data_set_are_kept_with_the_scores_of_their_files(folder, tmp_path):
    command = [sys.executable, ROOT / "examples/hugging_face/score_dataset.py", "edge", folder, "kept.parquet", "0.7"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "4 images, 1 without a score, 2 kept" in done.stdout
    kept = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    assert [Path(row["image"]["path"]).name for row in kept] == KEPT
    by_file = {row["path"]: row["score"] for row in lines(run("edge", folder, "--format", "jsonl").stdout)}
    assert [row["score"] for row in kept] == [by_file[str(folder / name)] for name in KEPT]
    again = lines(run("edge", "--from", tmp_path / "kept.parquet", "--format", "jsonl").stdout)
    assert [row["score"] for row in again] == [row["score"] for row in kept]
