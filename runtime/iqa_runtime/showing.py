"""Text for a terminal: a file name or a contract may hold what would steer it."""

from __future__ import annotations

import re

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters of ASCII and Latin-1, line separators of Unicode, and marks that turn the direction of writing."""


def printable(text: str) -> str:
    r"""Write control characters as Python does in a string: ESC becomes ``\x1b``, a newline ``\n``."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    r"""Write control characters of JSON as JSON does, so that it reads back equal; newlines between values stay."""
    return _STEERING.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)
