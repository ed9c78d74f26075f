from pathlib import Path

import cv2
import numpy as np
import pytest

from iqa_runtime.commands.pictures import encode_png, picture_names, write_png
from iqa_runtime.errors import FileError


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["one.jpg"], ["one.jpg.png"]),
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg.png", "b/1.jpg.png"]),
        (["a/1.jpg", "a/1.png"], ["1.jpg.png", "1.png.png"]),
        (["a/b/1.jpg", "a/1.jpg", "a/c/../d/1.jpg"], ["b/1.jpg.png", "1.jpg.png", "d/1.jpg.png"]),
        (["a/1.jpg", "/x/1.jpg"], None),
        ([], []),
    ],
)
def test_names_are_distinct_and_stay_inside(images, names):
    found = picture_names(images)
    assert names is None or found == [Path(name) for name in names]
    assert len(set(found)) == len(images)
    assert not any(name.is_absolute() or ".." in name.parts for name in found)


PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_written_file_is_the_picture(tmp_path):
    path = tmp_path / "new" / "ü.png"
    write_png(path, encode_png(PICTURE))
    stored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(stored[..., ::-1], PICTURE)


def test_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot write the picture"):
        write_png(tmp_path / "file" / "a.png", b"")


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"earlier")

    def interrupted(self, content):
        with self.open("wb") as file:
            file.write(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_png(tmp_path / "a.png", b"new content")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"earlier")]
