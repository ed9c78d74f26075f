"""What a server serves: artefacts opened for scoring, by name, and opened anew when it is told to."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from iqa_runtime import Scorer
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.scoring.time_limits import MAX_OVERDUE
from iqa_serving.batcher import Batcher
from iqa_serving.bodies import Slots
from iqa_serving.metrics import Metrics
from iqa_serving.settings import Settings

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
        self.batchers = self._opened()

    @property
    def is_stuck(self) -> bool:
        """Whether decoders stand still that nothing can end, so that this process is to be replaced."""
        return any(batcher.scorer.overdue >= MAX_OVERDUE for batcher in self.batchers.values())

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
            await asyncio.to_thread(_close, batchers)
            return
        former, self.batchers, self.token = self.batchers, batchers, token
        await asyncio.to_thread(_close, former)

    def close(self) -> None:
        """End what was begun, then free the models."""
        self.is_closing = True
        _close(self.batchers)

    def _opened(self) -> dict[str, Batcher]:
        batchers: dict[str, Batcher] = {}
        try:
            for name, path in self.settings.artefacts.items():
                scorer = Scorer(open_artefact(path, trust=self.settings.trust), **self.settings.scoring)
                batchers[name] = Batcher(scorer, on_round=partial(self.metrics.count_round, name))
        except BaseException:
            _close(batchers)
            raise
        return batchers


def _close(batchers: dict[str, Batcher]) -> None:
    for batcher in batchers.values():
        batcher.close()


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
