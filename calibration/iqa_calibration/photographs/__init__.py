"""The few photographs that come with the package: parity is checked on them, and calibration falls back on them."""

from __future__ import annotations

from importlib import resources


def packaged_photographs() -> list[bytes]:
    """Return the photographs as files, sorted by name; their licences are in ``LICENCES.md`` beside them."""
    entries = sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name)
    return [entry.read_bytes() for entry in entries if entry.name.endswith(".jpg")]
