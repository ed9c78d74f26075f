"""Photographs, as users name them."""

import pytest

from iqa_calibration.images.sets import find_photographs
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.images.loading import load_image


def test_photographs_come_from_folders_lists_patterns_and_images_once(photographs, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photographs}/texture1.png\n{photographs}/texture0.png\n", encoding="utf-8")
    found = find_photographs([str(listed), f"{photographs}/*[12].png", str(photographs)])
    assert [path.name for path in found] == [f"texture{index}.png" for index in (1, 0, 2, 3, 4, 5)]
    with pytest.raises(FileError, match="cannot read the list of images"):
        find_photographs([str(tmp_path / "absent")])
    with pytest.raises(UsageError, match="the pattern matches nothing"):
        find_photographs([f"{tmp_path}/*.gif"])


def test_one_photograph_may_be_named_as_it_is(photographs):
    picture = photographs / "texture0.png"
    array = load_image(picture)
    assert find_photographs(picture) == [picture]
    assert find_photographs(str(picture)) == [picture]
    assert find_photographs(picture.read_bytes()) == [picture.read_bytes()]
    assert find_photographs([array, picture, str(picture)])[0] is array
    assert len(find_photographs([array, picture, str(picture)])) == 2
    with pytest.raises(UsageError, match="``images``: there is none"):
        find_photographs([])
