"""The examples of the pages on Python run, and give what the pages say."""

import doctest
import shutil
from pathlib import Path

import pytest

import fake_cuda
import fake_tensorrt
from iqa_run import run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Stand in a folder with the photographs of the examples."""
    for picture in (ROOT / "examples" / "photographs").glob("*.jpg"):
        shutil.copy(picture, tmp_path)
    monkeypatch.chdir(tmp_path)


def attempted(page):
    """Run the examples of a page; return their number."""
    result = doctest.testfile(str(ROOT / "docs" / page), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    return result.attempted


@pytest.mark.usefixtures("photographs")
def test_every_example_of_tables_gives_what_the_page_says():
    assert run("edge", "drum.jpg", "stream.jpg", "stream_jpeg_3.jpg", "--output", "scores.parquet").exit_code == 0
    assert attempted("tables.md") > 10


@pytest.mark.slow
@pytest.mark.usefixtures("photographs")
@pytest.mark.filterwarnings("ignore:.*ranges are surer:UserWarning")
def test_every_example_gives_what_the_page_says(monkeypatch):
    fake_tensorrt.install(monkeypatch)  # engines are built on a GPU
    fake_cuda.install(monkeypatch)
    assert attempted("python.md") > 20
