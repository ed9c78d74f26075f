"""From sources to images with their crops placed: the part of scoring that decoding threads do ahead of the model."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat, zip_longest
from time import perf_counter
from typing import Any, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import ColorSpace, Contract, PatchPlan
from iqa_runtime.errors import ImageError, IqaError, ResourceError, UsageError, one_line, starting_threads
from iqa_runtime.images.header import Band, Frame
from iqa_runtime.images.loading import LoadedImage, Source, load_with_color, source_name
from iqa_runtime.images.named import NamedImage
from iqa_runtime.kernels import resize
from iqa_runtime.kernels.patches_numpy import cut
from iqa_runtime.measuring import Measures, measure, measures_of
from iqa_runtime.scoring.parts import bands_of, region_of, within_bands
from iqa_runtime.scoring.patch_plans import fitted_size, format_patch_plan, positions
from iqa_runtime.scoring.references import Reference, ReferenceStore
from iqa_runtime.scoring.resizing import judged_size, shrunk, target_of
from iqa_runtime.scoring.time_limits import NotBegunError, TimeLimit

_SMALL_BYTES = 4 * 2**20
"""Of the crops of one image, as bytes of pixels: 27 crops of 224 x 224."""

_THREADS = "iqa-decode"

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


def is_source(value: object) -> TypeGuard[Source]:
    """Tell one image from several; an array of four axes is several."""
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, NamedImage)) or (
        isinstance(value, np.ndarray) and value.ndim < 4
    )


def paired(
    images: Iterable[Source], references: Source | Iterable[Source | None] | None
) -> Iterator[tuple[Source, Source | None]]:
    """Give every image its reference, by the rules of `Scorer.score_many`.

    Raises
    ------
    UsageError
        If there are fewer or more references than images.
    """
    if references is None or is_source(references):
        yield from zip(images, repeat(references))
        return
    missing: Any = object()
    several = cast(Iterable[Source | None], references)
    for image, reference in zip_longest(images, several, fillvalue=missing):
        if image is missing or reference is missing:
            fewer = "fewer" if reference is missing else "more"
            raise UsageError(f"there are {fewer} references than images; give one for all, or one for each")
        yield image, reference


def prefetch(
    function: Callable[[_Argument], _Result], arguments: Iterable[_Argument], workers: int, ahead: int
) -> Generator[_Result, None, None]:
    """Yield ``function(argument)`` in order, worked ahead by a pool of threads.

    At most ``ahead + 1`` arguments are taken beyond what was yielded, so that arguments may be endless. Closing the
    generator, or an exception from `arguments` or `function`, cancels what has not begun and ends the threads; only
    Ctrl-C waits for none of them.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=_THREADS)
    begun: deque[Future[_Result]] = deque()
    interrupted = False
    try:
        for argument in arguments:
            with starting_threads():
                begun.append(pool.submit(function, argument))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        # A dropped generator may be ended by the garbage collector, in any thread, and none can wait for itself.
        is_own = threading.current_thread().name.startswith(_THREADS)
        pool.shutdown(wait=not (interrupted or is_own), cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is cropped, and where.

    Attributes
    ----------
    image
        uint8, RGB: the picture at the size it is judged at; or a part of it with all crops, rows with crops one below
        the other, or nothing but its crops.
    height, width
        Of the picture at the size it is judged at.
    item_size
        Height and width of a crop or, of a picture taken whole, as the network takes it.
    positions
        Top left corners of the crops in the picture, shape (items, crops per item, 2).
    cuts
        Their top left corners in `image`, of the same shape.
    reference
        What the image is compared with; None if nothing is, or it is inside the artefact.
    reference_positions
        Of the same shape as `positions`; empty without a reference.
    """

    image: NDArray[np.uint8]
    height: int
    width: int
    item_size: tuple[int, int]
    positions: NDArray[np.int64]
    cuts: NDArray[np.int64]
    reference: Reference | None
    reference_positions: NDArray[np.int64]

    def crops_alone(self) -> Subject:
        """Return the same crops without the rest of the picture.

        What waits for the model is then small. Nothing changes where the crops together are larger than the picture.
        """
        corners, (height, width) = self.cuts.reshape(-1, 2), self.item_size
        if len(corners) * height * width * self.image.shape[2] >= self.image.nbytes:
            return self
        image = np.concatenate([cut(self.image, top, left, height, width) for top, left in corners.tolist()])
        cuts = np.zeros_like(corners)
        cuts[:, 0] = height * np.arange(len(corners))
        return replace(self, image=image, cuts=cuts.reshape(self.cuts.shape))


@dataclass(slots=True)
class Prepared:
    """An image ready to be cropped, or the error that prevents it."""

    path: str | None
    seconds: float = 0.0
    width: int | None = None
    height: int | None = None
    color: str | None = None
    measures: Measures | None = None
    subject: Subject | None = None
    error: IqaError | None = None
    preview: NDArray[np.uint8] | None = None
    reference_preview: NDArray[np.uint8] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "image" if self.path is None else self.path


class Preparer:
    """Decodes images and references and places their crops. Safe to use from several threads.

    Parameters
    ----------
    contract
        Of the artefact.
    patch_plan
        Where crops lie.
    pixel_limit
        Most pixels an image may have.
    frame
        Which image of several is meant.
    timeout
        Seconds that one image and its reference may take; None for any time.
    measure
        Whether images are measured, too.
    preview
        Longest side of what is kept of a picture to show it; None for nothing.

    Raises
    ------
    UsageError
        If the plan's number of crops never makes whole items.
    """

    def __init__(
        self,
        contract: Contract,
        patch_plan: PatchPlan,
        *,
        pixel_limit: int,
        timeout: float | None = None,
        frame: Frame | None = None,
        measure: bool = False,
        preview: int | None = None,
    ) -> None:
        self._contract = contract
        self._measure, self._preview = measure, preview
        self._patch_plan = patch_plan
        self._pixel_limit = pixel_limit
        self._frame: Frame | None = frame
        self._limit = None if timeout is None else TimeLimit(timeout)
        image = contract.input("image")
        self._resize = None if image is None else image.resize
        self._color_space: ColorSpace = "sRGB" if image is None else image.color_space
        self._target = target_of(self._resize, pixel_limit)
        self._references = ReferenceStore(pixel_limit, self._resize, self._color_space, frame)
        if patch_plan.kind != "grid":  # the other kinds give the same number of crops for every image
            self._place(1, 1)

    @property
    def crops_are_small(self) -> bool:
        """Whether the crops of an image, whatever its size, are small enough for many images to wait for the model."""
        plan, shape = self._patch_plan, self._contract.inputs[0].shape
        count = {"five": 5, "center": 1, "whole": 1, "random": plan.count, "uniform": plan.count}.get(plan.kind)
        if self._contract.needs_reference or self._contract.has_own_size or count is None:
            return False
        return 3 * count * int(shape[-2]) * int(shape[-1]) <= _SMALL_BYTES

    @property
    def overdue(self) -> int:
        """How many images are still being decoded though their time is over."""
        return 0 if self._limit is None else self._limit.overdue

    def load(self, source: Source, *, whole: bool = False, crops_alone: bool = False) -> LoadedImage:
        """Decode an image in the colours that the artefact wants; it is not resized yet.

        Parameters
        ----------
        source
            As in `Scorer.score`.
        whole
            Whether it must have the size of its file, even where the artefact allows less.
        crops_alone
            Whether rows without a crop may be left out.

        Raises
        ------
        FileError, ImageError, UsageError
            As `iqa_runtime.images.load_image`, or if it cannot be resized.
        """
        return load_with_color(
            source,
            pixel_limit=self._pixel_limit,
            color_space=self._color_space,
            target=None if whole else self._target,
            bands=self._bands if crops_alone and self._resize is None and self._preview is None else None,
            frame=self._frame,
        )

    def prepare(self, source: Source, reference: Source | None, *, crops_alone: bool = False) -> Prepared:
        """Decode one image, and its reference; what is wrong with them goes into the result.

        An image whose time is over has an error, whatever a decoder still does with it in a thread of its own.

        Parameters
        ----------
        source, reference
            As in `Scorer.score`.
        crops_alone
            Whether the rest of the picture may be forgotten.
        """
        began = perf_counter()
        work = partial(self._prepare, source, reference, crops_alone)
        try:
            prepared = work() if self._limit is None else self._limit.call(work)
        except (TimeoutError, UsageError) as error:
            prepared = _unprepared(source)
            kind = ResourceError if isinstance(error, (NotBegunError, ResourceError)) else ImageError
            prepared.error = kind(f"{prepared.name}: {error}")
        prepared.seconds = perf_counter() - began
        return prepared

    def _prepare(self, source: Source, reference: Source | None, crops_alone: bool) -> Prepared:
        prepared = _unprepared(source)
        try:
            loaded = self.load(source, crops_alone=crops_alone and not self._measure)
            prepared.height, prepared.width, prepared.color = loaded.height, loaded.width, loaded.color
            if self._measure:
                prepared.measures = self._measured(source, loaded)
            if self._preview is not None:
                prepared.preview = shrunk(loaded.pixels, self._preview)
            prepared.subject = self._subject(loaded, reference, crops_alone=crops_alone)
            if self._preview is not None and prepared.subject.reference is not None:
                prepared.reference_preview = prepared.subject.reference.shrunk(self._preview)
            if crops_alone:
                prepared.subject = prepared.subject.crops_alone()
        except IqaError as error:
            prepared.error = without_frames(error)
        except MemoryError:
            prepared.error = ResourceError(f"{prepared.name}: not enough memory for this image; score fewer at a time")
        except ImportError as error:  # a first picture loads its decoder, and that may find no room
            prepared.error = ResourceError(
                f"{prepared.name}: its decoder cannot be loaded ({one_line(error)}); give the process more memory, or "
                "install the package again"
            )
        except Exception as error:
            # A decoder's surprise must cost no other image its score; anything typed was caught above.
            prepared.error = ImageError(
                f"{prepared.name}: cannot be prepared ({type(error).__name__}: {error}); save it again as PNG"
            )
        return prepared

    def _measured(self, source: Source, loaded: LoadedImage) -> Measures:
        """Measure all of a picture in sRGB, whatever part and colours of it the artefact wants."""
        if loaded.pixels.shape[:2] != (loaded.height, loaded.width) or self._color_space != "sRGB":
            return measure(source, pixel_limit=self._pixel_limit, frame=self._frame)
        return measures_of(loaded)

    def _subject(self, loaded: LoadedImage, source: Source | None, *, crops_alone: bool) -> Subject:
        image, height, width = loaded.pixels, loaded.height, loaded.width
        self._check_baked_size(height, width)
        size = judged_size(self._resize, height, width, self._pixel_limit)
        item_size = fitted_size(self._patch_plan, *size)
        placed = cuts = self._place(*size)
        if loaded.bands is not None:
            cuts = within_bands(loaded.bands, placed)
        elif self._resize is not None and size != image.shape[:2]:
            region = region_of(placed, item_size, size) if crops_alone else (0, 0, *size)
            image = resize(image, size, self._resize.filter, region=region)
            cuts = placed - np.array(region[:2])
        subject = Subject(
            image=image,
            height=size[0],
            width=size[1],
            item_size=item_size,
            positions=placed,
            cuts=cuts,
            reference=None,
            reference_positions=placed[:0],
        )
        if not self._contract.needs_reference:
            return subject
        if source is None:
            raise UsageError("this artefact compares with a reference image and none was given for this image")
        reference = self._references.get(source)
        if self._contract.task == "fr":
            _check_equal_sizes(f"{width} x {height}", f"{reference.width} x {reference.height}", "its reference")
        other_placed = self._place(*reference.image.shape[:2])
        if placed.shape != other_placed.shape:
            raise UsageError(
                f"crops {format_patch_plan(self._patch_plan)}: {placed.size // 2} of the image, "
                f"{other_placed.size // 2} of its reference of another size; choose a plan with a fixed "
                "number, such as random:20"
            )
        return replace(subject, reference=reference, reference_positions=other_placed)

    def _bands(self, height: int, width: int) -> list[Band] | None:
        """Return the rows that crops are cut from; None where the rest of the picture is decoded, too."""
        if self._patch_plan.kind == "whole":
            return None
        try:
            return bands_of(self._place(height, width), self._patch_plan.size, height)
        except UsageError:
            return None  # it is said of the image once it is loaded

    def _place(self, height: int, width: int) -> NDArray[np.int64]:
        """Return positions by item: (items, crops per item, 2)."""
        corners = positions(self._patch_plan, height, width)
        per_item = self._contract.crops_per_item
        if len(corners) % per_item:
            raise UsageError(
                f"crops {format_patch_plan(self._patch_plan)}: {len(corners)} crops, but this artefact takes "
                f"{per_item} at a time; choose a multiple, such as "
                f"random:{per_item * math.ceil(len(corners) / per_item)}"
            )
        return corners.reshape(-1, per_item, 2)

    def _check_baked_size(self, height: int, width: int) -> None:
        if self._contract.image_size is not None:
            baked_height, baked_width = self._contract.image_size
            baked = f"{baked_width} x {baked_height}"
            _check_equal_sizes(f"{width} x {height}", baked, "the reference in this artefact")


def _unprepared(source: Source) -> Prepared:
    return Prepared(source_name(source))


def _check_equal_sizes(size: str, other: str, name: str) -> None:
    if size != other:
        raise UsageError(f"image is {size}, {name} {other}; full-reference scores need equal sizes")


def without_frames(error: IqaError) -> IqaError:
    """Drop the tracebacks of an error that will be kept: their frames hold images and file contents."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
