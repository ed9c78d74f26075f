"""The public API: an artefact opened for scoring."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from iqa_runtime.arguments import check_given, check_number, check_path, check_seconds, check_type
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.backends import Backend, GraphSpec, choose_backend
from iqa_runtime.contract import Contract, FileDigest, PatchPlan, Resize
from iqa_runtime.cpu import available_cpus
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, Source, check_frame
from iqa_runtime.results import Score
from iqa_runtime.scoring.patch_plans import choose_patch_plan, format_patch_plan
from iqa_runtime.scoring.pipeline import Pipeline
from iqa_runtime.scoring.preparation import Preparer, is_source, paired, prefetch
from iqa_runtime.scoring.resizing import choose_resize, format_resize, with_resize

MAX_THREADS = 1024
"""More than the cores of any host: beyond it, a mistyped number would only take memory."""

_AHEAD = 4
"""Images read ahead for each thread where little waits of each: with fewer, a large one holds the model up."""

MAX_BATCH_SIZE = 4096
"""The backend cuts batches into small runs anyway, so larger ones would only take memory."""

MAX_PREVIEW = 4096
"""Pixels; more is no small copy."""

_KEY_DIGITS = 12
"""Hexadecimal digits of a digest that tell artefacts apart: among a million of them, two meet once in 560 times."""


class Scorer:
    """Scores images with one artefact.

    The same file, artefact and host give the same bits, whatever the batch size, the number of threads, the order of
    images and their neighbours. Safe to use from several threads at once. Nothing global is touched: no thread settings
    of other libraries, no loggers, no environment.

    Parameters
    ----------
    artefact
        An ``.onnx`` or ``.plan`` file written by ``iqa-export``, or the name of a bundled one: ``edge-nr`` (also
        ``edge``), ``edge-fr``, ``cvrkd-edge-set`` (also ``cvrkd-edge``), ``cvrkd-edge-any``, ``dri-edge``,
        ``mfe-edge``, ``lpips``; or what `iqa_runtime.artefacts.opening.open_artefact` has opened.
    backend
        Name of the backend, or a subclass of `iqa_runtime.backends.Backend`; None for the best one here, by the rule of
        `iqa_runtime.backends.choose_backend`.
    device
        Where to run, in the backend's words: ``cpu``, ``cuda``, ``cuda:1``. What is asked for is what is used, or an
        error. None for ``cpu``, and for ``cuda`` where the artefact is an engine.
    precision
        What operators on floats shall compute in: ``float32``, or ``bfloat16`` (OpenVINO only), whose scores differ.
        None for what the artefact was judged in.
    threads
        On the CPU so many items (crops, or P crops taken as one) run at once, each on one thread: splitting an item
        over threads would make the last bits of its score depend on their number. As many decoders work ahead. None
        for the CPUs this process may use, cgroup quotas included. Each takes memory for the activations of one item.
        At most `MAX_THREADS`.
    batch_size
        Items handed to the backend at a time, gathered across images; None for as many as it works on at once. At most
        `MAX_BATCH_SIZE`. Whole pictures at their own size are handed over one at a time, whatever it is.
    crops
        Patch plan instead of the contract's: a `PatchPlan`, or its text as in
        `iqa_runtime.scoring.patch_plans.parse_patch_plan`.
    resize
        How pictures and references are resized before crops are cut or they are taken whole, instead of the contract's
        way: a `Resize`, or its text as in `iqa_runtime.scoring.resizing.parse_resize`, where ``none`` leaves them as
        they are. What takes whole pictures of a fixed size takes another filter alone.
    maps
        Whether results have a quality map.
    restored
        Whether results have the restored image.
    preview
        Longest side, in pixels, of a small copy of each picture, and of its reference, that results have to show them;
        at most `MAX_PREVIEW`. None for none. Whole pictures are decoded then, where otherwise the rows of crops may do.
    pixel_limit
        Most pixels an image may have; checked before decoding. Of whole pictures at their own size, the model works on
        so many pixels at once, over all threads.
    frame
        ``first``: of files of several images, such as animations, the first is scored. None: they are errors.
    timeout
        Seconds that an image may take from when its decoding begins, without the time it waits for its turn; None for
        any time. One that takes longer has an error instead of a score, and the others go on. A decoder cannot be
        interrupted: it ends by itself in a thread of its own, see `overdue`; the model is looked at between batches.
    measure
        Whether results have `Score.measures`. Costs time and memory for each image, which is decoded whole for it; no
        score changes.
    trust
        Public key (PEM, Ed25519) that must have signed the engine; None to take an engine from anybody.

    Raises
    ------
    FileError
        If the artefact, or the reference encoder beside it, cannot be read.
    ArtefactError
        If it is no artefact, or differs from its contract.
    UsageError
        If arguments are out of range or don't suit the artefact.
    BackendError
        If the device is not there.
    DependencyError
        If the backend's library is missing or broken.

    Warns
    -----
    UserWarning
        If the artefact was made for another backend than the one that runs it, or judged in another precision.

    Examples
    --------
    >>> with Scorer("yoto.onnx") as scorer:  # doctest: +SKIP
    ...     print(scorer.score("photo.jpg"))
    photo.jpg: 0.7312 in [0, 1], higher is better
    """

    def __init__(
        self,
        artefact: str | os.PathLike[str] | Artefact,
        *,
        backend: str | type[Backend] | None = None,
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
        crops: str | PatchPlan | None = None,
        resize: str | Resize | None = None,
        maps: bool = False,
        restored: bool = False,
        preview: int | None = None,
        pixel_limit: int = DEFAULT_PIXEL_LIMIT,
        frame: Frame | None = None,
        timeout: float | None = None,
        measure: bool = False,
        trust: str | os.PathLike[str] | None = None,
    ) -> None:
        check_number("threads", threads, most=MAX_THREADS)
        check_number("batch_size", batch_size, most=MAX_BATCH_SIZE)
        check_number("preview", preview, most=MAX_PREVIEW)
        check_given("pixel_limit", pixel_limit)
        check_number("pixel_limit", pixel_limit)
        check_frame(frame)
        check_seconds("timeout", timeout)
        check_type("crops", crops, "a PatchPlan or its text", str, PatchPlan)
        check_type("resize", resize, "a Resize or its text", str, Resize)
        check_type("maps", maps, "True or False", bool)
        check_type("restored", restored, "True or False", bool)
        check_type("measure", measure, "True or False", bool)
        check_path("trust", trust)
        if isinstance(artefact, Artefact):
            if trust is not None:
                raise UsageError(f"{artefact.path}: it is open already; give ``trust`` where it is opened")
        else:
            check_given("artefact", artefact)
            check_path("artefact", artefact)
            artefact = open_artefact(artefact, trust=trust)
        self._contract = artefact.contract
        self._opened_from = (
            artefact.path.absolute(),
            {
                "backend": backend,
                "device": device,
                "precision": precision,
                "threads": threads,
                "batch_size": batch_size,
                "crops": crops,
                "resize": resize,
                "maps": maps,
                "restored": restored,
                "preview": preview,
                "pixel_limit": pixel_limit,
                "frame": frame,
                "timeout": timeout,
                "measure": measure,
            },
        )
        self._file = FileDigest(file=artefact.path.name, sha256=artefact.graph.sha256)
        choice = choose_backend(artefact, backend, device=device, precision=precision)
        if choice.complaint is not None:
            warnings.warn(f"{artefact.path}: {choice.complaint}", stacklevel=2)
        self._patch_plan = choose_patch_plan(artefact.path, self._contract, crops)
        self._threads = threads or min(available_cpus(), MAX_THREADS)
        self._device, self._precision = choice.device, choice.precision
        self._backend = choice.create(artefact.graph, GraphSpec.of_artefact(self._contract), threads=self._threads)
        self._encoder = None
        if artefact.encoder is not None:
            spec = GraphSpec.of_reference_encoder(self._contract)
            self._encoder = choice.create(artefact.encoder, spec, threads=self._threads)
        at_once = self._backend.items_per_run * self._backend.concurrent_runs
        self._batch_size = 1 if self._contract.has_own_size else batch_size or at_once
        self._resize, self._frame = choose_resize(self._contract, resize), frame
        resized = with_resize(self._contract, self._resize)
        self._preparer = Preparer(
            resized,
            self._patch_plan,
            pixel_limit=pixel_limit,
            timeout=timeout,
            frame=frame,
            measure=measure,
            preview=preview,
        )
        self._pipeline = Pipeline(
            self._contract,
            self._backend,
            self._encoder,
            batch_size=self._batch_size,
            pixel_limit=pixel_limit,
            artefact=self.artefact_key,
            maps=maps,
            restored=restored,
            timeout=timeout,
        )
        # A restored image shows the picture itself where no crop lies.
        self._crops_alone = not restored
        self._is_open = True
        try:
            self._backend.activate()
            if self._encoder is not None:
                self._encoder.activate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the arguments; there the artefact is opened again, and must be the same file."""
        self._check_open()
        path, arguments = self._opened_from
        return _reopened, (path, self._file.sha256, arguments)

    @property
    def contract(self) -> Contract:
        """What the artefact is and what its score means."""
        return self._contract

    @property
    def file(self) -> FileDigest:
        """The artefact's file: its name, and the SHA-256 of its bytes."""
        return self._file

    @property
    def artefact_key(self) -> str:
        """What decides scores beside the pictures, in short: the `artefact` of every `Score`."""
        own = choose_resize(self._contract, None)
        resized = [] if self._resize == own else [format_resize(self._resize)]
        computed_in = [] if self._precision == "float32" else [self._precision]
        return ":".join([self._file.sha256[:_KEY_DIGITS], format_patch_plan(self._patch_plan), *resized, *computed_in])

    @property
    def patch_plan(self) -> PatchPlan:
        """The patch plan in use."""
        return self._patch_plan

    @property
    def frame(self) -> Frame | None:
        """Which image of a file of several is scored; None if it is an error."""
        return self._frame

    @property
    def resize(self) -> Resize | None:
        """How pictures are resized before crops are cut; None if they stay as they are."""
        return self._resize

    @property
    def backend_name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    @property
    def provider(self) -> str:
        """What the backend's library runs on, such as ``CPUExecutionProvider``."""
        return self._backend.provider

    @property
    def device(self) -> str:
        """Device in use, in the backend's words."""
        return self._device

    @property
    def precision(self) -> str:
        """What operators on floats compute in: ``float32`` or ``bfloat16``."""
        return self._precision

    @property
    def threads(self) -> int:
        """CPU threads in use."""
        return self._threads

    @property
    def batch_size(self) -> int:
        """Items handed to the backend at a time."""
        return self._batch_size

    @property
    def overdue(self) -> int:
        """Images that are still being decoded though their time (`timeout`) was over.

        At most `iqa_runtime.scoring.time_limits.MAX_OVERDUE`. At that number no other image is begun: it waits as long
        as the limit is for one of them to end, and fails if none does. Where the number stays, threads stand still
        that nothing can end, on a dead network share for instance, and the process is to be replaced.
        """
        return self._preparer.overdue

    def score(self, image: Source, reference: Source | None = None) -> Score:
        """Score one image.

        Parameters
        ----------
        image
            Path, bytes of an encoded image, or uint8 array of shape H x W x 3 in RGB order.
        reference
            What to compare it with, likewise; for artefacts that take a reference, and only for those.

        Raises
        ------
        FileError, ImageError
            If an image cannot be read or decoded, or its time is over.
        UsageError
            If a reference is missing, superfluous or of another size than the image, or the scorer is closed.
        BackendError
            If the model fails or says something that is no score.
        """
        self._check_open()
        self._check_reference(has_reference=reference is not None)
        result = next(self._pipeline.score([self._preparer.prepare(image, reference, crops_alone=self._crops_alone)]))
        if result.error is not None:
            raise result.error
        return result

    def score_many(
        self, images: Iterable[Source], references: Source | Iterable[Source | None] | None = None
    ) -> Iterator[Score]:
        """Score a stream of images, decoding the next ones while the model runs.

        Images are taken ahead of the result being computed: one for each thread, or four where little waits of each,
        because its crops are few and neither a reference nor the restored image goes with them; and those with crops
        in the batch that is being filled and the two under way. So memory stays bounded for streams of any length.
        Arrays must stay as they are until their result has come. For live frames, `score` has no delay.
        Close the iterator (or drop it) to stop early.

        Parameters
        ----------
        images
            Sources as in `score`.
        references
            One source for all images, or one for each.

        Yields
        ------
        Score
            One for every image, in order. What is wrong with one image is the `error` of its result.

        Raises
        ------
        UsageError
            If a reference is missing or superfluous, there are fewer or more references than images, or the scorer is
            closed.
        """
        self._check_open()
        self._check_reference(has_reference=references is not None)
        if is_source(images):
            raise UsageError("score_many takes several images; give a list, or use score for one")
        return self._stream(images, references)

    def close(self) -> None:
        """Free the model; the scorer cannot be used after. Nothing happens if it is closed."""
        self._is_open = False
        self._backend.deactivate()
        if self._encoder is not None:
            self._encoder.deactivate()

    def _stream(self, images: Iterable[Source], references: Source | Iterable[Source | None] | None) -> Iterator[Score]:
        ahead = self._threads * (_AHEAD if self._crops_alone and self._preparer.crops_are_small else 1)
        prepare = partial(self._preparer.prepare, crops_alone=self._crops_alone)
        pairs = prefetch(lambda pair: prepare(*pair), paired(images, references), self._threads, ahead)
        try:
            yield from self._pipeline.score(pairs)
        except KeyboardInterrupt as interrupt:
            pairs.throw(interrupt)  # closed, it would wait for its threads
        finally:
            pairs.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise UsageError("this Scorer is closed; open the artefact again")

    def _check_reference(self, *, has_reference: bool) -> None:
        if has_reference == self._contract.needs_reference:
            return
        model = f"{self._contract.model}, {self._contract.task}"
        if not has_reference:
            raise UsageError(f"this artefact ({model}) compares with a reference image; give one as ``reference``")
        if self._contract.baked_reference is not None:
            raise UsageError(
                f"this artefact has its reference inside ({self._contract.baked_reference.file}); give no other one"
            )
        raise UsageError(f"this artefact ({model}) takes no reference; leave ``reference`` out")


def _reopened(path: Path, digest: str, arguments: dict[str, Any]) -> Scorer:
    artefact = open_artefact(path)
    if artefact.graph.sha256 != digest:
        raise ArtefactError(f"{path}: another file than the one that was opened first; open it again")
    return Scorer(artefact, **arguments)
