"""Fuzz one target with Atheris: ``fuzz.py TARGET`` and options of libFuzzer; ``make fuzz`` runs all.

https://github.com/google/atheris; options: https://llvm.org/docs/LibFuzzer.html#options
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

import json_mutator

with atheris.instrument_imports(include=["iqa_runtime"]):
    import targets

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("build/fuzz")

SECONDS = 2
"""Longest that one input may take: nothing that is fuzzed is larger than the pixel limit of the targets."""

_IMPORTED_MB = 400
"""Megabytes that the process has with everything imported and instrumented, and a large corpus; rounded up."""


def main(target: str, *options: str) -> None:
    """Fuzz until an option says stop, or a finding does."""
    grown = FOUND / target / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={_IMPORTED_MB + targets.MORE_MEMORY // 2**20}"]
    where = [f"-artifact_prefix={FOUND / target}/", str(grown), str(CORPUS / target)]
    arguments = [sys.argv[0], *limits, *options, *where]

    def send(data: bytes) -> None:
        targets.run(target, data)

    mutators = {} if target in ("image", "artefact") else {"custom_mutator": mutate}
    atheris.Setup(arguments, send, **mutators)
    atheris.Fuzz()


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Change values of JSON, or of one line of it; one time in four, and whatever is no JSON, bytes."""
    chance = random.Random(seed)
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    whole = json_mutator.mutated(data, seed)
    line = json_mutator.mutated(lines[number], seed) if whole is None else None
    if line is not None:
        whole = b"\n".join([*lines[:number], line, *lines[number + 1 :]])
    if whole is None or len(whole) > most or chance.random() < 0.25:
        return bytes(atheris.Mutate(data, most))
    return whole


if __name__ == "__main__":
    main(*sys.argv[1:])
