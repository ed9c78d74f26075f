"""The examples of docs/python.md run, and give what the page says."""

import doctest
import shutil
from pathlib import Path

import pytest

import fake_cuda
import fake_tensorrt

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Stand in a folder with the photographs of the examples."""
    for picture in (ROOT / "examples" / "photographs").glob("*.jpg"):
        shutil.copy(picture, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("photographs")
@pytest.mark.filterwarnings("ignore:.*ranges are surer:UserWarning")
def test_every_example_gives_what_the_page_says(monkeypatch):
    fake_tensorrt.install(monkeypatch)  # engines are built on a GPU
    fake_cuda.install(monkeypatch)
    result = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0
