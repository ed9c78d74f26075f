"""Frames of JPEG XL: layers of one picture, pictures of an animation, and more than a picture explains."""

import numpy as np
import pytest

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.jpegxl_header import read_codestream_header
from iqa_runtime.images.loading import load_image
from jpegxl_files import LOSSLESS_FRAME_BITS, encoded, frame, header, noise, section_of, solid, with_header


def test_the_frames_that_tests_write_are_those_of_the_encoder() -> None:
    data = encoded(np.full((16, 16, 3), (1, 2, 3), np.uint8))
    assert header(16, 16) + frame(solid(1, 2, 3)) == header(16, 16) + data[read_codestream_header(data).end :]


class TestFrames:
    red, blue = (200, 10, 10), (10, 10, 200)

    def test_an_animation_is_refused_and_its_first_frame_can_be_had(self) -> None:
        pixels = np.stack([noise(), noise()[::-1]])
        data = encoded(pixels)
        with pytest.raises(ImageError, match="an animated JPEG XL; a score is of one image"):
            load_image(data)
        assert np.array_equal(load_image(data, frame="first"), pixels[0])
        first = with_header(encoded(noise()), animated=False)
        for cut in range(0, len(first) // 2, 97):
            with pytest.raises(ImageError):
                load_image(data[:cut], frame="first")

    def test_an_animation_of_one_frame_is_a_picture(self) -> None:
        data = header(16, 16, animated=True) + frame(solid(*self.red), duration=5)
        assert (load_image(data) == self.red).all()
        two = (
            header(16, 16, animated=True)
            + frame(solid(*self.red), duration=5, last=False)
            + frame(solid(*self.blue), duration=5)
        )
        assert inspect_header(two, "first").several == "an animated JPEG XL"
        assert (load_image(two, frame="first") == self.red).all()

    def test_layers_are_one_picture(self) -> None:
        under = frame(solid(*self.red), last=False, slot=1)
        over = frame(
            section_of(encoded(np.full((4, 6, 3), self.blue, np.uint8)), LOSSLESS_FRAME_BITS), crop=(3, 5, 6, 4)
        )
        data = header(16, 16) + under + over
        expected = np.full((16, 16, 3), self.red, np.uint8)
        expected[5:9, 3:9] = self.blue
        assert np.array_equal(load_image(data), expected)
        assert inspect_header(data).several is None
        for cut in range(len(data)):
            with pytest.raises(ImageError):
                load_image(data[:cut])

    def test_frames_that_are_not_shown_come_before(self) -> None:
        data = header(16, 16) + frame(solid(*self.blue), kind=2, slot=1, last=False) + frame(solid(*self.red))
        assert (load_image(data) == self.red).all()

    @pytest.mark.parametrize("canvas", [16, 5000])
    def test_more_layers_than_a_picture_explains_are_refused_undecoded(self, canvas: int) -> None:
        layer = frame(solid(*self.red), crop=(0, 0, 16, 8), last=False, slot=1)
        last = frame(solid(*self.red), crop=(0, 0, 16, 8))
        allowed = 3 if canvas > 1000 else 1000
        inspect_header(header(canvas, canvas) + layer * allowed + last)
        with pytest.raises(ImageError, match="more layers than are decoded"):
            inspect_header(header(canvas, canvas) + layer * (allowed + 100) + last)

    def test_a_frame_larger_than_a_picture_explains_is_refused_undecoded(self) -> None:
        data = header(16, 16) + frame(bytes(99), kind=2, crop=(0, 0, 1 << 20, 1 << 20), slot=1, last=False)
        with pytest.raises(ImageError, match=r"more layers than are decoded|ends inside the header"):
            inspect_header(data + bytes(10_000))

    def test_what_lies_behind_parts_out_of_order_is_not_found(self) -> None:
        first = frame(solid(*self.red), last=False, slot=1, permuted=1)
        with pytest.raises(ImageError, match="several layers whose parts are not in order"):
            inspect_header(header(16, 16) + first + frame(solid(*self.blue)))

    def test_a_frame_without_pixels_is_damage(self) -> None:
        with pytest.raises(ImageError, match="a frame of 0 x 4 pixels"):
            inspect_header(header(16, 16) + frame(solid(*self.red), crop=(0, 0, 0, 4)))
