"""Measure what was tried on full YOTO and is not used, beside what is: the outcomes in NOTES.md.

    python benchmarks/ideas.py YOTO.onnx [--output benchmarks/results]

YOTO.onnx is the float32 artefact, without a reference, of `iqa-export --model yoto`; random weights do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from speed import ideas, packages
from speed.document import SAME_SCORE, Case, Section, document, result_of
from speed.turns import Limits, take_turns

from iqa_runtime.benchmark.host import describe_host

BLOCKS = (8, 28)
CASES = (("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path, metavar="YOTO.onnx")
    parser.add_argument("--output", type=Path, default=packages.ROOT / "benchmarks" / "results")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    packages.add_folder()
    host = msgspec.to_builtins(describe_host())
    host["versions"] |= packages.versions()
    section = Section(title="Ideas", text="Full YOTO, no reference; two items a call, two threads.")
    limits = Limits(rounds=arguments.rounds, turn=0.0, load=240, call=120, budget=400)
    with tempfile.TemporaryDirectory() as folder:
        blocked = ideas.write_blocked(arguments.artefact, BLOCKS, Path(folder))
        for library, precision in CASES:
            outcomes = take_turns(ideas.contenders(arguments.artefact, blocked, library, precision), limits)
            tolerance = SAME_SCORE if precision == "float32" else None
            case = Case(name=f"{library}, {precision}", outcomes=outcomes, base=ideas.AS_USED, tolerance=tolerance)
            section.cases.append(case)
    result = result_of(host, datetime.now(UTC).isoformat(timespec="seconds"), {"ideas": section})
    path = arguments.output / f"ideas.{host['commit'] or 'unknown'}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(document(result, []))


if __name__ == "__main__":
    main()
