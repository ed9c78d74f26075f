"""What a benchmark of an artefact reports."""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.benchmark.host import Host, Machine
from iqa_runtime.benchmark.timing import Spread
from iqa_runtime.contract import FileDigest


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
        `traffic` in the median time, as a share of the machine's bandwidth; above 1 where data stay in caches. None
        where that bandwidth is not known, or is a GPU's and the work the CPU's.
    gflops, peak_share
        Of ``compute``, as in `BatchRow`: on the GPU alone, without the copies from and to the host.
    """

    name: str
    what: str
    times: Spread
    traffic: int | None = None
    bandwidth_share: float | None = None
    gflops: float | None = None
    peak_share: float | None = None


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
        10^9 operations a second in convolutions and matrix products; None if their number is not known.
    peak_share
        `gflops` as a share of the machine's peak.
    bandwidth_share
        What must be moved at least, which is the weights once a run and the inputs, as a share of its bandwidth.
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
    image, crops, resize
        Size and coding of the image, the patch plan, and how the image is resized first.
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
    resize: str
    crops_per_image: int
    items_per_run: int
    gmac: float | None
    machine: Machine
    stages: tuple[Stage, ...]
    batches: tuple[BatchRow, ...]
    host: Host
