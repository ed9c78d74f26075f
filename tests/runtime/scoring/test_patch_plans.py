"""Patch plans: positions, spelling, limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqa_runtime.contract import PatchPlan
from iqa_runtime.errors import ImageError, UsageError
from iqa_runtime.kernels import MAX_SIDE
from iqa_runtime.scoring.patch_plans import (
    MAX_CROPS,
    check_patch_plan,
    fitted_size,
    format_patch_plan,
    parse_patch_plan,
    positions,
)

BASE = PatchPlan(kind="five", size=224)

sides = st.integers(1, 400)
plans = st.one_of(
    st.builds(PatchPlan, kind=st.sampled_from(["five", "center"]), size=st.integers(1, 80)),
    st.builds(
        lambda size, part: PatchPlan(kind="grid", size=size, stride=max(1, size * part // 8)),
        st.integers(1, 80),
        st.integers(1, 8),
    ),
    st.builds(
        PatchPlan,
        kind=st.just("random"),
        size=st.integers(1, 80),
        count=st.integers(1, 20),
        seed=st.integers(0, 2**32 - 1),
    ),
    st.builds(PatchPlan, kind=st.just("uniform"), size=st.integers(1, 80), count=st.integers(1, 30)),
)


def test_five_is_the_corners_then_the_centre() -> None:
    assert positions(BASE, 301, 480).tolist() == [[0, 0], [0, 256], [77, 0], [77, 256], [38, 128]]


def test_five_of_an_image_as_large_as_the_crop_counts_the_same_crop_five_times() -> None:
    assert positions(BASE, 224, 224).tolist() == [[0, 0]] * 5


def test_short_sides_hang_over_both_edges() -> None:
    assert positions(BASE, 101, 300).tolist() == [[-61, 0], [-61, 76], [-61, 0], [-61, 76], [-61, 38]]


def test_grid_is_row_by_row_and_its_last_row_and_column_touch_the_edge() -> None:
    plan = PatchPlan(kind="grid", size=100, stride=80)
    expected = [(top, left) for top in (0, 80, 150) for left in (0, 80, 160, 200)]
    assert positions(plan, 250, 300).tolist() == [list(corner) for corner in expected]


def test_grid_that_fits_has_no_extra_crop() -> None:
    plan = PatchPlan(kind="grid", size=100, stride=100)
    assert positions(plan, 100, 300).tolist() == [[0, 0], [0, 100], [0, 200]]


def test_center() -> None:
    assert positions(PatchPlan(kind="center", size=224), 301, 480).tolist() == [[38, 128]]


def test_uniform_fills_rows_and_columns_from_edge_to_edge() -> None:
    plan = PatchPlan(kind="uniform", size=100, count=6)
    expected = [[top, left] for top in (0, 200) for left in (0, 150, 300)]
    assert positions(plan, 300, 400).tolist() == expected
    assert positions(plan, 400, 300).tolist() == [[top, left] for top in (0, 150, 300) for left in (0, 200)]
    assert positions(PatchPlan(kind="uniform", size=100, count=25), 500, 500)[:, 0].tolist()[::5] == [
        0,
        100,
        200,
        300,
        400,
    ]
    # A prime number makes one row, or one column.
    assert positions(PatchPlan(kind="uniform", size=100, count=3), 500, 300).tolist() == [
        [0, 100],
        [200, 100],
        [400, 100],
    ]
    assert positions(plan, 60, 400).tolist() == [[-20, left] for left in (0, 60, 120, 180, 240, 300)]


def test_random_positions_are_locked() -> None:
    # A change of these numbers changes every score of a random plan: it would be another plan.
    plan = PatchPlan(kind="random", size=224, count=4, seed=7)
    assert positions(plan, 480, 640).tolist() == [[175, 211], [196, 407], [25, 103], [67, 348]]


def test_random_differs_by_seed_and_stays_within_the_range_it_fills() -> None:
    corners = positions(PatchPlan(kind="random", size=8, count=500, seed=0), 10, 11)
    assert {tuple(corner) for corner in corners.tolist()} == {(top, left) for top in range(3) for left in range(4)}
    other = positions(PatchPlan(kind="random", size=8, count=500, seed=1), 10, 11)
    assert not np.array_equal(corners, other)


@given(plans, sides, sides)
def test_crops_lie_inside_or_hang_over_alike(plan: PatchPlan, height: int, width: int) -> None:
    corners = positions(plan, height, width)
    assert corners.dtype == np.int64
    assert corners.shape[1:] == (2,)
    np.testing.assert_array_equal(corners, positions(plan, height, width))
    for offsets, side in zip(corners.T, (height, width), strict=True):
        over_start, over_end = -offsets, offsets + plan.size - side
        if side >= plan.size:
            assert (over_start <= 0).all()
            assert (over_end <= 0).all()
        else:
            assert set((over_end - over_start).tolist()) <= {0, 1}


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 120), st.integers(1, 120))
def test_grid_covers_every_pixel(size: int, stride: int, height: int, width: int) -> None:
    seen = np.zeros((height, width), dtype=bool)
    plan = PatchPlan(kind="grid", size=size, stride=min(stride, size))
    for top, left in positions(plan, height, width).tolist():
        seen[max(top, 0) : top + size, max(left, 0) : left + size] = True
    assert seen.all()


@given(plans)
def test_the_written_form_reads_back(plan: PatchPlan) -> None:
    assert parse_patch_plan(format_patch_plan(plan), plan) == plan


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("five", BASE),
        ("center", PatchPlan(kind="center", size=224)),
        ("grid", PatchPlan(kind="grid", size=224, stride=224)),
        ("grid:112", PatchPlan(kind="grid", size=224, stride=112)),
        ("random:20", PatchPlan(kind="random", size=224, count=20, seed=0)),
        ("random:20:7", PatchPlan(kind="random", size=224, count=20, seed=7)),
        ("uniform:25", PatchPlan(kind="uniform", size=224, count=25)),
    ],
)
def test_spelling(text: str, plan: PatchPlan) -> None:
    assert parse_patch_plan(text, BASE) == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "six",
        "Five",
        "five:1",
        "center:",
        "grid:",
        "grid:x",
        "grid:1:2",
        "grid:-1",
        "random",
        "random:1:2:3",
        "uniform",
        "uniform:1:2",
        "whole",
        " five",
    ],
)
def test_what_is_no_plan_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="write five, center, grid"):
        parse_patch_plan(text, BASE)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("grid:0", "stride is 0"),
        ("grid:225", "go unseen"),
        ("random:0", "count is 0"),
        (f"random:{MAX_CROPS + 1}", "count is"),
        (f"random:1:{2**32}", "seed is"),
        ("uniform:0", "count is 0"),
    ],
)
def test_numbers_out_of_range(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_patch_plan(text, BASE)


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (PatchPlan(kind="five", size=0), "size is 0"),
        (PatchPlan(kind="grid", size=8), "stride is missing"),
        (PatchPlan(kind="random", size=8, count=3), "seed is missing"),
        (PatchPlan(kind="center", size=8, count=3), "count is of no use"),
        (PatchPlan(kind="uniform", size=8), "count is missing"),
        (PatchPlan(kind="whole", size=8), "size is 8; it is 0"),
        (PatchPlan(kind="whole", stride=8), "stride is of no use"),
        (PatchPlan(kind="five", size=8, smallest=8), "smallest is of no use"),
    ],
)
def test_plans_that_cannot_be_followed(plan: PatchPlan, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        check_patch_plan(plan)


@pytest.mark.parametrize("text", ["five", "grid", "whole"])
def test_whole_pictures_have_no_other_plan(text: str) -> None:
    with pytest.raises(UsageError, match="taken whole here"):
        parse_patch_plan(text, PatchPlan(kind="whole"))


def test_whole_pictures_lie_at_the_corner() -> None:
    assert positions(PatchPlan(kind="whole"), 40, 30).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("plan", "size", "fitted"),
    [
        (PatchPlan(kind="five", size=224), (10, 20), (224, 224)),
        (PatchPlan(kind="whole"), (10, 20), (10, 20)),
        (PatchPlan(kind="whole", multiple=8, fit="reflect"), (8, 17), (8, 24)),
        (PatchPlan(kind="whole", multiple=8, fit="crop"), (8, 17), (8, 16)),
        (PatchPlan(kind="whole", smallest=17, multiple=8, fit="reflect"), (17, 18), (24, 24)),
    ],
)
def test_what_a_picture_is_fitted_to(plan: PatchPlan, size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_size(plan, *size) == fitted


@pytest.mark.parametrize(
    ("plan", "size", "complaint"),
    [
        (PatchPlan(kind="whole", smallest=17), (16, 99), "takes 17 x 17 and more"),
        (PatchPlan(kind="whole", multiple=8, fit="crop"), (7, 99), "takes 8 x 8 and more"),
        (PatchPlan(kind="whole", smallest=17, multiple=8, fit="crop"), (23, 99), "takes 24 x 24 and more"),
        (PatchPlan(kind="whole", smallest=17, multiple=8, fit="reflect"), (16, 99), "takes 17 x 17 and more"),
        (PatchPlan(kind="whole"), (1, MAX_SIDE + 1), "sides of up to 65536 pixels"),
        (PatchPlan(kind="whole", multiple=3, fit="reflect"), (1, MAX_SIDE), "sides of up to 65536 pixels"),
    ],
)
def test_pictures_that_cannot_be_taken_whole(plan: PatchPlan, size: tuple[int, int], complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        fitted_size(plan, *size)


def test_a_grid_of_too_many_crops_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match="longer stride"):
        positions(PatchPlan(kind="grid", size=8, stride=1), 10_000, 10_000)


def test_an_empty_image_has_no_crops() -> None:
    with pytest.raises(UsageError, match="no crops"):
        positions(BASE, 0, 10)
