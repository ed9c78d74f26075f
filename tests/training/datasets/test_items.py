"""What is known of a picture before it is decoded."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.datasets import read_dataset
from iqa_training.datasets.items import DatasetSource, picture_size
from iqa_training.datasets.synthetic import find_photographs

ORIENTATION = 0x0112


@pytest.fixture
def table(tmp_path):
    """Two distorted pictures of one reference, and one without."""
    for name, size in (("ref", (20, 30)), ("a", (20, 30)), ("b", (20, 30)), ("alone", (9, 8))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((*size, 3), np.uint8))
    (tmp_path / "mos.csv").write_text("distorted,reference,mos\na.png,ref.png,0.5\nb.png,ref.png,0.25\nalone.png,,1\n")
    return tmp_path


def test_entries_are_those_of_the_items(table):
    source = DatasetSource(read_dataset("csv", table))
    found = [(entry.name, entry.reference, entry.label, entry.height, entry.width) for entry in source.entries]
    reference = str(table / "ref.png")
    assert found == [
        (str(table / "a.png"), reference, 0.5, 20, 30),
        (str(table / "b.png"), reference, 0.25, 20, 30),
        (str(table / "alone.png"), None, 1.0, 9, 8),
    ]
    for index, entry in enumerate(source.entries):
        item = source.item(index)
        assert (item.label, item.content, item.distorted.shape[:2]) == (
            entry.label,
            entry.content,
            (entry.height, entry.width),
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_the_size_is_that_of_the_decoded_picture(tmp_path, suffix, orientation):
    file = tmp_path / f"picture.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new("RGB", (30, 20)).save(file, **({} if suffix == "bmp" else {"exif": exif}))
    assert picture_size(file) == load_image(file).shape[:2]


def test_a_reference_of_another_size_is_named_before_and_while_decoding(table):
    cv2.imwrite(str(table / "b.png"), np.zeros((21, 30, 3), np.uint8))
    source = DatasetSource(read_dataset("csv", table))
    for look in (lambda: source.entries, lambda: source.item(1)):
        with pytest.raises(
            UsageError, match=r"b\.png: 30 x 21 pixels, and its reference \S*ref\.png 30 x 20; leave it out"
        ):
            look()


def test_a_file_that_is_no_picture_is_named(table):
    (table / "b.png").write_bytes(b"no picture")
    source = DatasetSource(read_dataset("csv", table))
    with pytest.raises(ImageError, match=r"b\.png: this is no image"):
        _ = source.entries
    (table / "a.png").unlink()
    with pytest.raises(FileError, match=r"a\.png: cannot be read \(No such file or directory\); check the data set"):
        _ = source.entries


def test_photographs_smaller_than_a_crop_are_named(table):
    (table / "below").mkdir()
    (table / "alone.png").rename(table / "below" / "alone.png")
    assert [file.name for file in find_photographs(table, 8)] == ["a.png", "b.png", "alone.png", "ref.png"]
    with pytest.raises(
        UsageError, match=r"photographs smaller than the crop of 9 pixels: \S*below/alone\.png \(8 x 9\); leave"
    ):
        find_photographs(table, 9)


def test_samples_are_told_apart_by_their_own_size(table):
    """Two pictures of one reference: only the one that fits it is taken."""
    dataset = read_dataset("csv", table)
    alone = replace(dataset.samples[2], reference=table / "ref.png")
    with pytest.raises(UsageError, match=r"alone\.png: 8 x 9 pixels"):
        _ = DatasetSource(replace(dataset, samples=(*dataset.samples[:2], alone))).entries
