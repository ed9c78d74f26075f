"""Images to score in the working folder."""

import pytest

from iqa_run import GREYS, gray


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """Three plain images of brightness value / 255 beside a file that is none; they lie in the working folder."""
    for name, value in GREYS.items():
        gray(tmp_path / "shots" / name, value)
    (tmp_path / "shots/notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shots"
