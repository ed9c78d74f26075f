"""What scores images for the page: with a small copy of each, its heat map, and what is measured in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from iqa_runtime.commands.reporting import has_heat_maps
from iqa_runtime.contract import Contract
from iqa_runtime.report.pictures import Sizes
from iqa_serving.batcher import Batcher

_IMAGES = 50
"""Of a report whose pictures are as large as those of the page."""

SIZES = Sizes.of_report(_IMAGES, inside=True)
"""Of the pictures of the page."""


def scoring_to_show(contract: Contract) -> dict[str, Any]:
    """Return further arguments of a `iqa_runtime.Scorer` whose results are to be shown."""
    return {"maps": has_heat_maps(contract), "preview": SIZES.longest, "measure": True}


class Showing:
    """Batchers for the page, each opened with the first image that is to be shown. For one event loop.

    Parameters
    ----------
    opened
        Opens that of an artefact, by its name.
    """

    def __init__(self, opened: Callable[[str], Batcher]) -> None:
        self._opened = opened
        self._opening = asyncio.Lock()
        self._batchers: dict[str, Batcher] = {}

    @property
    def batchers(self) -> list[Batcher]:
        """Those that are open."""
        return list(self._batchers.values())

    async def batcher(self, name: str) -> Batcher:
        """Return the batcher of an artefact.

        Raises
        ------
        IqaError
            If it cannot be opened.
        """
        async with self._opening:
            if name not in self._batchers:
                self._batchers[name] = await asyncio.to_thread(self._opened, name)
            return self._batchers[name]

    async def take(self) -> list[Batcher]:
        """Return those that are open, and forget them."""
        async with self._opening:
            batchers, self._batchers = self.batchers, {}
            return batchers
