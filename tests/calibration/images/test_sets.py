import warnings
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from iqa_calibration.images.distinct import distinct_pictures
from iqa_calibration.images.sets import FEW_PHOTOGRAPHS, CalibrationSet, read_images, split
from iqa_runtime.contract import BakedReference, Contract, PatchPlan, TensorInput
from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.kernels import extract_patches
from iqa_runtime.scoring.patch_plans import positions
from tiny_contract import tiny_contract

SIDE = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def crop_input(name="image", stack=()):
    return TensorInput(
        name=name,
        shape=("batch", *stack, 3, SIDE, SIDE),
        layout="NPCHW" if stack else "NCHW",
        mean=MEAN,
        std=STD,
    )


def contract(task="nr", **changes) -> Contract:
    names = ["image"] if task == "nr" else ["image", "reference"]
    return tiny_contract(SIDE, task, **({"inputs": tuple(crop_input(name) for name in names)} | changes))


@pytest.fixture(scope="module")
def photographs():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8) for index in range(4)]


def build(contract, images, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return CalibrationSet.build(contract, images, **options)


def stacked(calibration_set, name="image"):
    return np.concatenate([feed[name] for feed in calibration_set.feeds()])


def test_photograph_comes_first_and_is_cut_as_at_run_time(photographs):
    items = list(islice(build(contract(), photographs[:1]).feeds(), 4))
    plan = PatchPlan(kind="five", size=SIDE)
    crops = extract_patches(photographs[0], positions(plan, 40, 50), (SIDE, SIDE), MEAN, STD)
    for item in items:
        assert item["image"].dtype == np.float32
        assert item["image"].shape == (1, 3, SIDE, SIDE)
        assert any(np.array_equal(item["image"][0], crop) for crop in crops)


def test_degradations_follow(photographs):
    items = stacked(build(contract(), photographs[:1]))
    assert len(items) == 12
    crops = extract_patches(
        photographs[0], positions(PatchPlan(kind="five", size=SIDE), 40, 50), (SIDE, SIDE), MEAN, STD
    )
    assert not any(np.array_equal(item, crop) for item in items[4:] for crop in crops)


def test_same_seed_same_items_each_time(photographs):
    first = build(contract(), photographs, seed=7)
    items = stacked(first)
    np.testing.assert_array_equal(items, stacked(first))
    again = build(contract(), photographs, seed=7)
    np.testing.assert_array_equal(items, stacked(again))
    assert first.digest == again.digest
    assert not np.array_equal(items, stacked(build(contract(), photographs, seed=8)))


def test_digest_tells_pixels_seed_and_normalisation_apart(photographs):
    changed = [photographs[0].copy(), *photographs[1:]]
    changed[0][0, 0, 0] ^= 1
    other = replace(contract(), inputs=(replace(crop_input(), mean=(0.5, 0.5, 0.5)),))
    sets = [
        build(contract(), photographs),
        build(contract(), changed),
        build(contract(), photographs, seed=1),
        build(contract(), photographs[:3]),
        build(other, photographs),
    ]
    assert len({each.digest for each in sets}) == len(sets)


def test_count_draws_by_seed_and_says_so(photographs):
    drawn = build(contract(), photographs, count=2, seed=3)
    assert drawn.size == 2
    assert drawn.record.photographs == 2
    assert drawn.record.digest == drawn.digest
    assert len(stacked(drawn)) == 2 * 12


def test_aligned_reference_is_the_photograph_itself(photographs):
    calibration_set = build(contract("fr"), photographs[:1])
    images, references = stacked(calibration_set), stacked(calibration_set, "reference")
    np.testing.assert_array_equal(images[:4], references[:4])
    crops = extract_patches(
        photographs[0], positions(PatchPlan(kind="five", size=SIDE), 40, 50), (SIDE, SIDE), MEAN, STD
    )
    for image, reference in zip(images[4:], references[4:], strict=True):
        assert any(np.array_equal(reference, crop) for crop in crops)
        assert not np.array_equal(image, reference)


def test_non_aligned_reference_is_another_photograph(photographs):
    references = stacked(build(contract("nar"), photographs[:2]), "reference")
    plan = PatchPlan(kind="five", size=SIDE)
    crops = extract_patches(photographs[1], positions(plan, 41, 50), (SIDE, SIDE), MEAN, STD)
    assert all(any(np.array_equal(reference, crop) for crop in crops) for reference in references[:12])
    with pytest.raises(UsageError, match="at least 4"):
        build(contract("nar"), photographs[:1])


def test_items_of_several_crops(photographs):
    plan = PatchPlan(kind="random", size=SIDE, count=6, seed=0)
    several = contract(inputs=(crop_input(stack=(3,)),), patch_plan=plan)
    assert stacked(build(several, photographs[:1])).shape == (6, 3, 3, SIDE, SIDE)


def test_extremes_come_last(photographs):
    feeds = list(build(contract(), photographs[:1]).feeds_and_extremes())
    black, white, noise, saturated = (feed["image"] for feed in feeds[-4:])
    lowest = (0 - np.array(MEAN)) / STD
    highest = (1 - np.array(MEAN)) / STD
    np.testing.assert_allclose(black[0, :, 0, 0], lowest, rtol=1e-6)
    np.testing.assert_allclose(white[0, :, 0, 0], highest, rtol=1e-6)
    assert len(np.unique(noise)) > 300
    assert len(np.unique(saturated)) == 6
    assert len(feeds) == 12 + 4


def test_extremes_have_the_size_of_a_baked_aligned_reference():
    image = np.zeros((20, 30, 3), np.uint8)
    reference = BakedReference(file="r.png", sha256="", width=30, height=20)
    baked = contract("fr", inputs=(crop_input(),), baked_reference=reference)
    assert len(list(build(baked, [image]).feeds_and_extremes())) == 16


def test_few_photographs_are_warned_about(photographs):
    with pytest.warns(UserWarning, match=f"4 calibration images.*{FEW_PHOTOGRAPHS}"):
        CalibrationSet.build(contract(), photographs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CalibrationSet.build(contract(), [photographs[0][:, : 50 - cut] for cut in range(FEW_PHOTOGRAPHS)])


def test_twenty_copies_of_a_picture_are_one(photographs, tmp_path):
    path = tmp_path / "a.bmp"
    cv2.imwrite(str(path), photographs[0][..., ::-1])
    sources = [photographs[0], photographs[0].copy(), path, path.read_bytes(), *[photographs[0].copy()] * 15]
    with pytest.warns(UserWarning, match="calibration images") as told:
        several = CalibrationSet.build(contract(), [*sources, photographs[1]])
    assert several.size == 2
    assert several.record.photographs == 2
    assert [str(warning.message).partition(" calibration images")[0] for warning in told] == [
        "17 of 20",
        "1 of 3",
        "2",
    ]
    assert several.digest == build(contract(), photographs[:2]).digest


def test_pictures_that_judge_do_not_calibrate(photographs, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photographs[0][..., ::-1])
    calibration_set = build(contract(), photographs, apart_from=distinct_pictures([path]), count=3)
    assert calibration_set.size == 3
    assert not any(photograph is photographs[0] for photograph in calibration_set.photographs)
    with pytest.raises(UsageError, match="is one that judges"):
        build(contract(), [path], apart_from=distinct_pictures(photographs[:1]))


def test_a_reference_that_is_not_aligned_is_another_picture(photographs):
    with pytest.raises(UsageError, match="at least 4"):
        build(contract("nar"), [photographs[0]] * 3)


def test_progress_counts_photographs(photographs):
    told = []
    build(contract(), photographs, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bad_photograph_is_found_at_once(tmp_path, photographs):
    path = tmp_path / "broken.png"
    path.write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"broken\.png"):
        build(contract(), [photographs[0], path])


@pytest.mark.parametrize("options", [{"count": 0}, {"seed": -1}, {"seed": 2**32}])
def test_numbers_out_of_range(photographs, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        build(contract(), photographs, **options)


def test_no_photograph_and_cached_features_are_refused(photographs):
    with pytest.raises(UsageError, match="at least one"):
        build(contract(), [])
    features = TensorInput(name="reference_features", shape=("batch", 4), layout="features", color=None)
    with pytest.raises(UsageError, match="cache_reference"):
        build(contract("fr", inputs=(crop_input(), features)), photographs)


@pytest.mark.parametrize(("count", "judging"), [(2, 1), (3, 1), (4, 2), (10, 2), (12, 3), (100, 8)])
def test_split_is_disjoint_and_whole(count, judging):
    images = [f"{index}.png" for index in range(count)]
    calibration, held_back = split(images, seed=1)
    assert len(held_back) == judging
    assert sorted(calibration + held_back) == sorted(images)
    assert split(images, seed=1) == (calibration, held_back)


def test_split_depends_on_the_seed_and_needs_two():
    images = [f"{index}.png" for index in range(40)]
    assert split(images, seed=1) != split(images, seed=2)
    with pytest.raises(UsageError, match="at least 2"):
        split(images[:1], seed=0)


@pytest.mark.filterwarnings("ignore:.* show what others show:UserWarning")
def test_links_and_copies_are_on_one_side_of_the_split(tmp_path):
    pictures = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        path.write_bytes(bytes([index]) * 10)
        link, copy = tmp_path / f"link{index}.png", tmp_path / f"copy{index}.png"
        link.symlink_to(path)
        copy.write_bytes(path.read_bytes())
        pictures += [path, link, copy, tmp_path / ".." / tmp_path.name / path.name]
    calibration, judging = split(pictures, seed=0)
    content = [{path.read_bytes() for path in side} for side in (calibration, judging)]
    assert (len(calibration), len(judging)) == (6, 2)
    assert [len(side) for side in content] == [6, 2]
    assert content[0].isdisjoint(content[1])


def test_copies_of_one_picture_cannot_be_split(photographs):
    for sources in ([photographs[0].copy() for _ in range(20)], [b"content"] * 20):
        with (
            pytest.warns(UserWarning, match="19 of 20 calibration images"),
            pytest.raises(UsageError, match="1 distinct calibration image"),
        ):
            split(sources, seed=0)


def test_sources_of_photographs(tmp_path):
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((4, 4, 3), np.uint8))
    (folder / "notes.txt").write_text("b.png\n\ndeep/a.jpg\n")
    both = [folder / "b.png", folder / "deep" / "a.jpg"]
    assert read_images(folder) == both
    assert read_images(folder / "notes.txt") == both
    assert read_images(folder / "b.png") == both[:1]
    (folder / "c.png").symlink_to(folder / "b.png")
    (folder / "notes.txt").write_text("c.png\n./deep/../b.png\n")
    assert read_images(folder) == both
    assert read_images(folder / "notes.txt") == [folder / "c.png"]


def test_sources_that_are_none(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"empty\.txt"):
        read_images(empty)
    with pytest.raises(FileError, match=r"model\.bin"):
        read_images(binary)
    (tmp_path / "setup.py").write_text("import os\n")
    with pytest.raises(FileError, match=r"import os: not there, in .*setup\.py, which is read as a list"):
        read_images(tmp_path / "setup.py")
    with pytest.raises(UsageError, match="no image"):
        read_images(tmp_path / "folder")
    for missing in ("missing.txt", "missing.png"):
        with pytest.raises(FileError, match=missing):
            read_images(tmp_path / missing)
