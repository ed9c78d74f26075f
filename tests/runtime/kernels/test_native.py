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
    kernels = [str(path) for path in sorted(SOURCES.glob("*.c")) if path.name != "_kernels.c"]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", "-o", str(program)]
    command = [*build, *flags, str(PROGRAMS / f"check_{kernel}.c"), *kernels, "-lm", "-pthread"]
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


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_sanitizer_complains(kernel: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    sanitizers = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if compiler is None:
        pytest.skip("not run: needs gcc")
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    if subprocess.run(
        [compiler, *sanitizers, str(empty), "-o", str(tmp_path / "empty")], capture_output=True
    ).returncode:
        pytest.skip("not run: gcc has no address and undefined-behaviour sanitizers here")
    report = run_program(kernel, [compiler, *sanitizers], [], tmp_path, 3000)
    assert "scalar agree" in report
    if kernel == "patches" and not report.startswith("scalar"):
        assert_formula_was_used(report)
