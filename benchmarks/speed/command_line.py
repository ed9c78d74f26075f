"""The command line of `benchmarks/suite.py`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from iqa_runtime.benchmark.host import describe_host
from iqa_runtime.cpu import available_cpus
from speed import hosts, packages
from speed.document import Section, document, read_results, result_of
from speed.growth import draw
from speed.sections import SECTIONS
from speed.settings import MODELS, TITLES, Settings

ROOT = packages.ROOT


def main(description: str | None) -> None:
    arguments = parse(description)
    packages.add_folder()
    host = msgspec.to_builtins(describe_host())
    host["versions"] |= packages.versions()
    settings = Settings(
        photographs=arguments.work / "photographs",
        artefacts=arguments.work / fingerprint(ROOT / "export", ROOT / "calibration"),
        threads=arguments.threads,
        models=tuple(arguments.models or (MODELS if arguments.long else TITLES)),
        quick=arguments.quick,
        thorough=arguments.long,
        say=lambda message: print(f"{datetime.now(UTC):%H:%M:%S} {message}", file=sys.stderr, flush=True),
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    # The history is made of files that begin with "suite".
    path: Path = arguments.output / f"{'quick' if arguments.quick else 'suite'}.{host['commit'] or 'unknown'}.json"
    result: dict[str, Any] = {}
    for name in arguments.only:
        section = measure(name, settings)
        result = store(path, host, name, section)
    if arguments.plots is not None and "growth" in result["sections"]:
        draw(result["sections"]["growth"]["series"], arguments.plots)
    history = read_results(arguments.output)
    print(document(result, history))
    print("\n".join(["## By host", "", *hosts.table(history)]))


def fingerprint(*folders: Path) -> str:
    """Return a name for the state of some folders, so that what other code or weights made is not met again."""
    files = (path for folder in folders for path in sorted(folder.rglob("*")))
    digest = hashlib.sha256()
    for path in files:
        if path.suffix in (".py", ".safetensors"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def measure(name: str, settings: Settings) -> Section:
    load, began = os.getloadavg()[0], time.perf_counter()
    section = SECTIONS[name](settings)
    section.load, section.seconds = load, time.perf_counter() - began
    return section


def store(path: Path, host: dict[str, Any], name: str, section: Section) -> dict[str, Any]:
    """Put a section beside those that the file of this commit has from the same host, and return all of it."""
    result = result_of(host, datetime.now(UTC).isoformat(timespec="seconds"), {name: section})
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if all(stored["host"].get(key) == host.get(key) for key in ("processor", "processor_model")):
            result["sections"] = stored["sections"] | result["sections"]
    result["sections"] = {known: result["sections"][known] for known in SECTIONS if known in result["sections"]}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=names, metavar="SECTION,...", help="default: all; growth only with --long")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        metavar="MODEL",
        help="default: full YOTO and the edge model; all with --long",
    )
    parser.add_argument("--threads", type=int, default=available_cpus(), help="of everyone; default: all CPUs")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--plots", type=Path, metavar="FILE.svg", help="draw the curves of the section growth")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="small sizes, few rounds: to see that all works")
    length.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads < 1:
        parser.error("--threads must be at least 1")
    if arguments.only is None:
        arguments.only = [name for name in SECTIONS if arguments.long or name != "growth"]
    return arguments


def names(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return chosen
