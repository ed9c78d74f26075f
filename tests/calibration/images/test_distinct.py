import os

import cv2
import numpy as np
import pytest

from iqa_calibration.images.distinct import distinct, distinct_pictures, pixel_digest
from iqa_runtime.errors import FileError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture
def picture(tmp_path, pixels):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def test_a_file_is_itself_by_every_name(tmp_path, picture, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "sub" / "chain.png").symlink_to(tmp_path / "link.png")
    (tmp_path / "folder").symlink_to(tmp_path / "sub")
    (tmp_path / "hard.png").hardlink_to(picture)
    (tmp_path / "copy.png").write_bytes(picture.read_bytes())
    monkeypatch.chdir(tmp_path)
    names = [
        "a.png",
        "./a.png",
        "sub/../a.png",
        "link.png",
        "folder/chain.png",
        "hard.png",
        "copy.png",
        picture,
        os.fspath(picture),
        picture.read_bytes(),
    ]
    assert distinct(names) == ["a.png"]
    assert distinct(names[::-1]) == [picture.read_bytes()]


def test_other_pictures_stay_in_their_order(tmp_path, picture, pixels):
    other = tmp_path / "b.png"
    cv2.imwrite(str(other), pixels[::-1])
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    sources = [other, changed, picture, pixels, b"bytes", other, pixels.copy(), changed[:, ::-1], b"bytez"]
    kept = distinct(sources)
    expected = [sources[index] for index in (0, 1, 2, 3, 4, 7, 8)]
    assert len(kept) == len(expected)
    assert all(one is another for one, another in zip(kept, expected, strict=True))


def test_files_are_read_only_where_others_have_their_length(tmp_path, monkeypatch):
    for index, length in enumerate((3, 4, 4)):
        (tmp_path / f"{index}.png").write_bytes(bytes([index]) * length)
    read = []
    monkeypatch.setattr("iqa_calibration.images.distinct.file_digest", lambda file, _: read.append(file.name) or Zero())
    distinct([tmp_path / f"{index}.png" for index in range(3)])
    assert [os.path.basename(name) for name in read] == ["1.png", "2.png"]  # noqa: PTH119 - a name, not a path


class Zero:
    def digest(self):
        return object()


def test_what_cannot_be_read_stays(tmp_path):
    missing = [tmp_path / "missing.png", tmp_path / "other.png", tmp_path, "a\0b"]
    assert distinct([*missing[:3], *missing[:3]]) == missing[:3]


def test_pictures_are_told_by_their_pixels(tmp_path, picture, pixels):
    smaller = tmp_path / "smaller.png"
    cv2.imwrite(str(smaller), pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
    bitmap = tmp_path / "a.bmp"
    cv2.imwrite(str(bitmap), pixels[..., ::-1])
    turned = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    sources = [turned, picture, smaller, pixels, bitmap, bitmap.read_bytes(), turned]
    assert distinct(sources)[1:5] == sources[1:5]  # nothing here is decoded
    first = distinct_pictures(sources)
    assert list(first) == [pixel_digest(turned), pixel_digest(pixels)]
    assert [source is each for source, each in zip(first.values(), sources, strict=False)] == [True, True]
    assert pixel_digest(pixels) != pixel_digest(pixels.reshape(10, 12, 3))
    with pytest.raises(FileError, match="missing"):
        distinct_pictures([tmp_path / "missing.png"])
