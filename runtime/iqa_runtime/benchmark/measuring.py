"""Measure an artefact on this host: how long an image takes and where, how many crops a second, and of what possible.

Stages are timed one by one on the same image; in `Scorer.score_many` decoding goes on beside the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.backends import Backend, GraphSpec, choose_backend
from iqa_runtime.backends.tensorrt import TensorRtBackend
from iqa_runtime.backends.tensorrt_worker import StageTimes
from iqa_runtime.benchmark.gpu import measure_gpu
from iqa_runtime.benchmark.host import Machine, describe_host, measure_machine
from iqa_runtime.benchmark.image import encoded_images
from iqa_runtime.benchmark.report import BatchRow, BenchReport, Stage
from iqa_runtime.benchmark.timing import Spread, goes_on, repeat
from iqa_runtime.contract import Contract, Precision
from iqa_runtime.errors import UsageError
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.kernels import resize as resized
from iqa_runtime.scorer import Scorer
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import format_patch_plan
from iqa_runtime.scoring.preparation import Preparer, Subject
from iqa_runtime.scoring.resizing import choose_resize, format_resize, with_resize

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Of the model on a CPU, unless others are asked for."""

RUNS_A_BATCH = (1, 2, 4)
"""What batches on a GPU are made of, unless others are asked for: a smaller one costs as much as a full run."""

MAX_BATCH = 1024


def measure_artefact(
    artefact: str | Path | Artefact,
    *,
    image: Path | None = None,
    reference: Path | None = None,
    backend: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    crops: str | None = None,
    resize: str | None = None,
    frame: Frame | None = None,
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 2.0,
    gmac: float | None = None,
    bandwidth: float | None = None,
    peak: float | None = None,
    trust: Path | None = None,
) -> BenchReport:
    """Measure an artefact.

    Parameters
    ----------
    artefact, backend, device, precision, threads, crops, resize, frame, trust
        As in `iqa_runtime.Scorer`.
    image
        Image to score; None for a synthetic photograph of 1920 x 1080, as JPEG of quality 90.
    reference
        What it is compared with; needed with an image of one's own if the artefact takes a reference.
    batch_sizes
        In items. None for `BATCH_SIZES` on a CPU; on a GPU for 1, and for `RUNS_A_BATCH` of the backend's runs. Whole
        pictures at their own size are always one item, as large as the image makes it.
    seconds
        How long each row is repeated; at least five rounds.
    gmac
        10^9 multiply-accumulates of one item, for the share of the peak; None for those in the artefact's contract, if
        they are there.
    bandwidth, peak
        10^9 bytes, and 10^9 operations, a second, from a data sheet or another measurement. None to measure copies, on
        the CPU with NumPy, on a GPU between CUDA events; and for the peak, on the CPU to measure NumPy's float32
        product, on a GPU to take what is published for the artefact's precision, at the highest clock.

    Raises
    ------
    UsageError
        If a number is out of range, or the reference is missing or superfluous.
    IqaError
        Whatever opening the artefact and scoring the image raise.
    """
    _check(batch_sizes, seconds, {"gmac": gmac, "bandwidth": bandwidth, "peak": peak})
    opened = artefact
    if not isinstance(opened, Artefact):
        opened = open_artefact(find_artefact(opened, reference=reference is not None), trust=trust)
    options: dict[str, Any] = {"backend": backend, "device": device, "precision": precision, "threads": threads}
    with Scorer(opened, crops=crops, resize=resize, frame=frame, batch_size=1, **options) as scorer:
        contract = with_resize(scorer.contract, scorer.resize)
        plan, device, threads = scorer.patch_plan, scorer.device, scorer.threads
        gmac = contract.gmac if gmac is None else gmac
        sources = encoded_images(contract, image, reference)
        whole = Stage(
            name="image",
            what="all of it, from encoded bytes to the score",
            times=repeat(lambda: scorer.score(*sources), seconds),
        )
    preparer = Preparer(contract, plan, pixel_limit=DEFAULT_PIXEL_LIMIT, frame=frame)
    prepared = preparer.prepare(*sources)
    if prepared.subject is None:
        raise prepared.error or UsageError("the image cannot be prepared; give another one")
    machine = _machine(device, threads, contract.precision, bandwidth=bandwidth, peak=peak)
    choice = choose_backend(opened, backend, device=device, precision=precision)
    with choice.create(opened.graph, GraphSpec.of_artefact(contract), threads=threads) as model:
        size = prepared.subject.item_size
        bench = _Bench(contract, preparer, model, machine, size, seconds=seconds, gmac=gmac, weights=opened.graph.size)
        stages = (whole, *bench.stages(prepared.subject, sources[0]))
        batches = tuple(bench.batch(items) for items in _batch_sizes(model, batch_sizes))
        whole_size = f" ({size[1]} x {size[0]})" if plan.kind == "whole" else ""
        return BenchReport(
            artefact=scorer.file,
            model=f"{contract.model} {contract.variant} {contract.task}",
            precision=f"{contract.precision} for {contract.target}",
            trained=contract.weights.trained,
            backend=model.name,
            provider=model.provider,
            device=device,
            threads=threads,
            image=f"{prepared.width} x {prepared.height}, " + (str(image) if image else "synthetic JPEG"),
            crops=format_patch_plan(plan) + whole_size,
            resize=format_resize(scorer.resize),
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
        preparer: Preparer,
        model: Backend,
        machine: Machine,
        size: tuple[int, int],
        *,
        seconds: float,
        gmac: float | None,
        weights: int,
    ) -> None:
        self._contract, self._preparer, self._model, self._machine = contract, preparer, model, machine
        self._size = size
        self._seconds, self._gmac, self._weights = seconds, gmac, weights
        self._random = np.random.default_rng(0)

    def stages(self, subject: Subject, encoded: bytes) -> Iterator[Stage]:
        """Yield decoding, cropping and the model on one image."""
        yield self._stage(
            "decode", f"{len(encoded)} bytes to pixels", self._repeat(lambda: self._preparer.load(encoded))
        )
        pixels, size = self._preparer.load(encoded).pixels, (subject.height, subject.width)
        how = choose_resize(self._contract, None)
        if how is not None and size != pixels.shape[:2]:
            what = f"{pixels.shape[1]} x {pixels.shape[0]} to {size[1]} x {size[0]}, {how.filter}"
            yield self._stage("resize", what, self._repeat(lambda: resized(pixels, size, how.filter)))
        crops = [
            CropInput.of_contract(self._contract, tensor.name)
            for tensor in self._contract.inputs
            if tensor.layout != "features"
        ]
        items = len(subject.positions)
        buffers = [crop.buffer(items, self._size) for crop in crops]

        def fill() -> None:
            for crop, buffer in zip(crops, buffers, strict=True):
                crop.fill(buffer, subject.image, subject.positions)

        # Every value is read as one byte and written in the type of the buffer.
        traffic = sum(buffer.size + buffer.nbytes for buffer in buffers)
        count = subject.positions.size // 2
        whole = self._contract.patch_plan.kind == "whole"
        what = f"{self._size[1]} x {self._size[0]}, normalised" if whole else f"{count} crops, normalised"
        patches = self._stage("patches", what, self._repeat(fill), traffic)
        # They are cut on the CPU, so that the bandwidth of a GPU says nothing of them.
        yield patches if self._model.device == "cpu" else replace(patches, bandwidth_share=None)
        feed = self._feed(items)
        what = f"{items} items on {self._model.name}"
        yield self._stage("model", what, self._repeat(lambda: self._infer(feed)), self._traffic(feed))
        if isinstance(self._model, TensorRtBackend):
            yield from self._device_stages(self._model)

    def batch(self, items: int) -> BatchRow:
        """Time the model at one batch size."""
        feed = self._feed(items)
        times = self._repeat(lambda: self._infer(feed))
        gflops, peak_share = self._work(items, times)
        return BatchRow(
            items=items,
            times=times,
            crops_per_second=1000 * items * self._contract.crops_per_item / times.p50,
            gflops=gflops,
            peak_share=peak_share,
            bandwidth_share=self._bandwidth_share(self._traffic(feed), times),
        )

    def _device_stages(self, model: TensorRtBackend) -> Iterator[Stage]:
        """Yield what a run spends on the device, by CUDA events."""
        feed = self._feed(model.items_per_run)
        measured: list[StageTimes] = []
        began = perf_counter()
        while goes_on(len(measured), perf_counter() - began, self._seconds):
            measured.append(model.stage_times(feed))
        what = f"a run of {model.items_per_run} items, by CUDA events"
        for name in ("host_to_device", "compute", "device_to_host"):
            times = Spread.of_seconds([getattr(one, name) / 1000 for one in measured])
            if name == "compute":
                gflops, peak_share = self._work(model.items_per_run, times)
                stage = self._stage(name, what, times, self._traffic(feed))
                yield replace(stage, gflops=gflops, peak_share=peak_share)
            else:  # through the bus of the host, whose rate nobody measured
                yield self._stage(name, what, times)

    def _stage(self, name: str, what: str, times: Spread, traffic: int | None = None) -> Stage:
        share = None if traffic is None else self._bandwidth_share(traffic, times)
        return Stage(name=name, what=what, times=times, traffic=traffic, bandwidth_share=share)

    def _work(self, items: int, times: Spread) -> tuple[float | None, float | None]:
        """Return 10^9 operations a second on so many items at the median time, and their share of the peak."""
        if self._gmac is None:
            return None, None
        gflops = 2 * self._gmac * items / (times.p50 / 1000)
        return gflops, _share(gflops, self._machine.peak)

    def _repeat(self, work: Callable[[], object]) -> Spread:
        return repeat(work, self._seconds)

    def _feed(self, items: int) -> dict[str, NDArray[Any]]:
        return {
            spec.name: self._random.standard_normal((items, *spec.shape_for(self._size)), np.float32).astype(spec.dtype)
            for spec in self._model.spec.inputs
        }

    def _infer(self, feed: dict[str, NDArray[Any]]) -> None:
        self._model.infer(feed, [self._contract.score.name])

    def _traffic(self, feed: dict[str, NDArray[Any]]) -> int:
        items = len(next(iter(feed.values())))
        runs = math.ceil(items / self._model.items_per_run)
        return runs * self._weights + sum(tensor.nbytes for tensor in feed.values())

    def _bandwidth_share(self, traffic: int, times: Spread) -> float | None:
        return _share(traffic / times.p50 / 1e6, self._machine.bandwidth)


def _batch_sizes(model: Backend, wanted: Sequence[int] | None) -> Sequence[int]:
    if model.spec.has_own_size:
        if wanted is not None and max(wanted) > 1:
            raise UsageError(
                f"``batch_sizes={','.join(map(str, wanted))}``: pictures at their own size are run one at a time"
            )
        return [1]
    if wanted is not None:
        return wanted
    if model.device == "cpu":
        return list(BATCH_SIZES)
    sizes = (1, *(runs * model.items_per_run for runs in RUNS_A_BATCH))
    return [items for items in dict.fromkeys(sizes) if items <= MAX_BATCH]


def _share(value: float, most: float | None) -> float | None:
    return None if most is None else value / most


def _machine(
    device: str, threads: int, precision: Precision, *, bandwidth: float | None, peak: float | None
) -> Machine:
    """Return what the device can do: as given, else measured, else published; nothing is measured if both are given."""
    if bandwidth is not None and peak is not None:
        machine = Machine()
    elif device == "cpu":
        machine = measure_machine(threads)
    elif device.startswith("cuda"):
        machine = measure_gpu(device, precision)
    else:  # of another package's backend
        machine = Machine()
    if bandwidth is not None:
        machine = replace(machine, bandwidth=bandwidth, bandwidth_source="given")
    if peak is not None:
        machine = replace(machine, peak=peak, peak_source="given", peak_precision=None)
    return machine


def _check(batch_sizes: Sequence[int] | None, seconds: float, rates: dict[str, float | None]) -> None:
    if batch_sizes is not None and not (batch_sizes and all(1 <= items <= MAX_BATCH for items in batch_sizes)):
        raise UsageError(
            f"``batch_sizes={','.join(map(str, batch_sizes))}``: give one or more of 1 to {MAX_BATCH} items"
        )
    if not 0 < seconds <= 3600:
        raise UsageError(f"``seconds={seconds}``: it must be above 0 and at most 3600")
    for name, rate in rates.items():
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError(f"``{name}={rate}``: it must be above 0")
