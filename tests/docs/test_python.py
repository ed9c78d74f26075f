"""Every example in Python of every page runs, and gives what the page says."""

import doctest
import re
import shutil
from pathlib import Path

import pytest

import fake_cuda
import fake_tensorrt
from iqa_run import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")]
DOCTESTS = {"docs/python.md", "docs/tables.md"}
BLOCKS = {"README.md", "docs/kernels.md", "docs/models/dri.md"}
ELSEWHERE = {"docs/bring-your-network.md": "test_bring_your_network.py"}


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Stand in a folder with the photographs of the examples."""
    for picture in (ROOT / "examples" / "photographs").glob("*.jpg"):
        shutil.copy(picture, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page):
    """Return the blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_no_page_has_examples_that_are_not_run():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
    assert {page for page, text in texts.items() if re.search(r"^ *>>> ", text, re.MULTILINE)} == DOCTESTS
    assert {page for page in texts if blocks(page)} == BLOCKS | set(ELSEWHERE)
    assert all("iqa_export.export(" in blocks(page)[0] for page in ELSEWHERE)


@pytest.mark.parametrize(
    "page",
    [page if page == "docs/kernels.md" else pytest.param(page, marks=pytest.mark.slow) for page in sorted(BLOCKS)],
)
def test_the_blocks_of_a_page_run_one_after_the_other(page, photographs, capsys):
    for shown, name in (("photo", "stream"), ("a", "drum"), ("b", "brushes")):
        shutil.copy(ROOT / "examples" / "photographs" / f"{name}.jpg", photographs / f"{shown}.jpg")
    names = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert "error" not in capsys.readouterr().out


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
