"""Record the scores that the bundled models give the example photographs, bit by bit.

    python tests/tools/record_scores.py

writes tests/reference/bundled_scores.json. To be run only when scores are meant to change, as CHANGELOG.md then says.
`tests/runtime/artefacts/test_bundled_scores.py` compares: bits on a host like the one that recorded, digits elsewhere.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import onnxruntime

from iqa_runtime import Scorer
from iqa_runtime.benchmark.host import describe_host

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "tests" / "reference" / "bundled_scores.json"
PHOTOGRAPHS = ROOT / "examples" / "photographs"


def host() -> str:
    """Name what decides in which order a host adds up: its processor with all it can do, and the library's version."""
    flags = [
        line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("flags")
    ]
    able = sha256(flags[0].encode()).hexdigest()[:12] if flags else "unknown"
    return f"{describe_host().processor}, flags {able}, ONNX Runtime {onnxruntime.__version__}"


def scores() -> dict[str, list[float]]:
    """Score every photograph alone and against its original: artefact and file name to the scores of its crops."""
    found = {}
    photographs = sorted(PHOTOGRAPHS.glob("*.jpg"))
    originals = [photograph.with_name(f"{photograph.stem.split('_')[0]}.jpg") for photograph in photographs]
    for name, references in (("edge-nr", None), ("edge-fr", [path if path.exists() else None for path in originals])):
        with Scorer(name, backend="onnxruntime") as scorer:
            pairs = zip(photographs, references or [None] * len(photographs), strict=True)
            for photograph, reference in pairs:
                if name == "edge-nr" or reference is not None:
                    found[f"{name}/{photograph.name}"] = list(scorer.score(photograph, reference).patch_scores)
    return found


if __name__ == "__main__":
    content = {"host": host(), "scores": {key: [value.hex() for value in values] for key, values in scores().items()}}
    RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
