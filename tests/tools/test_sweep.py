"""The comparison with Pillow over a folder: every group of file is told, and so are the shares refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOL = Path(__file__).with_name("sweep.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8))
    (tmp_path / "below").mkdir()
    picture.convert("RGB").save(tmp_path / "below" / "picture.jpg")
    picture.save(tmp_path / "transparent.png")
    picture.convert("L").save(tmp_path / "gray.TIF")
    picture.convert("L").convert("I;16").save(tmp_path / "deep.tiff")
    picture.convert("1").save(tmp_path / "fax.tif", compression="group4")
    picture.convert("CMYK").save(tmp_path / "inks.jpg")
    picture.save(tmp_path / "moving.png", save_all=True, append_images=[picture.rotate(180)])
    (tmp_path / "torn.png").write_bytes((tmp_path / "transparent.png").read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def sweep(*arguments: str) -> str:
    done = subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_groups_and_shares(folder: Path) -> None:
    said = sweep(str(folder))
    assert "8 files" in said
    assert "     4 equal" in said
    assert "     1 within rounding" in said
    assert "1 JPEG CMYK: by 1 at most (inks.jpg)" in said
    assert "     2 refused, valid to Pillow" in said
    assert "1 TIFF 1: a TIFF of fax compression, which is not read (fax.tif)" in said
    assert "an animated PNG (moving.png)" in said
    assert "     1 refused by both" in said
    assert said.splitlines()[-3:] == [
        "JPEG: 0 of 2 valid files refused",
        "PNG: 1 of 2 valid files refused",
        "TIFF: 1 of 3 valid files refused",
    ]


def test_every_name_is_listed_on_request(folder: Path) -> None:
    assert "gray.TIF" not in sweep(str(folder))
    assert "gray.TIF" in sweep(str(folder), "--list")


def test_a_picture_that_differs_is_told(folder: Path) -> None:
    program = f"""if True:
        import runpy, sys
        from iqa_runtime.images import loading
        read = loading.load_image
        loading.load_image = lambda path, **options: 255 - read(path, **options)
        sys.argv = ["sweep.py", {str(folder)!r}]
        runpy.run_path({str(TOOL)!r}, run_name="__main__")
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "5 DIFFERENT" in said
    assert "equal" not in said
