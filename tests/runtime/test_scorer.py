"""The Scorer: scores worked out by hand, plans, arguments, life cycle, threads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime import (
    ArtefactError,
    BackendError,
    FileError,
    ImageError,
    PatchPlan,
    Scorer,
    UsageError,
)
from iqa_runtime.commands.options import BackendOptions
from iqa_runtime.contract import MapOutput, TensorInput
from iqa_runtime.scoring.patch_plans import positions

Noise = Callable[..., NDArray[np.uint8]]
SavePng = Callable[[Path, NDArray[np.uint8]], Path]

# Means of thousands of float32 values summed in another order.
ROUNDING = 1e-6
HALF_ROUNDING = 2e-3


def crops(image: NDArray[np.uint8], plan: PatchPlan) -> list[NDArray[np.float64]]:
    """Return the crops as values 0 to 1, padded as the kernels pad."""
    pad = plan.size
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect") / 255
    corners = positions(plan, *image.shape[:2]).tolist()
    return [padded[top + pad : top + 2 * pad, left + pad : left + 2 * pad] for top, left in corners]


def test_the_score_is_the_mean_over_the_crops(artefacts: Any, noise: Noise) -> None:
    image = noise(70, 90)
    with Scorer(artefacts.mean()) as scorer:
        result = scorer.score(image)
    expected = [float(crop.mean()) for crop in crops(image, scorer.patch_plan)]
    assert result.patch_scores == pytest.approx(expected, rel=ROUNDING)
    assert result.value == pytest.approx(np.mean(expected), rel=ROUNDING)
    assert (result.width, result.height, result.patches) == (90, 70, 5)
    assert (result.range, result.direction, result.trained) == ((0.0, 1.0), "higher", True)
    assert result.path is None
    assert result.error is None
    assert result.map is None


def test_path_bytes_and_array_score_alike(artefacts: Any, noise: Noise, save_png: SavePng, tmp_path: Path) -> None:
    image = noise(40, 50)
    path = save_png(tmp_path / "ö space.png", image)
    with Scorer(artefacts.mean()) as scorer:
        results = list(scorer.score_many([path, str(path), path.read_bytes(), image]))
    assert len({result.value for result in results}) == 1
    assert [result.path for result in results] == [str(path), str(path), None, None]


@pytest.mark.parametrize(("color", "channel"), [("RGB", 0), ("BGR", 2)])
def test_channel_order_of_the_contract(artefacts: Any, color: Any, channel: int) -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[...] = (51, 102, 204)
    (tensor,) = artefacts.contract().inputs
    swapped = TensorInput(name="image", shape=tensor.shape, color=color, mean=tensor.mean, std=tensor.std)
    with Scorer(artefacts.first_channel(inputs=(swapped,))) as scorer:
        assert scorer.score(image).value == pytest.approx(image[0, 0, channel] / 255, rel=ROUNDING)


def test_half_precision_artefacts(artefacts: Any, noise: Noise) -> None:
    image = noise(50, 60)
    with Scorer(artefacts.mean(dtype="float16")) as scorer:
        result = scorer.score(image)
    expected = np.mean([crop.mean() for crop in crops(image, scorer.patch_plan)])
    assert result.value == pytest.approx(expected, abs=HALF_ROUNDING)


def test_images_smaller_than_a_crop_are_reflected(artefacts: Any, noise: Noise) -> None:
    image = noise(artefacts.side - 9, artefacts.side + 4)
    with Scorer(artefacts.mean()) as scorer:
        result = scorer.score(image)
    expected = [float(crop.mean()) for crop in crops(image, scorer.patch_plan)]
    assert result.patch_scores == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("text", ["center", "grid:20", "random:7:3"])
def test_crops_override_the_plan(artefacts: Any, noise: Noise, text: str) -> None:
    image = noise(75, 91)
    with Scorer(artefacts.mean(), crops=text) as scorer:
        result = scorer.score(image)
    expected = [float(crop.mean()) for crop in crops(image, scorer.patch_plan)]
    assert result.patches == len(expected)
    assert result.patch_scores == pytest.approx(expected, rel=ROUNDING)


def test_crops_may_be_a_plan_of_the_artefacts_size(artefacts: Any) -> None:
    path = artefacts.mean()
    plan = PatchPlan(kind="center", size=artefacts.side)
    with Scorer(path, crops=plan) as scorer:
        assert scorer.patch_plan == plan
    with pytest.raises(UsageError, match=f"takes {artefacts.side}"):
        Scorer(path, crops=PatchPlan(kind="center", size=artefacts.side + 1))


def test_items_of_several_crops(artefacts: Any, noise: Noise) -> None:
    image = noise(80, 70)
    with Scorer(artefacts.packed(per_item=4), crops="random:8:1") as scorer:
        result = scorer.score(image)
    means = np.array([crop.mean() for crop in crops(image, scorer.patch_plan)]).reshape(2, 4).mean(axis=1)
    assert result.patches == 8
    assert result.patch_scores == pytest.approx((means**2).tolist(), rel=ROUNDING)
    assert result.value == pytest.approx((means**2).mean(), rel=ROUNDING)


def test_a_number_of_crops_that_makes_no_whole_items_says_what_would(artefacts: Any, noise: Noise) -> None:
    path = artefacts.packed(per_item=4)
    with pytest.raises(UsageError, match="random:8"):
        Scorer(path, crops="five")
    with Scorer(path, crops="grid") as scorer:
        assert scorer.score(noise(64, 64)).patches == 4
        with pytest.raises(UsageError, match="random:8"):
            scorer.score(noise(64, 90))


def test_a_score_that_is_no_number_is_an_error_of_its_image_alone(artefacts: Any) -> None:
    dark, light = (np.full((40, 40, 3), level, dtype=np.uint8) for level in (10, 250))
    with Scorer(artefacts.unsound(), batch_size=64) as scorer:
        first, bad, last = scorer.score_many([light, dark, light])
        with pytest.raises(BackendError, match="not finite"):
            scorer.score(dark)
    assert first == last
    assert first.value is not None
    assert bad.value is None
    assert bad.patches == 0
    assert isinstance(bad.error, BackendError)


def test_one_crop_that_is_no_number_spoils_the_image(artefacts: Any) -> None:
    image = np.full((80, 80, 3), 250, dtype=np.uint8)
    image[:, :40] = 0
    for batch_size in (1, 8):
        with Scorer(artefacts.unsound(), batch_size=batch_size) as scorer:
            with pytest.raises(BackendError, match="crop 1 "):
                scorer.score(image)
            with pytest.raises(BackendError, match="crop 2 "):
                scorer.score(image[:, ::-1])


def test_errors_are_items_and_keep_their_place(artefacts: Any, noise: Noise, save_png: SavePng, tmp_path: Path) -> None:
    good = save_png(tmp_path / "good.png", noise(40, 40))
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:200])
    sources: list[Any] = [good, broken, tmp_path / "missing.png", b"", np.zeros((4, 4)), good]
    with Scorer(artefacts.mean(), batch_size=4) as scorer:
        results = list(scorer.score_many(sources))
    kinds = [type(result.error) for result in results]
    assert kinds == [type(None), ImageError, FileError, ImageError, UsageError, type(None)]
    assert results[0].value == results[-1].value
    for result in results[1:-1]:
        row = result.row()
        assert row["score"] is None
        assert row["error"]
        assert row["patches"] == 0
        assert result.error is not None
        assert result.error.__traceback__ is None
    assert results[1].path == str(broken)


def test_score_raises(artefacts: Any, tmp_path: Path) -> None:
    with Scorer(artefacts.mean()) as scorer, pytest.raises(FileError, match=r"missing\.png"):
        scorer.score(tmp_path / "missing.png")


def test_the_pixel_limit_is_obeyed(artefacts: Any, noise: Noise, save_png: SavePng, tmp_path: Path) -> None:
    path = save_png(tmp_path / "large.png", noise(40, 50))
    with Scorer(artefacts.mean(), pixel_limit=1999) as scorer, pytest.raises(ImageError, match="1999"):
        scorer.score(path)


def test_untrained_weights_show(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.untrained()) as scorer:
        result = scorer.score(noise(40, 40))
    assert not result.trained
    assert "untrained" in str(result)


@pytest.mark.parametrize("argument", ["threads", "batch_size", "pixel_limit"])
@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_numbers_are_checked(artefacts: Any, argument: str, value: Any) -> None:
    with pytest.raises(UsageError, match=argument):
        Scorer(artefacts.mean(), **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("crops", 5),
        ("device", 3),
        ("precision", 32),
        ("backend", 3),
        ("backend", int),
        ("maps", "no"),
        ("restored", 1),
        ("pixel_limit", None),
        ("trust", 5),
        ("artefact", None),
        ("artefact", 5),
        ("artefact", "a\0b"),
    ],
)
def test_arguments_of_another_type_are_refused_by_name(artefacts: Any, argument: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"``{argument}(=.*)?``: "):
        Scorer(**{"artefact": artefacts.mean(), argument: value})


@pytest.mark.parametrize("argument", ["threads", "batch_size"])
def test_a_number_that_no_host_could_serve_is_refused(artefacts: Any, argument: str) -> None:
    settings: dict[str, Any] = {argument: 100_000_000}
    with pytest.raises(UsageError, match=f"``{argument}=100000000``: it must be a whole number, 1 to"):
        Scorer(artefacts.mean(), **settings)


def test_a_batch_beyond_memory_is_refused_before_any_work(artefacts: Any) -> None:
    side = 20_000
    huge = replace(artefacts.contract().inputs[0], shape=("batch", 3, side, side))
    contract = artefacts.contract(inputs=(huge,), patch_plan=PatchPlan(kind="five", size=side))
    path = artefacts.write("huge", *_mean_graph(artefacts), contract)
    with pytest.raises(UsageError, match="batch of 4096 items does not fit into memory"):
        Scorer(path, batch_size=4096)


def test_one_source_is_not_several(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.mean()) as scorer:
        for source in ("photo.jpg", b"\xff\xd8", noise(40, 40)):
            with pytest.raises(UsageError, match="use score for one"):
                scorer.score_many(source)  # type: ignore[arg-type]
        assert len(list(scorer.score_many(np.stack([noise(40, 40)] * 3)))) == 3


def test_closed_means_closed(artefacts: Any, noise: Noise) -> None:
    scorer = Scorer(artefacts.mean())
    running = scorer.score_many([noise(40, 40)] * 3)
    scorer.close()
    scorer.close()
    for use in (
        lambda: scorer.score(noise(40, 40)),
        lambda: scorer.score_many([]),
        lambda: next(running),
        scorer.__enter__,
    ):
        with pytest.raises(UsageError, match=r"closed|not active"):
            use()


def test_the_plan_of_a_contract_is_checked(artefacts: Any) -> None:
    with pytest.raises(ArtefactError, match="plan"):
        Scorer(artefacts.mean(patch_plan=PatchPlan(kind="grid", size=artefacts.side)))
    with pytest.raises(ArtefactError, match="crops of 33 x 33 pixels"):
        Scorer(artefacts.mean(patch_plan=PatchPlan(kind="five", size=artefacts.side + 1)))


def test_a_contract_without_normalisation_is_refused(artefacts: Any) -> None:
    (tensor,) = artefacts.contract().inputs
    with pytest.raises(ArtefactError, match="mean or std"):
        Scorer(artefacts.write("bare", *_mean_graph(artefacts), artefacts.contract(inputs=(_without_mean(tensor),))))


def _without_mean(tensor: TensorInput) -> TensorInput:
    return TensorInput(name=tensor.name, shape=tensor.shape)


def _mean_graph(artefacts: Any) -> tuple[Any, Any]:
    graph = onnx.load(artefacts.mean()).graph
    return list(graph.node), list(graph.initializer)


def test_maps_of_an_artefact_without_them(artefacts: Any) -> None:
    with pytest.raises(UsageError, match=r"``maps``: .*: iqa-export --model NAME --maps"):
        Scorer(artefacts.mean(), maps=True)


def test_maps_the_graph_does_not_have(artefacts: Any) -> None:
    nodes, constants = _mean_graph(artefacts)
    promised = artefacts.contract(maps=(MapOutput(name="quality_map", rows=3, columns=3),))
    path = artefacts.write("promising", nodes, constants, artefacts.contract())
    model = onnx.load(path)
    embed_contract(model, promised)
    onnx.save(model, path)
    with pytest.raises(ArtefactError, match="quality_map"):
        Scorer(path)


def test_map_over_the_image(artefacts: Any) -> None:
    side = artefacts.side
    image = np.zeros((side, 3 * side, 3), dtype=np.uint8)
    image[:, :, 1] = 255
    for column, level in enumerate((51, 102, 153)):
        image[:, column * side : (column + 1) * side, 0] = level
    with Scorer(artefacts.mapped(), crops="grid", maps=True) as scorer:
        result = scorer.score(image)
    assert result.map is not None
    assert result.map.dtype == np.float32
    np.testing.assert_allclose(result.map, image[..., 0] / 255, rtol=ROUNDING)


def test_threads_may_share_a_scorer(artefacts: Any, noise: Noise) -> None:
    images = [noise(60, 70, seed) for seed in range(8)]
    with Scorer(artefacts.deep(), threads=2) as scorer:
        expected = [scorer.score(image).value for image in images]
        barrier = threading.Barrier(4)

        def work(_: int) -> list[float | None]:
            barrier.wait()
            return [scorer.score(image).value for image in images]

        with ThreadPoolExecutor(4) as pool:
            for values in pool.map(work, range(4)):
                assert values == expected


def test_restored_image_covers_what_the_crops_cover(artefacts: Any, noise: Noise) -> None:
    image = noise(40, 70)
    with Scorer(artefacts.restoring(), crops="center", restored=True, batch_size=3) as scorer:
        result = scorer.score(image)
    top, left = positions(scorer.patch_plan, 40, 70)[0].tolist()
    expected = image.copy()
    inside = image[top : top + 32, left : left + 32]
    expected[top : top + 32, left : left + 32] = np.rint(np.minimum(inside / 2 + 0.7 * 255, 255))
    assert result.restored is not None
    difference = np.abs(result.restored.astype(int) - expected)
    assert difference.max() <= 1  # halves are rounded either way
    assert (difference > 0).mean() < 0.05


def test_distortions_are_the_mean_over_the_crops(artefacts: Any, noise: Noise) -> None:
    """Two crops beside each other of an image of 32 x 64: each pixel counts once."""
    image = noise(32, 64)
    image[:, :, 2] //= 4
    with Scorer(artefacts.naming(), crops="grid", batch_size=3) as scorer:
        result = scorer.score(image)
        streamed = list(scorer.score_many([image, b"none", image]))
    assert result.distortions is not None
    assert list(result.distortions) == ["red", "green", "blue"]
    assert list(result.distortions.values()) == pytest.approx((image / 255).mean((0, 1)), abs=ROUNDING)
    assert [each.distortions for each in streamed] == [result.distortions, None, result.distortions]
    assert [each.reasons is None for each in streamed] == [False, True, False]
    with Scorer(artefacts.mean()) as scorer:
        assert scorer.score(image).distortions is None


def test_what_is_no_probability_is_no_reason(artefacts: Any) -> None:
    white, grey = np.full((32, 32, 3), 255, np.uint8), np.full((32, 32, 3), 100, np.uint8)
    with Scorer(artefacts.naming(gain=2.0)) as scorer:
        good, bad = scorer.score_many([grey, white])
    assert good.reasons == ("red", "green", "blue")
    assert bad.value is None
    assert "'distortions' of crop 1 goes from 2 to 2" in str(bad.error)


def test_restored_image_is_refused_where_there_is_none(artefacts: Any, noise: Noise) -> None:
    with pytest.raises(UsageError, match=r"``restored``: .*: iqa-export --model dri --restored"):
        Scorer(artefacts.mean(), restored=True)
    with Scorer(artefacts.restoring()) as scorer:
        assert scorer.score(noise(40, 40)).restored is None


def test_every_argument_travels_with_a_scorer(artefacts: Any) -> None:
    with Scorer(artefacts.mean()) as scorer:
        _, (_, _, arguments) = scorer.__reduce__()
    assert {"self", "artefact", "trust", *arguments} == set(inspect.signature(Scorer.__init__).parameters)


def test_options_of_commands_are_arguments_of_a_scorer() -> None:
    assert BackendOptions(threads=3).arguments() == {"backend": None, "device": None, "precision": None, "threads": 3}
    assert BackendOptions().arguments().keys() <= inspect.signature(Scorer.__init__).parameters.keys()
