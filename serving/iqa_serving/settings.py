"""What a server is told at its start; it travels to worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iqa_runtime.arguments import check_number, check_seconds
from iqa_runtime.errors import UsageError

DEFAULT_PIXEL_LIMIT = 120_000_000
"""Pixels. Admits photographs of phones with 108 megapixels; as 8-bit RGB they take 360 MB, each that is decoded."""

DEFAULT_PIXEL_BUDGET = 500_000_000
"""Pixels. Forty photographs of 12 megapixels; as 8-bit RGB 1.5 GB, if all are whole in memory at once."""

DEFAULT_BODY_LIMIT = 32 * 2**20
"""Bytes. A photograph of 24 megapixels takes about 10 MB as JPEG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server serves, how, and what it refuses.

    Attributes
    ----------
    artefacts
        By the name that clients know it by, the path of an artefact or the name of a bundled one; at least one.
    scoring
        Further arguments of every `iqa_runtime.Scorer`.
    trust
        Public key (PEM, Ed25519) that must have signed the engines.
    body_limit
        Most bytes of a request's body.
    body_timeout
        Seconds that a client may take to send one.
    queue
        Requests that may be in the server at a time, from the first byte of the body to the last of the answer; further
        ones are refused. Bodies take at most `queue` x `body_limit` bytes, twice that while they are taken apart.
    batch_limit
        Most images of one request.
    pixel_budget
        Pixels of all images that are decoded or scored at a time, references among them; a larger one goes alone.
    grace
        Seconds that requests under way have to end once the server is asked to.
    stall_timeout
        Seconds without a sign of life from what decodes and scores, after which the process is given up.
    page
        Whether there is a page for people.
    token_file
        File with the bearer token that clients must send; None to serve everybody.
    words
        How messages of the runtime are put to clients: a function that can be pickled.

    Raises
    ------
    UsageError
        If a number is out of range, or there is no artefact.
    """

    artefacts: dict[str, str]
    scoring: dict[str, Any] = field(default_factory=dict)
    trust: Path | None = None
    body_limit: int = DEFAULT_BODY_LIMIT
    body_timeout: float = 30.0
    queue: int = 64
    batch_limit: int = 256
    pixel_budget: int = DEFAULT_PIXEL_BUDGET
    grace: float = 60.0
    stall_timeout: float = 300.0
    page: bool = True
    token_file: Path | None = None
    words: Callable[[str], str] = str

    def __post_init__(self) -> None:
        if not self.artefacts:
            raise UsageError("there is nothing to serve; give at least one artefact")
        for name in ("body_limit", "queue", "batch_limit", "pixel_budget"):
            check_number(name, getattr(self, name))
        for name in ("body_timeout", "grace", "stall_timeout"):
            check_seconds(name, getattr(self, name))
