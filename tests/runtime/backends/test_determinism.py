"""Same file, same artefact, same host: the same bits, whatever the batch size, threads, order and neighbours."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime import Scorer

Noise = Callable[..., NDArray[np.uint8]]

LOSSLESS = {".png": [], ".bmp": [], ".tiff": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}
"""Formats that keep every pixel; a WebP quality above 100 is OpenCV's way to ask for that."""


@pytest.fixture
def sources(noise: Noise, save_png: Any, tmp_path: Path) -> list[Path]:
    sizes = [(32, 32), (40, 91), (77, 50), (20, 60), (64, 64), (101, 33), (48, 48)]
    return [save_png(tmp_path / f"{index}.png", noise(*size, index)) for index, size in enumerate(sizes)]


def numbers(score: Any) -> tuple[str, ...]:
    """Return every crop's and the image's number as exact text."""
    return tuple(value.hex() for value in (score.value, *score.patch_scores))


def bits(scores: Any) -> dict[str, tuple[str, ...]]:
    """Return the numbers of each image, by path."""
    return {score.path: numbers(score) for score in scores}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_scores_do_not_depend_on_how_they_are_made(
    artefacts: Any, sources: list[Path], batch_size: int, threads: int
) -> None:
    path = artefacts.deep()
    with Scorer(path, batch_size=1, threads=1) as scorer:
        expected = bits(scorer.score(source) for source in sources)
    order = np.random.default_rng(batch_size).permutation(len(sources))
    with Scorer(path, batch_size=batch_size, threads=threads) as scorer:
        assert bits(scorer.score_many(sources)) == expected
        assert bits(scorer.score_many([sources[index] for index in order])) == expected
        assert bits(scorer.score(source) for source in reversed(sources)) == expected
    assert len({values[0] for values in expected.values()}) == len(sources)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_pixels_have_the_same_bits_whatever_holds_them(
    artefacts: Any, noise: Noise, tmp_path: Path, threads: int
) -> None:
    path, image = artefacts.deep(), noise(61, 83)
    sources: list[Any] = [image, image[::-1].copy()[::-1], np.asfortranarray(image), np.pad(image, 2)[2:-2, 2:-2, 2:-2]]
    for suffix, options in LOSSLESS.items():
        encoded, content = cv2.imencode(suffix, image[..., ::-1], options)
        assert encoded
        file = tmp_path / f"image{suffix}"
        file.write_bytes(content.tobytes())
        sources += [file, str(file), file.read_bytes()]
    with Scorer(path, batch_size=1, threads=1) as scorer:
        expected = numbers(scorer.score(image))
    with Scorer(path, batch_size=4, threads=threads) as scorer:
        assert {numbers(score) for score in scorer.score_many(sources)} == {expected}
        assert {numbers(scorer.score(source)) for source in sources} == {expected}


def test_a_scorer_opened_again_has_the_same_bits(artefacts: Any, sources: list[Path]) -> None:
    path = artefacts.deep()
    made = []
    for _ in range(3):
        with Scorer(path, threads=2) as scorer:
            made.append(bits(scorer.score_many(sources)))
    assert made[0] == made[1] == made[2]


def test_streams_of_several_callers_have_the_same_bits(artefacts: Any, sources: list[Path]) -> None:
    path = artefacts.deep()
    with Scorer(path, batch_size=1, threads=1) as scorer:
        expected = bits(scorer.score(source) for source in sources)
    with Scorer(path, batch_size=3, threads=2) as scorer, ThreadPoolExecutor(4) as callers:
        streams = callers.map(lambda turn: bits(scorer.score_many(sources[turn:] + sources[:turn])), range(4))
        assert all(found == expected for found in streams)


@pytest.mark.parametrize("per_item", [0, 4])
def test_a_cached_reference_changes_no_bit(artefacts: Any, sources: list[Path], per_item: int) -> None:
    path = artefacts.cached(per_item=per_item)
    crops = "random:8:1"
    with Scorer(path, crops=crops, batch_size=1, threads=1) as scorer:
        expected = bits(scorer.score(source, sources[0]) for source in sources)
    for batch_size in (3, 8):
        with Scorer(path, crops=crops, batch_size=batch_size, threads=2) as scorer:
            assert bits(scorer.score_many(sources, sources[0])) == expected
            assert bits(scorer.score_many(sources, sources[0])) == expected


def test_maps_do_not_depend_on_the_batch(artefacts: Any, sources: list[Path]) -> None:
    path = artefacts.mapped()
    made = []
    for batch_size, threads in ((1, 1), (3, 2), (8, 1)):
        with Scorer(path, crops="grid:10", maps=True, batch_size=batch_size, threads=threads) as scorer:
            made.append([score.map for score in scorer.score_many(sources)])
    for maps in zip(*made, strict=True):
        for other in maps[1:]:
            np.testing.assert_array_equal(other, maps[0])


def test_asking_for_maps_does_not_change_the_score(artefacts: Any, sources: list[Path]) -> None:
    path = artefacts.mapped()
    with Scorer(path) as plain, Scorer(path, maps=True) as mapped:
        assert bits(plain.score_many(sources)) == bits(mapped.score_many(sources))
