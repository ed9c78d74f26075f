"""Whole pictures: at a fixed size and at their own, alone and compared with a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime import Scorer
from iqa_runtime.artefacts.opening import open_artefact, read_contract
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.base import Backend
from iqa_runtime.contract import PatchPlan, Resize
from iqa_runtime.errors import BackendError, ImageError, UsageError
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import fitted_size
from iqa_runtime.scoring.preparation import Preparer

ROUNDING = 1e-6
"""Of a mean of some thousand float32 values below 1, taken in another order."""
SIZES = [(40, 64), (37, 53), (64, 40), (4, 9), (101, 7), (40, 64)]

Noise = Callable[..., NDArray[np.uint8]]


def weights() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((5, 3, 4, 4), dtype=np.float32)


def expected(pixels: NDArray[np.float64]) -> float:
    """Compute the artefact's score of a normalised picture, H x W x 3, in NumPy."""
    rows, columns = pixels.shape[0] // 4, pixels.shape[1] // 4
    blocks = pixels[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4, 3)
    return float(np.tanh(np.einsum("ryxzc,ocyz->orx", blocks, weights().astype(np.float64))).mean())


def scores(path: Path, images: list[Any], references: Any = None, **options: Any) -> list[float | None]:
    with Scorer(path, **options) as scorer:
        return [score.value for score in scorer.score_many(images, references)]


def test_a_fixed_size_is_what_the_picture_is_resized_to(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(size=(24, 40))
    picture = noise(90, 61)
    resized = np.asarray(Image.fromarray(picture).resize((40, 24), Image.Resampling.BILINEAR))
    with Scorer(path) as scorer:
        score = scorer.score(picture)
    assert score.value == pytest.approx(expected(resized / 255), abs=ROUNDING)
    assert (score.width, score.height, score.patches) == (61, 90, 1)
    assert score.artefact.endswith(":whole")


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_at_its_own_size_is_taken_as_it_is(artefacts: Any, noise: Noise, size: tuple[int, int]) -> None:
    picture = noise(*size)
    assert scores(artefacts.whole(), [picture]) == [pytest.approx(expected(picture / 255), abs=ROUNDING)]


@pytest.mark.parametrize(
    ("mean", "std", "value"),
    [
        ((0.0,) * 3, (1 / 255,) * 3, lambda x: x),
        ((0.5,) * 3, (0.5,) * 3, lambda x: x / 127.5 - 1),
        (
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
    ],
)
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_every_range_of_values_and_order_of_channels_reaches_the_network(
    artefacts: Any, noise: Noise, mean: Any, std: Any, value: Any, color: str
) -> None:
    contract = read_contract(artefacts.whole(mean=mean, std=std, color=color, multiple=8, fit="reflect"))
    subject = (
        Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT).prepare(noise(21, 35), None).subject
    )
    assert subject is not None
    crop = CropInput.of_contract(contract, "image")
    filled = crop.buffer(1, subject.item_size)
    crop.fill(filled, subject.image, subject.cuts)
    padded = np.pad(noise(21, 35), ((0, 3), (0, 5), (0, 0)), mode="reflect")
    ordered = padded[..., ::-1] if color == "BGR" else padded
    np.testing.assert_array_equal(filled[0], value(ordered.astype(np.float64)).transpose(2, 0, 1).astype(np.float32))


@settings(deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 33), st.sampled_from(["reflect", "crop"]), st.integers(0, 99)
)
def test_multiples_are_those_of_numpy(height: int, width: int, multiple: int, fit: Any, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    plan = PatchPlan(kind="whole", multiple=multiple, fit=fit)
    if fit == "crop" and min(height, width) < multiple:
        with pytest.raises(ImageError, match="too small"):
            fitted_size(plan, height, width)
        return
    down, across = -height % multiple, -width % multiple
    if fit == "reflect":
        wanted = np.pad(picture, ((0, down), (0, across), (0, 0)), mode="reflect")
    else:
        wanted = picture[: height // multiple * multiple, : width // multiple * multiple]
    size = fitted_size(plan, height, width)
    crop = CropInput(
        name="image",
        size=None,
        per_item=1,
        stacked=False,
        dtype=np.dtype(np.float32),
        swap_channels=False,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
    )
    filled = crop.buffer(1, size)
    crop.fill(filled, picture, np.zeros((1, 1, 2), np.int64))
    np.testing.assert_array_equal(filled[0], wanted.transpose(2, 0, 1).astype(np.float32))


def test_bits_do_not_depend_on_threads_batches_and_order(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(multiple=8, fit="reflect")
    pictures = [noise(*size, seed) for seed, size in enumerate(SIZES * 3)]
    alone = [scores(path, [picture], threads=1)[0] for picture in pictures]
    assert len(set(alone)) == len(alone)
    for threads in (1, 2, 5):
        for batch_size in (1, 7):
            assert scores(path, pictures, threads=threads, batch_size=batch_size) == alone
    assert scores(path, pictures[::-1], threads=3) == alone[::-1]
    # With room for one picture at a time they wait for one another.
    assert scores(path, pictures, threads=5, pixel_limit=40 * 64) == alone


def test_bits_of_a_fixed_size_do_not_depend_on_threads_and_batches(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(size=(24, 40))
    pictures = [noise(*size, seed) for seed, size in enumerate(SIZES)]
    alone = [scores(path, [picture], threads=1)[0] for picture in pictures]
    for threads, batch_size in ((1, 4), (3, 1), (3, 6)):
        assert scores(path, pictures, threads=threads, batch_size=batch_size) == alone


def test_a_pair_is_compared_at_its_own_size(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(task="fr")
    image, reference = noise(30, 41, 1), noise(30, 41, 2)
    difference = image / 255 - reference / 255
    assert scores(path, [image], [reference]) == [pytest.approx(expected(difference), abs=ROUNDING)]


def test_a_pair_is_resized_alike(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(task="fr", resize=Resize(to="shorter", size=24, filter="bicubic"))
    pair = noise(30, 50, 1), noise(30, 50, 2)
    image, reference = (
        np.asarray(Image.fromarray(picture).resize((40, 24), Image.Resampling.BICUBIC)) / 255 for picture in pair
    )
    assert scores(path, [pair[0]], [pair[1]]) == [pytest.approx(expected(image - reference), abs=ROUNDING)]


@pytest.mark.parametrize("size", [None, (24, 40)])
def test_pictures_of_a_pair_have_one_size(artefacts: Any, noise: Noise, size: Any) -> None:
    with Scorer(artefacts.whole(task="fr", size=size)) as scorer:
        results = list(scorer.score_many([noise(30, 41), noise(30, 41)], [noise(41, 30), noise(30, 41, 1)]))
    assert isinstance(results[0].error, UsageError)
    assert "full-reference scores need equal sizes" in str(results[0].error)
    assert results[1].value is not None


def test_a_picture_too_small_is_an_error_of_that_picture(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(smallest=16)
    with Scorer(path, threads=2) as scorer:
        results = list(scorer.score_many([noise(16, 40), noise(40, 15), noise(99, 16)]))
        assert [result.value is None for result in results] == [False, True, False]
        with pytest.raises(
            ImageError, match=r"15 x 40 pixels: too small for this network, which takes 16 x 16 and more"
        ):
            scorer.score(noise(40, 15))


def test_the_least_size_is_that_after_the_fit(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(smallest=16, multiple=16, fit="reflect")
    padded = np.pad(noise(3, 5), ((0, 13), (0, 11), (0, 0)), mode="reflect")
    assert scores(path, [noise(3, 5)]) == [pytest.approx(expected(padded / 255), abs=ROUNDING)]


def test_what_the_network_fails_at_is_an_error_of_that_picture(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.whole(), threads=3) as scorer:
        results = list(scorer.score_many([noise(8, 8), noise(3, 3), noise(9, 9), noise(2, 40)]))
    assert [type(result.error) for result in results] == [type(None), BackendError, type(None), BackendError]


def test_maps_follow_the_size(artefacts: Any, noise: Noise) -> None:
    cv2 = pytest.importorskip("cv2")
    path = artefacts.whole(cell=4, multiple=8, fit="reflect")
    picture = noise(21, 35)
    with Scorer(path, maps=True, threads=2) as scorer:
        for other, result in zip((noise(8, 9), picture), scorer.score_many([noise(8, 9), picture]), strict=True):
            assert result.map is not None
            assert result.map.shape == other.shape[:2]
    padded = np.pad(picture, ((0, 3), (0, 5), (0, 0)), mode="reflect") / 255
    blocks = padded.reshape(6, 4, 10, 4, 3)
    cells = np.tanh(np.einsum("ryxzc,ocyz->orx", blocks, weights().astype(np.float64))).mean(0).astype(np.float32)
    enlarged = cv2.resize(cells, (40, 24), interpolation=cv2.INTER_LINEAR)[:21, :35]
    np.testing.assert_allclose(result.map, enlarged, atol=ROUNDING)


def test_what_was_cropped_away_has_no_map(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.whole(cell=4, multiple=8, fit="crop"), maps=True) as scorer:
        area = scorer.score(noise(21, 35)).map
    assert area is not None
    assert np.isfinite(area[:16, :32]).all()
    assert np.isnan(area[16:]).all()
    assert np.isnan(area[:, 32:]).all()


def test_a_map_of_another_size_is_an_error(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(cell=4)
    contract = read_contract(path)
    artefact = open_artefact(path)
    halved = replace(contract, maps=(replace(contract.maps[0], cell=9),))
    with (
        Scorer(replace(artefact, contract=halved), maps=True) as scorer,
        pytest.raises(BackendError, match="promised is"),
    ):
        scorer.score(noise(40, 40))


@pytest.mark.parametrize("size", [None, (24, 40)])
def test_whole_pictures_have_no_crops(artefacts: Any, size: Any) -> None:
    for crops in ("center", PatchPlan(kind="five", size=32)):
        with pytest.raises(UsageError, match="``crops``: this artefact takes pictures whole and cuts no crops"):
            Scorer(artefacts.whole(size=size), crops=crops)


def test_crops_are_not_whole_pictures(artefacts: Any) -> None:
    with pytest.raises(UsageError, match="of 0 pixels; this artefact takes 32"):
        Scorer(artefacts.mean(), crops=PatchPlan(kind="whole"))


def test_a_fixed_size_can_be_reached_by_another_filter_alone(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(size=(24, 40))
    picture = noise(90, 61)
    resized = np.asarray(Image.fromarray(picture).resize((40, 24), Image.Resampling.LANCZOS))
    assert scores(path, [picture], resize="exact:40x24:lanczos") == [
        pytest.approx(expected(resized / 255), abs=ROUNDING)
    ]
    for other in ("none", "shorter:24", "exact:24x40"):
        with pytest.raises(UsageError, match="takes whole pictures of 40 x 24 pixels; choose another filter"):
            Scorer(path, resize=other)


def test_pictures_at_their_own_size_can_be_resized(artefacts: Any, noise: Noise) -> None:
    picture = noise(90, 60)
    resized = np.asarray(Image.fromarray(picture).resize((40, 60), Image.Resampling.BICUBIC))
    assert scores(artefacts.whole(), [picture], resize="shorter:40") == [
        pytest.approx(expected(resized / 255), abs=ROUNDING)
    ]


class Counting(Backend):
    """A network of pictures at their own size that counts how many pixels it holds at once."""

    name = "counting"
    items_per_run = 1
    provider = "here"

    def __init__(self, graph: Any, spec: GraphSpec, *, device: str, threads: int) -> None:
        super().__init__(graph, spec, device=device, threads=threads)
        self.lock, self.holds, self.most = Lock(), 0, 0
        self.meeting = Barrier(2)

    @property
    def concurrent_runs(self) -> int:
        return 4

    def _load(self) -> None: ...

    def _release(self) -> None: ...

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        pixels = inputs["image"][0, 0].size
        with self.lock:
            self.holds += pixels
            self.most = max(self.most, self.holds)
        if pixels <= 200:  # two of these fit, so each meets another one
            self.meeting.wait(timeout=60)
        with self.lock:
            self.holds -= pixels
        return [np.zeros(1, np.float32)]


def test_pictures_at_work_are_together_no_larger_than_the_limit(artefacts: Any, noise: Noise) -> None:
    made: list[Counting] = []

    class Kept(Counting):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    pictures = [noise(10, 20, seed) for seed in range(8)] + [noise(20, 20), noise(20, 20)]
    with Scorer(artefacts.whole(), backend=Kept, threads=4, pixel_limit=400) as scorer:
        assert [score.value for score in scorer.score_many(pictures)] == [0.0] * 10
    assert made[0].most == 400


def test_features_of_a_reference_go_with_a_fixed_size(artefacts: Any, noise: Noise) -> None:
    contract = read_contract(artefacts.cached("crops"))
    exact = Resize(to="exact", size=(32, 32), filter="bilinear")
    inputs = (replace(contract.inputs[0], resize=exact), contract.inputs[1])
    path = artefacts.cached(inputs=inputs, patch_plan=PatchPlan(kind="whole"))
    image, reference = noise(50, 40, 1), noise(70, 90, 2)
    resized = [
        np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BILINEAR)) for each in (image, reference)
    ]
    difference = np.abs(resized[0] / 255 - resized[1].mean(2, keepdims=True) / 255).mean()
    assert scores(path, [image], [reference]) == [pytest.approx(difference, abs=ROUNDING)]
