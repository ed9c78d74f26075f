"""README: short, and true."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from command_line import invoke
from iqa_runtime.commands import run
from video_files import moving_planes, write_video

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
LONGEST = 150
"""Lines that a newcomer reads before the first score."""


def test_it_is_short():
    assert len(README.splitlines()) <= LONGEST


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_every_command_has_its_line(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[`(iqa-[a-z]+)`\]", text, re.MULTILINE)) == SCRIPTS.keys() - {"iqa"}


COMMANDS = re.findall(r"^    (iqa-run (?!yoto).*?)(?: +#.*)?$", README, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the commands of the page name."""
    monkeypatch.chdir(tmp_path)
    for place, stem in (
        ("photos", "stream_jpeg_3"),
        ("originals", "stream"),
        ("photos", "drum"),
        ("originals", "drum"),
    ):
        Path(place).mkdir(exist_ok=True)
        shutil.copy(ROOT / "examples" / "photographs" / f"{stem}.jpg", Path(place, f"{stem[:6].strip('_')}.jpg"))
    shutil.copy("originals/stream.jpg", "good.jpg")
    write_video(Path("clip.mp4"), moving_planes(30))
    pyarrow.parquet.write_table(pyarrow.table({"image": ["photos/drum.jpg"]}), "photos.parquet")


def test_there_are_commands_to_run():
    assert len(COMMANDS) == len(set(COMMANDS)) >= 8


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_scores(command):
    result = invoke(run.main, *shlex.split(command)[1:])
    assert result.exit_code == (3 if "--fail-under" in command else 0), result.stderr
    assert "0 failed" in result.stderr
    for written in re.findall(r"--(?:report|output) (\S+)", command):
        assert Path(written).stat().st_size > 0
