"""What an application on a small device pays: the first score from nothing, imports, memory, bytes on the disk."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from speed.commands import command, iqa_run
from speed.turns import Contender, Work

ROOT = Path(__file__).parents[2]
PHOTOGRAPH = ROOT / "examples" / "photographs" / "mountains.jpg"
COLD_START = "iqa-run edge, one photograph"
IMPORT = "import iqa_runtime"
NUMPY = "import numpy, for scale"
LEAN = "runtime without models, MB in the wheel"

_PACKAGE, _MODELS = "iqa_runtime/", "iqa_runtime/models/"


def starts(*, reference: bool = True) -> list[Contender]:
    """Return commands from process start to exit; file caches are warm after the first."""
    found = [command(COLD_START, "ours", iqa_run("edge", str(PHOTOGRAPH)))]
    if reference:
        found.append(
            command(
                "iqa-run edge, with a reference",
                "ours",
                iqa_run("edge", str(PHOTOGRAPH), "--reference", str(PHOTOGRAPH)),
            )
        )
    found.append(command("iqa-run --help", "part", iqa_run("--help")))
    for name, code in ((IMPORT, "import iqa_runtime"), (NUMPY, "import numpy"), ("Python alone, for scale", "pass")):
        found.append(command(name, "part" if name == IMPORT else "limit", [sys.executable, "-c", code]))
    return found


def wheel() -> Contender:
    return Contender(name="wheel", role="part", make="speed.edge:build_wheel")


def build_wheel(options: dict[str, Any]) -> Work:
    """Build a wheel of the last commit and weigh the runtime in it, without its models.

    Of the commit and not of the checkout, so that nothing is left in it and nothing unfinished is weighed.
    """
    del options
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.tar"
        _run("git", "-C", str(ROOT), "archive", "--output", str(source), "HEAD")
        _run("tar", "-xf", str(source), "-C", folder)
        _run(
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", folder, folder),
        )
        (built,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(built) as archive:
            files = archive.infolist()
        runtime = [file for file in files if file.filename.startswith(_PACKAGE)]
        lean = [file for file in runtime if not file.filename.startswith(_MODELS)]
        facts = {
            "whole wheel, MB": built.stat().st_size / 1e6,
            "runtime with models, MB in the wheel": sum(file.compress_size for file in runtime) / 1e6,
            LEAN: sum(file.compress_size for file in lean) / 1e6,
            "runtime without models, MB installed": sum(file.file_size for file in lean) / 1e6,
        }
    return Work(call=lambda: None, facts=facts)


def _run(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
