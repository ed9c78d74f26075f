"""The kernels in C programs of their own: under sanitizers, and for AArch64 under an emulator."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[3] / "csrc"
PROGRAMS = Path(__file__).parent / "native"
KERNELS = ("patches", "resize", "color")


def run_program(kernel: str, build: list[str], run: list[str], folder: Path, cases: int) -> str:
    """Build the program of a kernel, run it, and return what it says."""
    program = folder / f"check_{kernel}"
    sources = SOURCES / "jpeg" if kernel == "jpeg" else SOURCES
    written = [str(path) for path in sorted(sources.glob("*.c")) if not path.name.startswith("_")]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{sources}", "-o", str(program)]
    libraries = ["-ljpeg"] if kernel == "jpeg" else ["-lm", "-pthread"]
    command = [*build, *flags, str(PROGRAMS / f"check_{kernel}.c"), *written, *libraries]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([*run, str(program), str(cases)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_formula_was_used(report: str) -> None:
    matched = re.search(r"formula used in (\d+) of (\d+) SIMD calls", report)
    assert matched is not None
    used, calls = map(int, matched.groups())
    assert calls > 0
    assert used >= 0.99 * calls  # else the rows would be right, but looked up


@pytest.mark.parametrize("kernel", KERNELS)
def test_neon_under_qemu(kernel: str, tmp_path: Path) -> None:
    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if compiler is None or emulator is None:
        pytest.skip("not run: needs gcc-aarch64-linux-gnu and qemu-user-static")
    report = run_program(kernel, [compiler, "-O3", "-static"], [emulator], tmp_path, 1000)
    assert report.startswith("neon scalar agree")
    if kernel == "patches":
        assert_formula_was_used(report)


def sanitizing_compiler(folder: Path, headers: str = "") -> list[str]:
    """Return GCC with the address and undefined-behaviour sanitizers; skip where it has none, or lacks the headers."""
    compiler = [shutil.which("gcc") or "", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if not compiler[0]:
        pytest.skip("not run: needs gcc")
    empty = folder / "empty.c"
    empty.write_text(f"{headers}int main(void) {{ return 0; }}\n")
    if subprocess.run([*compiler, str(empty), "-o", str(folder / "empty")], capture_output=True).returncode:
        pytest.skip(f"not run: gcc has no address and undefined-behaviour sanitizers here, or lacks {headers!r}")
    return compiler


def test_no_sanitizer_complains_about_rows_of_jpeg_files(tmp_path: Path) -> None:
    compiler = sanitizing_compiler(tmp_path, "#include <stdio.h>\n#include <jpeglib.h>\n")
    assert "rows agree: 300 files" in run_program("jpeg", compiler, [], tmp_path, 300)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_sanitizer_complains(kernel: str, tmp_path: Path) -> None:
    report = run_program(kernel, sanitizing_compiler(tmp_path), [], tmp_path, 1000)
    assert "scalar agree" in report
    if kernel == "patches" and not report.startswith("scalar"):
        assert_formula_was_used(report)
