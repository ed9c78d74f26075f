"""References: the three forms of artefact, sizes, caches, the encoder's file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from iqa_runtime import ArtefactError, FileError, PatchPlan, Scorer, UsageError
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.contract import FileDigest, Resize
from iqa_runtime.images.loading import LoadedImage
from iqa_runtime.scoring import references
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import positions
from iqa_runtime.scoring.references import DECODED_REFERENCES, FeatureStore, Reference, ReferenceStore

Noise = Callable[..., NDArray[np.uint8]]
SavePng = Callable[[Path, NDArray[np.uint8]], Path]

# Means of thousands of float32 values summed in another order.
ROUNDING = 1e-6


def crops(image: NDArray[np.uint8], plan: PatchPlan) -> list[NDArray[np.float64]]:
    corners = positions(plan, *image.shape[:2]).tolist()
    return [image[top : top + plan.size, left : left + plan.size] / 255 for top, left in corners]


def expected_differences(
    image: NDArray[np.uint8], reference: NDArray[np.uint8], plan: PatchPlan, *, gray: bool = False
) -> list[float]:
    pairs = zip(crops(image, plan), crops(reference, plan), strict=True)
    return [float(np.abs(a - (b.mean(axis=2, keepdims=True) if gray else b)).mean()) for a, b in pairs]


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of references that were decoded."""
    decoded: list[Any] = []
    original = references.load_judged

    def counted(source: Any, how: Resize | None, **options: Any) -> LoadedImage:
        decoded.append(source)
        return original(source, how, **options)

    monkeypatch.setattr(references, "load_judged", counted)
    return decoded


class Counting(OnnxRuntimeBackend):
    """Counts the runs of reference encoders."""

    encodings: ClassVar[list[Path]]

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        if "reference_features" in outputs:
            self.encodings.append(self.path)
        return super()._run(inputs, outputs)


@pytest.fixture
def counting() -> type[Counting]:
    """Return a backend that has counted nothing yet."""
    Counting.encodings = []
    return Counting


def test_full_reference_crops_lie_at_the_same_places(artefacts: Any, noise: Noise) -> None:
    image, reference = noise(60, 80, 1), noise(60, 80, 2)
    with Scorer(artefacts.difference(), crops="random:6:3") as scorer:
        result = scorer.score(image, reference)
    expected = expected_differences(image, reference, scorer.patch_plan)
    assert result.patch_scores == pytest.approx(expected, rel=ROUNDING)
    assert result.direction == "lower"


def test_full_reference_sizes_must_agree(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.difference()) as scorer:
        (result,) = scorer.score_many([noise(60, 80)], noise(80, 60))
    assert isinstance(result.error, UsageError)
    assert "80 x 60" in str(result.error)
    assert "60 x 80" in str(result.error)


def test_non_aligned_references_are_cropped_by_their_own_size(artefacts: Any, noise: Noise) -> None:
    image, reference = noise(60, 80, 1), noise(90, 50, 2)
    with Scorer(artefacts.difference(task="nar")) as scorer:
        result = scorer.score(image, reference)
    assert result.patch_scores == pytest.approx(expected_differences(image, reference, scorer.patch_plan), rel=ROUNDING)


def test_grids_of_different_size_cannot_be_paired(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.difference(task="nar"), crops="grid") as scorer:
        assert scorer.score(noise(64, 64), noise(64, 64)).patches == 4
        with pytest.raises(UsageError, match=r"4 of the image, 6 of its reference"):
            scorer.score(noise(64, 64), noise(64, 96))


@pytest.mark.parametrize("per_item", [0, 4])
def test_cached_features_meet_the_right_crops(artefacts: Any, noise: Noise, per_item: int) -> None:
    image, reference = noise(60, 80, 1), noise(90, 50, 2)
    plan = PatchPlan(kind="random", size=artefacts.side, count=8, seed=5)
    with Scorer(artefacts.cached(per_item=per_item, patch_plan=plan), batch_size=3) as scorer:
        result = scorer.score(image, reference)
    each = expected_differences(image, reference, plan, gray=True)
    expected = np.reshape(each, (-1, max(per_item, 1))).mean(axis=1)
    assert result.patch_scores == pytest.approx(expected.tolist(), rel=ROUNDING)


def test_a_reference_is_decoded_and_encoded_once(
    artefacts: Any, noise: Noise, save_png: SavePng, tmp_path: Path, decodings: list[Any], counting: type[Counting]
) -> None:
    reference = save_png(tmp_path / "reference.png", noise(70, 70, 9))
    images = [noise(60, 80, seed) for seed in range(6)]
    with Scorer(artefacts.cached(), threads=2, backend=counting) as scorer:
        results = list(scorer.score_many(images, reference))
        again = [scorer.score(image, str(reference)) for image in images]
    assert results == again
    assert len(decodings) == 1
    assert len(counting.encodings) == 5


def test_a_changed_file_is_another_reference(artefacts: Any, noise: Noise, save_png: SavePng, tmp_path: Path) -> None:
    image, path = noise(60, 80), tmp_path / "reference.png"
    with Scorer(artefacts.cached()) as scorer:
        first = scorer.score(image, save_png(path, noise(70, 70, 1))).value
        second = scorer.score(image, save_png(path, noise(70, 71, 2))).value
        assert scorer.score(image, noise(70, 70, 1)).value == first
        assert scorer.score(image, noise(70, 71, 2)).value == second
    assert first != second


def test_a_buffer_filled_again_is_another_reference(artefacts: Any, noise: Noise) -> None:
    image = noise(60, 80)
    for artefact in (artefacts.cached(), artefacts.difference()):
        buffer = noise(60, 80, 1)
        with Scorer(artefact) as scorer:
            first = scorer.score(image, buffer).value
            kept = buffer.copy()
            buffer[...] = noise(60, 80, 2)
            assert scorer.score(image, buffer).value != first
            assert scorer.score(image, kept).value == first


def test_few_references_stay_decoded(noise: Noise, save_png: SavePng, tmp_path: Path, decodings: list[Any]) -> None:
    paths = [save_png(tmp_path / f"{index}.png", noise(8, 8, index)) for index in range(DECODED_REFERENCES + 1)]
    store = ReferenceStore(pixel_limit=1000, resize=None)
    for path in paths:
        assert store.get(path) is store.get(path)
    for path in paths[1:]:
        store.get(path)
    assert decodings == paths
    store.get(paths[0])
    assert decodings == [*paths, paths[0]]


def test_the_feature_store_is_bounded_and_right_all_the_same(
    artefacts: Any, noise: Noise, counting: type[Counting]
) -> None:
    artefact = open_artefact(artefacts.cached())
    assert artefact.encoder is not None
    row, side = artefacts.side**2 * 4, artefacts.side
    image = noise(side, 9 * side)
    corners = np.array([[[0, side * index]] for index in range(9)])
    expected = [image[:, side * index : side * (index + 1)].mean(axis=2) / 255 for index in range(9)]
    spec = GraphSpec.of_reference_encoder(artefact.contract)
    crop = CropInput.of_contract(artefact.contract, "image")
    with counting(artefact.encoder, spec, device="cpu", threads=1) as encoder:
        store = FeatureStore(encoder, crop, capacity=4 * row)
        # Nine at once, of which the last four stay; those; one that was forgotten, beside one that was not; the latter.
        for wanted, encoded in ((range(9), 9), (range(5, 9), 0), ((0, 8), 1), ((8, 0), 0)):
            before = len(counting.encodings)
            out = np.empty((len(wanted), 1, side, side), np.float32)
            store.fill(out, Reference(image, *image.shape[:2]), corners[list(wanted)])
            np.testing.assert_allclose(out[:, 0], [expected[index] for index in wanted], rtol=ROUNDING)
            assert len(counting.encodings) - before == encoded


def test_equal_bytes_of_another_shape_are_another_reference(artefacts: Any, noise: Noise) -> None:
    side = artefacts.side
    image, tall = noise(side, 2 * side, 1), noise(2 * side, side, 2)
    wide = tall.reshape(side, 2 * side, 3)
    path = artefacts.cached()
    with Scorer(path, crops="grid") as scorer:
        expected = scorer.score(image, wide)
    with Scorer(path, crops="grid") as scorer:
        scorer.score(image, tall)
        assert scorer.score(image, wide) == expected


def test_one_reference_for_each_image(artefacts: Any, noise: Noise) -> None:
    images = [noise(60, 80, seed) for seed in range(4)]
    others = [noise(60, 80, 10 + seed) for seed in range(4)]
    with Scorer(artefacts.difference()) as scorer:
        together = list(scorer.score_many(images, iter(others)))
        assert together == [scorer.score(*pair) for pair in zip(images, others, strict=True)]


def test_a_bad_reference_is_the_error_of_its_image(artefacts: Any, noise: Noise, tmp_path: Path) -> None:
    image = noise(60, 80)
    with Scorer(artefacts.difference(), threads=2) as scorer:
        results = list(scorer.score_many([image] * 4, [image, tmp_path / "missing.png", None, image]))
    assert [type(result.error) for result in results] == [type(None), FileError, UsageError, type(None)]
    assert results[0].value == results[3].value == 0


def test_references_where_none_belongs_and_none_where_one_does(artefacts: Any, noise: Noise) -> None:
    image = noise(64, 80)
    with Scorer(artefacts.mean()) as scorer:
        with pytest.raises(UsageError, match="takes no reference"):
            scorer.score(image, image)
        with pytest.raises(UsageError, match="takes no reference"):
            scorer.score_many([image], image)
    with Scorer(artefacts.difference()) as scorer:
        with pytest.raises(UsageError, match="give one as ``reference``"):
            scorer.score(image)
        with pytest.raises(UsageError, match="give one as ``reference``"):
            scorer.score_many([image])
    with Scorer(artefacts.baked()) as scorer, pytest.raises(UsageError, match=r"clean\.png"):
        scorer.score(image, image)


def test_a_baked_full_reference_fixes_crops_and_size(artefacts: Any, noise: Noise) -> None:
    path = artefacts.baked(width=80, height=64)
    image = noise(64, 80)
    with Scorer(path) as scorer:
        result = scorer.score(image)
        with pytest.raises(UsageError, match=r"64 x 80.*80 x 64"):
            scorer.score(noise(80, 64))
    assert result.patches == 5
    assert result.value == pytest.approx(
        np.mean([crop.mean() for crop in crops(image, scorer.patch_plan)]), rel=ROUNDING
    )
    with pytest.raises(UsageError, match="fixed"):
        Scorer(path, crops="random:10")


def test_the_encoder_must_be_the_one_of_the_export(artefacts: Any) -> None:
    path = artefacts.cached()
    encoder = path.with_suffix(".reference.onnx")
    content = encoder.read_bytes()
    changed = onnx.load_model_from_string(content)
    changed.graph.name = "another"
    encoder.write_bytes(changed.SerializeToString())
    with pytest.raises(ArtefactError, match="two files of one export"):
        Scorer(path)
    encoder.unlink()
    with pytest.raises(FileError, match="both files"):
        Scorer(path)


@pytest.mark.parametrize("file", [None, "../cached.reference.onnx", "/etc/passwd", "C:\\x.onnx", "", ".."])
def test_the_encoder_lies_beside_the_artefact(artefacts: Any, file: str | None) -> None:
    digest = None if file is None else FileDigest(file=file, sha256="0" * 64)
    with pytest.raises(ArtefactError, match=r"at `\$\.reference_encoder"):
        Scorer(artefacts.cached(reference_encoder=digest))
