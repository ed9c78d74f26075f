"""Measure an artefact on this host: how long an image takes and where, how many crops a second, and of what possible.

Stages are timed one by one on the same image; in `Scorer.score_many` decoding goes on beside the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends import Backend, Signature, choose_backend
from iqa_runtime.backends.tensorrt import TensorRtBackend
from iqa_runtime.backends.tensorrt_worker import StageTimes
from iqa_runtime.bench_host import Host, Machine, describe_host, measure_machine
from iqa_runtime.bundled import find_artefact
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.crops import CropInput
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.images import DEFAULT_PIXEL_LIMIT, load_image
from iqa_runtime.patches import format_plan
from iqa_runtime.preparation import Preparer, Subject
from iqa_runtime.scorer import Scorer

BATCH_SIZES = (1, 2, 4, 8, 16)
MAX_BATCH = 1024
_LEAST_ROUNDS, _MOST_ROUNDS, _WARM_UP_ROUNDS = 5, 10_000, 2
_WIDTH, _HEIGHT = 1920, 1080
_JPEG_QUALITY, _REFERENCE_QUALITY = 90, 98


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Times of many rounds, in milliseconds: percentiles, and how many rounds they are of."""

    p50: float
    p90: float
    p99: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of the work on one image.

    Attributes
    ----------
    name
        ``image`` is all of it, from encoded bytes to the score; the others are its parts.
    what
        What was done, in words.
    times
        Of it.
    traffic
        Bytes it reads and writes in memory at least; None where that says nothing.
    bandwidth_share
        `traffic` in the median time, as a share of the machine's bandwidth; above 1 where data stay in caches.
    """

    name: str
    what: str
    times: Spread
    traffic: int | None = None
    bandwidth_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """The model alone at one batch size.

    Attributes
    ----------
    items
        In the batch; of one crop each, or of several where the artefact takes several as one.
    times
        Of one batch.
    crops_per_second
        At the median.
    gflops
        10^9 floating-point operations a second in convolutions and matrix products; None if their number is not known.
    peak_share
        `gflops` as a share of the machine's peak.
    bandwidth_share
        What must be moved at least, which is the weights once a run, inputs and outputs, as a share of its bandwidth.
    """

    items: int
    times: Spread
    crops_per_second: float
    gflops: float | None
    peak_share: float | None
    bandwidth_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """All that was measured, and on what; see the parts.

    Attributes
    ----------
    artefact, model, precision, trained
        What was measured: file and digest, name of model, variant and task, precision and target, whether trained.
    backend, provider, device, threads
        What ran it.
    image, crops
        Size and coding of the image, and the patch plan.
    crops_per_image
        Crops of that image.
    items_per_run
        Items in every run of the backend, whatever the batch.
    gmac
        10^9 multiply-accumulates of one item; None if not known.
    """

    artefact: FileDigest
    model: str
    precision: str
    trained: bool
    backend: str
    provider: str
    device: str
    threads: int
    image: str
    crops: str
    crops_per_image: int
    items_per_run: int
    gmac: float | None
    machine: Machine
    stages: tuple[Stage, ...]
    batches: tuple[BatchRow, ...]
    host: Host


def measure_artefact(
    artefact: str | Path,
    *,
    image: Path | None = None,
    reference: Path | None = None,
    backend: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    crops: str | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 2.0,
    gmac: float | None = None,
    bandwidth: float | None = None,
    peak: float | None = None,
) -> BenchReport:
    """Measure an artefact.

    Parameters
    ----------
    artefact, backend, device, precision, threads, crops
        As in `iqa_runtime.Scorer`.
    image
        Image to score; None for a synthetic photograph of 1920 x 1080, as JPEG of quality 90.
    reference
        What it is compared with; needed with an image of one's own if the artefact takes a reference.
    batch_sizes
        In items.
    seconds
        How long each row is repeated; at least five rounds.
    gmac
        10^9 multiply-accumulates of one item, for the share of the peak; None for those in the artefact's contract, if
        they are there.
    bandwidth, peak
        Of a GPU, from its data sheet or another measurement: 10^9 bytes, and 10^9 operations, a second. On the CPU they
        are measured, with NumPy's copies and float32 matrix products.

    Raises
    ------
    UsageError
        If a number is out of range, or the reference is missing or superfluous.
    IqaError
        Whatever opening the artefact and scoring the image raise.
    """
    _check(batch_sizes, seconds, {"gmac": gmac, "bandwidth": bandwidth, "peak": peak})
    path = find_artefact(artefact, reference=reference is not None)
    options: dict[str, Any] = {"backend": backend, "device": device, "precision": precision, "threads": threads}
    with Scorer(path, crops=crops, batch_size=1, **options) as scorer:
        contract, plan, device, threads = scorer.contract, scorer.plan, scorer.device, scorer.threads
        gmac = contract.gmac if gmac is None else gmac
        sources = _sources(contract, image, reference)
        whole = Stage(
            name="image",
            what="all of it, from encoded bytes to the score",
            times=_repeat(lambda: scorer.score(*sources), seconds),
        )
    preparer = Preparer(contract, plan, pixel_limit=DEFAULT_PIXEL_LIMIT)
    prepared = preparer.prepare(*sources)
    if prepared.subject is None:
        raise prepared.error or UsageError("the image cannot be prepared; give another one")
    machine = measure_machine(threads) if device == "cpu" else Machine(bandwidth=None, peak=None)
    machine = Machine(bandwidth=bandwidth or machine.bandwidth, peak=peak or machine.peak)
    choice = choose_backend(path, contract, backend, device=device, precision=precision)
    with choice.create(path, Signature.of_artefact(contract), device=device, threads=threads) as model:
        bench = _Bench(contract, model, machine, seconds=seconds, gmac=gmac, weights=path.stat().st_size)
        stages = (whole, *bench.stages(prepared.subject, sources[0]))
        batches = tuple(bench.batch(items) for items in batch_sizes)
        return BenchReport(
            artefact=FileDigest.of_file(path),
            model=f"{contract.model} {contract.variant} {contract.task}",
            precision=f"{contract.precision} for {contract.target}",
            trained=contract.weights.trained,
            backend=model.name,
            provider=model.provider,
            device=device,
            threads=threads,
            image=f"{prepared.width} x {prepared.height}, " + (str(image) if image else "synthetic JPEG"),
            crops=format_plan(plan),
            crops_per_image=prepared.subject.positions.size // 2,
            items_per_run=model.items_per_run,
            gmac=gmac,
            machine=machine,
            stages=stages,
            batches=batches,
            host=describe_host(),
        )


class _Bench:
    """Times the parts of the work with one active backend."""

    def __init__(
        self,
        contract: Contract,
        model: Backend,
        machine: Machine,
        *,
        seconds: float,
        gmac: float | None,
        weights: int,
    ) -> None:
        self._contract, self._model, self._machine = contract, model, machine
        self._seconds, self._gmac, self._weights = seconds, gmac, weights
        self._random = np.random.default_rng(0)

    def stages(self, subject: Subject, encoded: bytes) -> Iterator[Stage]:
        """Yield decoding, cropping and the model on one image."""
        yield Stage(
            name="decode",
            what=f"{len(encoded)} bytes to pixels",
            times=_repeat(lambda: load_image(encoded), self._seconds),
        )
        crops = [
            CropInput.of_contract(self._contract, tensor.name)
            for tensor in self._contract.inputs
            if tensor.layout != "features"
        ]
        items = len(subject.positions)
        buffers = [crop.buffer(items) for crop in crops]

        def fill() -> None:
            for crop, buffer in zip(crops, buffers, strict=True):
                crop.fill(buffer, subject.image, subject.positions)

        # Every value is read as one byte and written in the type of the buffer.
        traffic = sum(buffer.size + buffer.nbytes for buffer in buffers)
        yield self._stage("patches", f"{subject.positions.size // 2} crops, normalised", fill, traffic)
        feed = self._feed(items)
        moved = self._traffic(feed)
        yield self._stage("model", f"{items} items on {self._model.name}", lambda: self._infer(feed), moved)
        if isinstance(self._model, TensorRtBackend):
            yield from self._device_stages(self._model)

    def batch(self, items: int) -> BatchRow:
        """Time the model at one batch size."""
        feed = self._feed(items)
        times = _repeat(lambda: self._infer(feed), self._seconds)
        rate = 1000 * items / times.p50
        gflops = None if self._gmac is None else 2 * self._gmac * rate
        return BatchRow(
            items=items,
            times=times,
            crops_per_second=rate * self._contract.crops_per_item,
            gflops=gflops,
            peak_share=None if gflops is None else _share(gflops, self._machine.peak),
            bandwidth_share=self._bandwidth_share(self._traffic(feed), times),
        )

    def _device_stages(self, model: TensorRtBackend) -> Iterator[Stage]:
        """Yield what a run spends on the device, by CUDA events."""
        feed = self._feed(model.items_per_run)
        measured: list[StageTimes] = []
        began = perf_counter()
        while _goes_on(len(measured), perf_counter() - began, self._seconds):
            measured.append(model.stage_times(feed))
        for name in ("host_to_device", "compute", "device_to_host"):
            times = _spread([getattr(one, name) / 1000 for one in measured])
            yield Stage(name=name, what=f"a run of {model.items_per_run} items, by CUDA events", times=times)

    def _stage(self, name: str, what: str, work: Callable[[], object], traffic: int) -> Stage:
        times = _repeat(work, self._seconds)
        return Stage(
            name=name,
            what=what,
            times=times,
            traffic=traffic,
            bandwidth_share=self._bandwidth_share(traffic, times),
        )

    def _feed(self, items: int) -> dict[str, NDArray[Any]]:
        return {
            spec.name: self._random.standard_normal((items, *spec.item_shape), dtype=np.float32).astype(spec.dtype)
            for spec in self._model.signature.inputs
        }

    def _infer(self, feed: dict[str, NDArray[Any]]) -> None:
        self._model.infer(feed, [self._contract.score.name])

    def _traffic(self, feed: dict[str, NDArray[Any]]) -> int:
        items = len(next(iter(feed.values())))
        runs = math.ceil(items / self._model.items_per_run)
        return runs * self._weights + sum(tensor.nbytes for tensor in feed.values())

    def _bandwidth_share(self, traffic: int, times: Spread) -> float | None:
        return _share(traffic / times.p50 / 1e6, self._machine.bandwidth)


def _share(value: float, most: float | None) -> float | None:
    return None if most is None else value / most


def _repeat(work: Callable[[], object], seconds: float) -> Spread:
    """Time some work again and again."""
    for _ in range(_WARM_UP_ROUNDS):
        work()
    times: list[float] = []
    while _goes_on(len(times), sum(times), seconds):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return _spread(times)


def _goes_on(rounds: int, spent: float, seconds: float) -> bool:
    return rounds < _LEAST_ROUNDS or (spent < seconds and rounds < _MOST_ROUNDS)


def _spread(seconds: Sequence[float]) -> Spread:
    p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, [50, 90, 99]))
    return Spread(p50=p50, p90=p90, p99=p99, rounds=len(seconds))


def _sources(contract: Contract, image: Path | None, reference: Path | None) -> tuple[bytes, bytes | None]:
    """Return the image as encoded bytes, and the reference if there is one."""
    if image is not None:
        return _bytes(image), None if reference is None else _bytes(reference)
    if reference is not None:
        raise UsageError(f"{reference}: a reference without an image; give both")
    height = int(contract.options.get("baked_height", _HEIGHT))
    width = int(contract.options.get("baked_width", _WIDTH))
    picture = _photograph(height, width)
    other = _jpeg(picture, _REFERENCE_QUALITY) if contract.needs_reference else None
    return _jpeg(picture, _JPEG_QUALITY), other


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the image ({error.strerror}); check the path") from error


def _photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Make a picture with structure at every scale, which takes about as long to decode as a photograph."""
    random = np.random.default_rng(0)
    picture = np.full((height, width, 3), 128, np.float32)
    for cell in (256, 64, 16, 4, 1):
        # Amplitudes that fall with the frequency, as those of natural images do.
        size = (math.ceil(height / cell), math.ceil(width / cell), 3)
        noise = random.standard_normal(size, dtype=np.float32) * 4 * cell**0.4
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _check(batch_sizes: Sequence[int], seconds: float, rates: dict[str, float | None]) -> None:
    if not batch_sizes or not all(1 <= items <= MAX_BATCH for items in batch_sizes):
        raise UsageError(f"batch sizes {list(batch_sizes)}: give one or more of 1 to {MAX_BATCH} items")
    if not 0 < seconds <= 3600:
        raise UsageError(f"seconds is {seconds}; it must be above 0 and at most 3600")
    for name, rate in rates.items():
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError(f"{name} is {rate}; it must be above 0")
