"""From prepared images to scores: crops of many images share batches, memory stays bounded, order stays as given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends import Backend
from iqa_runtime.backends.running import Running
from iqa_runtime.contract import Contract
from iqa_runtime.crops import CropInput
from iqa_runtime.errors import BackendError, IqaError, UsageError
from iqa_runtime.kernels import aligned_empty
from iqa_runtime.maps import MapAccumulator, RestoredAccumulator
from iqa_runtime.preparation import Prepared, Subject, without_frames
from iqa_runtime.references import FeatureStore
from iqa_runtime.results import Score

_UNDER_WAY = 2
"""Batches that the backend has at a time: one it works on, one to go on with while the next is being filled."""


class _Tally:
    """What is known so far about one image."""

    def __init__(
        self, prepared: Prepared, items: int, area: MapAccumulator | None, picture: RestoredAccumulator | None
    ) -> None:
        self.path, self.width, self.height = prepared.path, prepared.width, prepared.height
        self.seconds, self.error = prepared.seconds, prepared.error
        self.items = items
        self.scores: list[float] = []
        self.map = area
        self.restored = picture

    @property
    def is_complete(self) -> bool:
        return self.error is not None or len(self.scores) == self.items


class _Batch:
    """Buffers of one batch and, item by item, whose they are: the tally and the position of the first crop."""

    def __init__(self, size: int, backend: Backend) -> None:
        self.size = size
        try:
            self.tensors = {
                spec.name: aligned_empty((size, *spec.item_shape), np.dtype(spec.dtype))
                for spec in backend.signature.inputs
            }
        except (MemoryError, ValueError) as error:  # the latter beyond what an address can count
            raise UsageError(
                f"a batch of {size} items does not fit into memory; choose a smaller batch_size, or fewer threads, "
                "which it follows by default"
            ) from error
        self.owners: list[tuple[_Tally, int, int]] = []


class _Batches:
    """The batches of one call of `Pipeline.score`.

    Attributes
    ----------
    filling
        The one that takes the next items.
    under_way
        Those that the backend has, in the order in which they were begun.
    """

    def __init__(self, size: int, backend: Backend) -> None:
        self._size, self._backend = size, backend
        self._idle: list[_Batch] = []
        self.filling = _Batch(size, backend)
        self.under_way: deque[tuple[_Batch, Running]] = deque()

    def begin(self, outputs: list[str]) -> None:
        """Give the backend what has been filled, and go on with other buffers."""
        batch = self.filling
        items = len(batch.owners)
        inputs = {key: tensor[:items] for key, tensor in batch.tensors.items()}
        self.under_way.append((batch, self._backend.begin(inputs, outputs)))
        self.filling = self._idle.pop() if self._idle else _Batch(self._size, self._backend)

    def reuse(self, batch: _Batch) -> None:
        """Take back a batch that has ended."""
        batch.owners.clear()
        self._idle.append(batch)

    def cancel(self) -> None:
        """End what is under way; nothing will come of it."""
        for _, running in self.under_way:
            running.cancel()


class Pipeline:
    """Everything between a prepared image and its score.

    One pipeline serves any number of threads: a call of `score` has its own buffers.

    Parameters
    ----------
    contract
        Of the artefact.
    backend
        Backend of the artefact's graph, active when `score` is called.
    encoder
        That of the reference encoder, for artefacts with cached reference features.
    batch_size
        Items handed to the backend at a time.
    maps
        Whether to make quality maps.
    restored
        Whether to put together restored images.

    Raises
    ------
    UsageError
        If maps or restored images are wanted and there are none, or a batch does not fit into memory.
    ArtefactError
        If the contract contradicts itself.
    """

    def __init__(
        self,
        contract: Contract,
        backend: Backend,
        encoder: Backend | None,
        *,
        batch_size: int,
        maps: bool,
        restored: bool,
    ) -> None:
        self._contract = contract
        self._backend = backend
        self._batch_size = batch_size
        self._image = CropInput.of_contract(contract, "image")
        self._reference = CropInput.of_contract(contract, "reference") if contract.input("reference") else None
        self._features = None if encoder is None else FeatureStore(encoder, self._image)
        # Memory is taken page by page as it is written to, so this costs nothing and finds out before any work is done.
        _Batch(batch_size, backend)
        self._maps = [output.name for output in contract.maps] if maps else []
        if maps and "quality_map" not in self._maps:
            raise UsageError("this artefact has no quality map; export it with iqa-export --maps")
        if maps and self._image.stacked:
            raise UsageError("this artefact scores several crops as one and has no map of each; leave maps out")
        self._restored = [output.name for output in contract.extras if restored and output.name == "restored"]
        if restored and not self._restored:
            raise UsageError("this artefact restores nothing; export one that does with iqa-export --restored")

    def score(self, images: Iterable[Prepared]) -> Iterator[Score]:
        """Score images in order; while the backend works on a batch or two, the next one is filled.

        A result comes once the batches with crops of its image have ended, or with the next image after that.
        """
        batches = _Batches(self._batch_size, self._backend)
        waiting: deque[_Tally] = deque()
        try:
            for prepared in images:
                waiting.append(self._start(prepared, batches))
                # Held on to, the pixels would stay while the next image is awaited.
                del prepared
                while waiting and waiting[0].is_complete:
                    yield self._result(waiting.popleft())
            self._begin(batches)
            while batches.under_way:
                self._end(batches)
            for tally in waiting:
                yield self._result(tally)
        finally:
            batches.cancel()

    def _start(self, prepared: Prepared, batches: _Batches) -> _Tally:
        """Put all crops of an image into batches, beginning each once it is full."""
        subject = prepared.subject
        if subject is None:
            return _Tally(prepared, 0, None, None)
        area = MapAccumulator(subject.height, subject.width, self._image.side) if self._maps else None
        picture = RestoredAccumulator(subject.image, self._image.side) if self._restored else None
        tally = _Tally(prepared, len(subject.positions), area, picture)
        placed = 0
        while placed < tally.items and tally.error is None:
            batch = batches.filling
            count = min(batch.size - len(batch.owners), tally.items - placed)
            began = perf_counter()
            try:
                self._fill(batch, subject, slice(placed, placed + count))
            except IqaError as error:
                tally.error = without_frames(error)
                break
            corners = subject.positions[placed : placed + count, 0].tolist()
            batch.owners += [(tally, top, left) for top, left in corners]
            placed += count
            tally.seconds += perf_counter() - began
            if len(batch.owners) == batch.size:
                self._begin(batches)
        return tally

    def _fill(self, batch: _Batch, subject: Subject, items: slice) -> None:
        """Write items of one image, and what they are compared with, behind those already in the batch."""
        used = len(batch.owners)
        slots = slice(used, used + items.stop - items.start)
        self._image.fill(batch.tensors["image"][slots], subject.image, subject.cuts[items])
        if subject.reference is None:
            return
        placed = subject.reference_positions[items]
        if self._features is not None:
            self._features.fill(batch.tensors["reference_features"][slots], subject.reference, placed)
        elif self._reference is not None:
            self._reference.fill(batch.tensors["reference"][slots], subject.reference.image, placed)

    def _begin(self, batches: _Batches) -> None:
        """Begin what has been filled; wait for the oldest batch if that makes too many."""
        if not batches.filling.owners:
            return
        batches.begin([self._contract.score.name, *self._maps, *self._restored])
        if len(batches.under_way) > _UNDER_WAY:
            self._end(batches)

    def _end(self, batches: _Batches) -> None:
        """Wait for the oldest batch and hand its values to their images."""
        batch, running = batches.under_way.popleft()
        seconds = 0.0
        try:
            outputs, seconds = running.result()
        except BackendError as error:
            for tally, _, _ in batch.owners:
                tally.error = tally.error or without_frames(error)
        else:
            for index, (tally, top, left) in enumerate(batch.owners):
                self._take(tally, top, left, {key: values[index] for key, values in outputs.items()})
        for tally, _, _ in batch.owners:
            tally.seconds += seconds / len(batch.owners)
        batches.reuse(batch)

    def _take(self, tally: _Tally, top: int, left: int, values: dict[str, NDArray[np.float32]]) -> None:
        """Take the outputs of one item into its image's tally."""
        if tally.error is not None:
            return
        wrong = [name for name, value in values.items() if not np.isfinite(value).all()]
        if wrong:
            tally.error = BackendError(
                f"output {wrong[0]!r} of crop {len(tally.scores) + 1} is not finite; the artefact or its precision is "
                "unsound, export it again as fp32"
            )
            return
        tally.scores.append(float(values[self._contract.score.name]))
        if tally.map is not None:
            tally.map.add(top, left, values["quality_map"], values.get("weight_map"))
        if tally.restored is not None:
            tally.restored.add(top, left, values["restored"])

    def _result(self, tally: _Tally) -> Score:
        score = self._contract.score
        scored = tally.error is None
        return Score(
            path=tally.path,
            # Summed exactly, so that the order of crops could not matter either.
            value=math.fsum(tally.scores) / tally.items if scored else None,
            range=(score.low, score.high),
            higher_is_better=score.higher_is_better,
            trained=self._contract.weights.trained,
            backend=f"{self._backend.name} {self._backend.provider}",
            width=tally.width,
            height=tally.height,
            patches=tally.items * self._image.per_item if scored else 0,
            patch_scores=tuple(tally.scores) if scored else (),
            milliseconds=1000 * tally.seconds,
            map=tally.map.result() if scored and tally.map is not None else None,
            restored=tally.restored.result() if scored and tally.restored is not None else None,
            error=tally.error,
        )
