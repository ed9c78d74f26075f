"""What a server serves: artefacts opened for scoring, by name, and opened anew when it is told to."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from iqa_runtime import ArtefactError, Scorer
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.scoring.room import Room
from iqa_runtime.scoring.time_limits import MAX_OVERDUE, in_thread
from iqa_serving.batcher import Batcher
from iqa_serving.bodies import Slots
from iqa_serving.metrics import Metrics
from iqa_serving.settings import Settings
from iqa_serving.showing import Showing, scoring_to_show

_CLOSE_SECONDS = 5.0
"""For what is under way when a process ends: nobody waits for its results any more."""

_TOKEN_LENGTH = 16
"""Characters of a token that nobody guesses, even one made of letters and digits."""


class Service:
    """Artefacts opened for scoring.

    Parameters
    ----------
    settings
        What to serve.

    Raises
    ------
    IqaError
        As `iqa_runtime.Scorer`, of the first artefact that cannot be opened; or if there is no token in its file.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.slots = Slots(settings.queue, self.metrics.set_taken)
        self.is_closing = False
        self.token = _read_token(settings.token_file)
        self._room = Room(settings.pixel_budget)
        self.batchers = self._opened()
        self.showing = Showing(self._opened_to_show)
        self._former: list[Batcher] = []
        self._stuck_since: float | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether decoders, or the model, stand still that nothing can end."""
        return any(
            batcher.scorer.overdue >= MAX_OVERDUE or batcher.silence >= self.settings.stall_timeout
            for batcher in self._all()
        )

    def is_lost(self) -> bool:
        """Whether this process is to be replaced: it has been stuck for too long. To be asked now and then."""
        now = time.monotonic()
        if not self.is_stuck:
            self._stuck_since = None
            return False
        self._stuck_since = now if self._stuck_since is None else self._stuck_since
        silence = max(now - self._stuck_since, *(batcher.silence for batcher in self._all()))
        return silence >= self.settings.stall_timeout

    async def reload(self) -> None:
        """Open all artefacts anew and read the token anew, and serve these from now on; what was begun ends as it was.

        Nothing changes unless all can be opened.

        Raises
        ------
        IqaError
            As when a service is made.
        """
        token = await asyncio.to_thread(_read_token, self.settings.token_file)
        batchers = await asyncio.to_thread(self._opened)
        if self.is_closing:
            _close(batchers.values())
            return
        shown = await self.showing.take()
        former, self.batchers, self.token = [*self.batchers.values(), *shown], batchers, token
        self._former += former
        # Not in a thread of the event loop, which would wait for it at its end: what hangs never comes back.
        await asyncio.wrap_future(in_thread(lambda: _close(former)))
        self._former = [batcher for batcher in self._former if batcher not in former]

    def close(self) -> None:
        """End what was begun, then free the models, unless one hangs."""
        self.is_closing = True
        _close(self._all(), _CLOSE_SECONDS)

    def _all(self) -> list[Batcher]:
        return [*self.batchers.values(), *self.showing.batchers, *self._former]

    def _opened(self) -> dict[str, Batcher]:
        batchers: dict[str, Batcher] = {}
        try:
            for name, path in self.settings.artefacts.items():
                artefact = open_artefact(path, trust=self.settings.trust)
                batchers[name] = self._batcher(name, Scorer(artefact, **self.settings.scoring))
        except BaseException:
            _close(batchers.values())
            raise
        return batchers

    def _opened_to_show(self, name: str) -> Batcher:
        artefact = open_artefact(self.settings.artefacts[name], trust=self.settings.trust)
        if artefact.graph.sha256 != self.batchers[name].scorer.file.sha256:
            raise ArtefactError(
                f"{artefact.path}: another file than the one that is served; let the server read it again: SIGHUP"
            )
        return self._batcher(name, Scorer(artefact, **self.settings.scoring | scoring_to_show(artefact.contract)))

    def _batcher(self, name: str, scorer: Scorer) -> Batcher:
        return Batcher(scorer, room=self._room, on_round=partial(self.metrics.count_round, name))


def _close(batchers: Iterable[Batcher], seconds: float = math.inf) -> None:
    over = time.monotonic() + seconds
    for batcher in batchers:
        batcher.close(over - time.monotonic())


def _read_token(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise FileError(f"{path}: cannot read the token ({error.strerror}); check the path") from error
    if len(token) < _TOKEN_LENGTH or not token.isascii() or len(token.split()) != 1:
        raise UsageError(
            f"{path}: no token; write one of at least {_TOKEN_LENGTH} ASCII characters without spaces: "
            "openssl rand -hex 32"
        )
    return token
