"""From prepared images to scores: crops of many images share batches, memory stays bounded, order stays as given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends import Backend
from iqa_runtime.contract import DISTORTIONS, Contract
from iqa_runtime.errors import BackendError, ImageError, IqaError, UsageError
from iqa_runtime.percentiles import percentile
from iqa_runtime.results import Score
from iqa_runtime.scoring.batches import Batch, Batches
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.maps import MapAccumulator, RestoredAccumulator
from iqa_runtime.scoring.pooling import pooled
from iqa_runtime.scoring.preparation import Prepared, Subject, without_frames
from iqa_runtime.scoring.references import FeatureStore
from iqa_runtime.scoring.room import Room

_UNDER_WAY = 2
"""Batches that the backend has while the next is filled: one it works on, one to go on with."""

_WAITING = 64
"""Images that wait for a batch to be filled, beyond those whose crops are in one: files may fail one after another."""

_MOST_DRAWN = 32_000_000
"""Pixels of maps and restored pictures, which are as large as their images and wait with them (8 and 20 bytes a pixel);
beyond it the next batch is filled only once the last has ended."""

_Owner = tuple["_Tally", int, int]
"""Whose an item is: the image's tally, and top and left of the first crop."""


class _Tally:
    """What is known so far about one image."""

    def __init__(
        self, prepared: Prepared, items: int, area: MapAccumulator | None, picture: RestoredAccumulator | None
    ) -> None:
        self.path, self.width, self.height = prepared.path, prepared.width, prepared.height
        self.color, self.seconds, self.error = prepared.color, prepared.seconds, prepared.error
        self.measures = prepared.measures
        self.preview, self.reference_preview = prepared.preview, prepared.reference_preview
        self.items = items
        self.scores: list[float] = []
        self.distortions: list[list[float]] = []
        self.map = area
        self.restored = picture
        subject = prepared.subject if area is not None or picture is not None else None
        self.drawn = 0 if subject is None else subject.height * subject.width

    @property
    def is_complete(self) -> bool:
        return self.error is not None or len(self.scores) == self.items


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
    pixel_limit
        Most pixels of whole pictures at their own size that the backend works on at once; a larger one goes alone.
    artefact
        What results call the artefact with its patch plan, see `iqa_runtime.Score`.
    maps
        Whether to make quality maps.
    restored
        Whether to put together restored images.
    timeout
        Seconds that an image may take, those of its preparation among them; None for any time. The clock stands while
        it waits for its turn, and is looked at between batches.

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
        pixel_limit: int,
        artefact: str,
        maps: bool,
        restored: bool,
        timeout: float | None = None,
    ) -> None:
        self._contract = contract
        self._timeout = math.inf if timeout is None else timeout
        self._backend = backend
        self._batch_size = batch_size
        self._artefact = artefact
        self._image = CropInput.of_contract(contract, "image")
        self._reference = CropInput.of_contract(contract, "reference") if contract.input("reference") else None
        self._features = None if encoder is None else FeatureStore(encoder, self._image)
        self._maps = [output.name for output in contract.maps] if maps else []
        if maps and "quality_map" not in self._maps:
            raise UsageError(
                "``maps``: this artefact has no quality map; export one that has: iqa-export --model NAME --maps"
            )
        if maps and self._image.stacked:
            raise UsageError("``maps``: this artefact scores several crops as one and has no map of each; leave it out")
        self._restored = [output.name for output in contract.extras if restored and output.name == "restored"]
        if restored and not self._restored:
            raise UsageError(
                "``restored``: this artefact restores nothing; export one that does: iqa-export --model dri --restored"
            )
        self._distortions = [output for output in contract.extras if output.name == DISTORTIONS]
        # An encoder runs on the same threads as the network.
        self._under_way = 0 if encoder is not None else _UNDER_WAY
        self._room = None
        if contract.has_own_size:  # each picture is a batch, and every thread may have one
            self._room = Room(pixel_limit)
            self._under_way = backend.concurrent_runs
        # Memory is taken page by page as it is written to, so this costs nothing and finds out before any work is done.
        _ = [Batch[_Owner](batch_size, backend) for _ in range(1 + self._under_way)]

    def score(self, images: Iterable[Prepared]) -> Iterator[Score]:
        """Score images in order, the next batch being filled while the backend works on the last two.

        A result comes with the first image that is taken after the last batch with a crop of its own has ended, or
        when too many batches are under way.
        """
        batches = Batches[_Owner](self._batch_size, self._backend)
        waiting: deque[_Tally] = deque()
        try:
            for prepared in images:
                self._start(prepared, batches, waiting)
                # Held on to, the pixels would stay while the next image is awaited.
                del prepared
                if len(waiting) > _WAITING + (2 + self._under_way) * self._batch_size:
                    self._begin(batches)
                self._collect(batches, self._most_under_way(waiting))
                while waiting and waiting[0].is_complete:
                    yield self._result(waiting.popleft())
            self._begin(batches)
            self._collect(batches, 0)
            for tally in waiting:
                yield self._result(tally)
        finally:
            batches.cancel()

    def _start(self, prepared: Prepared, batches: Batches[_Owner], waiting: deque[_Tally]) -> None:
        """Let an image wait, and put all its crops into batches, beginning each once it is full."""
        subject = prepared.subject
        if subject is None:
            waiting.append(_Tally(prepared, 0, None, None))
            return
        area = MapAccumulator(subject.height, subject.width, subject.item_size) if self._maps else None
        picture = RestoredAccumulator(subject.image, subject.item_size) if self._restored else None
        tally = _Tally(prepared, len(subject.positions), area, picture)
        waiting.append(tally)
        placed = 0
        over = perf_counter() + self._timeout - prepared.seconds
        while placed < tally.items and tally.error is None:
            if placed and perf_counter() > over:
                tally.error = ImageError(
                    f"{prepared.name}: time for {placed} of {tally.items} crops within its limit of "
                    f"{self._timeout:g} s; take fewer crops or raise the limit"
                )
                break
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
                self._collect(batches, self._most_under_way(waiting))

    def _fill(self, batch: Batch[_Owner], subject: Subject, items: slice) -> None:
        """Write items of one image, and what they are compared with, behind those already in the batch."""
        batch.fit(*subject.item_size)
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

    def _most_under_way(self, waiting: Iterable[_Tally]) -> int:
        return self._under_way if sum(tally.drawn for tally in waiting) <= _MOST_DRAWN else 0

    def _begin(self, batches: Batches[_Owner]) -> None:
        named = [output.name for output in self._distortions]
        batches.begin([self._contract.score.name, *self._maps, *self._restored, *named], self._room)

    def _collect(self, batches: Batches[_Owner], under_way: int) -> None:
        """Hand the values of batches that have ended to their images; wait for some if more are under way."""
        while batches.has_ended or batches.under_way > under_way:
            owners, running = batches.oldest()
            seconds = 0.0
            try:
                outputs, seconds = running.result()
            except BackendError as error:
                for tally, _, _ in owners:
                    tally.error = tally.error or without_frames(error)
            else:
                for index, (tally, top, left) in enumerate(owners):
                    self._take(tally, top, left, {name: values[index] for name, values in outputs.items()})
            for tally, _, _ in owners:
                tally.seconds += seconds / len(owners)

    def _take(self, tally: _Tally, top: int, left: int, values: dict[str, NDArray[np.float32]]) -> None:
        """Take the outputs of one item into its image's tally."""
        if tally.error is not None:
            return
        crop = "" if self._contract.patch_plan.kind == "whole" else f" of crop {len(tally.scores) + 1}"
        wrong = [name for name, value in values.items() if not np.isfinite(value).all()]
        if wrong:
            tally.error = BackendError(
                f"output {wrong[0]!r}{crop} is not finite; the artefact or its precision is unsound, export it again "
                "as fp32"
            )
            return
        if self._distortions:
            probabilities = values[DISTORTIONS].tolist()
            if min(probabilities) < 0 or max(probabilities) > 1:
                tally.error = BackendError(
                    f"output {DISTORTIONS!r}{crop} goes from {min(probabilities):g} to "
                    f"{max(probabilities):g}, and probabilities from 0 to 1; export a network that says such"
                )
                return
            tally.distortions.append(probabilities)
        tally.scores.append(float(values[self._contract.score.name]))
        if tally.map is not None:
            tally.map.add(top, left, values["quality_map"], values.get("weight_map"))
        if tally.restored is not None:
            tally.restored.add(top, left, values["restored"])

    def _result(self, tally: _Tally) -> Score:
        score = self._contract.score
        scored = tally.error is None
        value = pooled(tally.scores, self._contract.pooling) if scored else None
        return Score(
            path=tally.path,
            value=value,
            percentile=None if value is None else percentile(score, value),
            range=score.range,
            higher_is_better=score.higher_is_better,
            trained=self._contract.weights.trained,
            artefact=self._artefact,
            backend=f"{self._backend.name} {self._backend.provider}",
            width=tally.width,
            height=tally.height,
            color=tally.color,
            patches=tally.items * self._image.per_item if scored else 0,
            patch_scores=tuple(tally.scores) if scored else (),
            milliseconds=1000 * tally.seconds,
            map=tally.map.result() if scored and tally.map is not None else None,
            restored=tally.restored.result() if scored and tally.restored is not None else None,
            preview=tally.preview,
            reference_preview=tally.reference_preview,
            distortions=self._named(tally) if scored and self._distortions else None,
            measures=tally.measures,
            error=tally.error,
        )

    def _named(self, tally: _Tally) -> dict[str, float]:
        """Return the mean probability of each distortion over the crops."""
        means = [pooled(column, "mean") for column in zip(*tally.distortions, strict=True)]
        return dict(zip(self._distortions[0].labels, means, strict=True))
