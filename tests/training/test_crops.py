import numpy as np
import pytest

from iqa_runtime.errors import UsageError
from iqa_training.crops import center_crop, random_crop, turned


@pytest.fixture
def picture() -> np.ndarray:
    """Each pixel holds its row, its column and a constant."""
    picture = np.full((20, 30, 3), 7, np.uint8)
    picture[..., 0], picture[..., 1] = np.indices((20, 30))
    return picture


def corner(crop: np.ndarray) -> tuple[int, int]:
    return int(crop[0].min()), int(crop[1].min())


def test_both_are_cut_at_one_place_and_flipped_together(picture):
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = random_crop([picture, 255 - picture], 8, rng)
        assert np.array_equal(second, 255 - first)


def test_a_crop_is_a_piece_of_the_picture(picture):
    rng = np.random.default_rng(0)
    for _ in range(50):
        crop = random_crop([picture], 8, rng)[0]
        top, left = corner(crop)
        piece = picture[top : top + 8, left : left + 8].transpose(2, 0, 1)
        assert np.array_equal(crop, piece) or np.array_equal(crop, piece[:, :, ::-1])
        assert crop.flags.c_contiguous
        assert crop.dtype == np.uint8


def test_every_place_is_drawn(picture):
    rng = np.random.default_rng(0)
    corners = {corner(random_crop([picture], 17, rng)[0]) for _ in range(1000)}
    assert corners == {(top, left) for top in range(4) for left in range(14)}


def test_half_of_the_crops_are_flipped(picture):
    rng = np.random.default_rng(0)
    flips = [bool(crop[1, 0, 0] > crop[1, 0, -1]) for crop in (random_crop([picture], 8, rng)[0] for _ in range(1000))]
    # Five standard deviations of a binomial of 1000.
    assert abs(sum(flips) - 500) < 5 * 250**0.5


def test_vertical_flips_are_drawn_by_themselves(picture):
    rng = np.random.default_rng(0)
    crops = [random_crop([picture], 8, rng, vertical_flip=True)[0] for _ in range(1000)]
    flips = [(bool(crop[0, 0, 0] > crop[0, -1, 0]), bool(crop[1, 0, 0] > crop[1, 0, -1])) for crop in crops]
    for outcome in ((False, False), (False, True), (True, False), (True, True)):
        # Five standard deviations of a binomial of 1000 and a quarter.
        assert abs(flips.count(outcome) - 250) < 5 * 187.5**0.5


def test_crops_without_vertical_flips_are_those_they_were(picture):
    """Its draw comes last, so that runs without it keep their crops."""
    for seed in range(20):
        plain, flipped = (
            random_crop([picture], 8, np.random.default_rng(seed), vertical_flip=vertical) for vertical in (False, True)
        )
        assert np.array_equal(plain, flipped) or np.array_equal(plain[0], flipped[0][:, ::-1])


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_move_every_pixel(picture, size, quarters):
    crop = center_crop([picture], size)[0]
    assert np.array_equal(turned(crop, 90 * quarters), np.rot90(crop, quarters, (1, 2)))


def test_a_turn_leaves_corners_black():
    crop = np.full((3, 224, 224), 200, np.uint8)
    out = turned(crop, 45)
    assert set(np.unique(out)) == {0, 200}
    assert out.flags.c_contiguous
    assert (out[:, (0, 0, -1, -1), (0, -1, 0, -1)] == 0).all()
    # A square and the same one at 45 degrees share 2 (sqrt(2) - 1) of it; a pixel of the cut edges is in or out.
    assert (out == 200).mean() == pytest.approx(2 * (2**0.5 - 1), abs=2 / 224)


def test_flips_can_be_left_out(picture):
    rng = np.random.default_rng(0)
    crops = [random_crop([picture], 8, rng, flip=False)[0] for _ in range(50)]
    assert all(crop[1, 0, 0] < crop[1, 0, -1] for crop in crops)


def test_a_whole_picture(picture):
    square = picture[:, :20]
    assert np.array_equal(random_crop([square], 20, np.random.default_rng(0), flip=False)[0], square.transpose(2, 0, 1))


def test_center(picture):
    first, second = center_crop([picture, 255 - picture], 8)
    assert np.array_equal(first, picture[6:14, 11:19].transpose(2, 0, 1))
    assert np.array_equal(second, 255 - first)


@pytest.mark.parametrize("size", [21, 25, 31])
def test_a_picture_that_is_too_small(picture, size):
    message = f"30 x 20 pixels is smaller than the crop of {size}"
    with pytest.raises(UsageError, match=message):
        random_crop([picture], size, np.random.default_rng(0))
    with pytest.raises(UsageError, match=message):
        center_crop([picture], size)
