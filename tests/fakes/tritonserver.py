"""Triton Inference Server as the wheel of nvidia-pytriton brings it, with the packages under test in its Python.

Of the backends the wheel has the one for Python alone. A stand-in for that of ONNX Runtime, in Python, takes the same
models and is held to the same configurations by the same server.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import iqa_runtime
import iqa_serving
from eventually import eventually

WHEELS = Path(__file__).parents[2] / "build" / "triton"
"""Where the Makefile installs the wheel, and the NumPy 1 that its Python backend needs."""

_SERVER = WHEELS / "pytriton" / "tritonserver"
_BINARY = _SERVER / "bin" / "tritonserver"
_STUB = "triton_python_backend_stub"
_VERSION = "{}.{}".format(*sys.version_info)

_ONNX_RUNTIME = '''
"""Stand-in for the backend of ONNX Runtime."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        names = list(request.requested_output_names())
        values = self.session.run(names, {tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        return pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in zip(names, values)])
'''


def environment() -> dict[str, str]:
    """Return the variables that its binaries need to find their libraries, Python's among them."""
    libraries = [WHEELS / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}


def why_not() -> str | None:
    """Say why it cannot be started here; None if it can."""
    stub = _SERVER / "python_backend_stubs" / _VERSION / _STUB
    if not (_BINARY.is_file() and (WHEELS / "numpy").is_dir()):
        return f"there is no Triton in {WHEELS}"
    if not stub.is_file():
        return f"its Python backend has nothing for Python {_VERSION}"
    for binary in (_BINARY, stub):
        tried = subprocess.run([binary, "--help"], env=environment(), capture_output=True, text=True, check=False)
        if tried.returncode == 127 or "error while loading" in tried.stderr:  # what the dynamic linker says
            return f"{binary.name} cannot be loaded: {tried.stderr.strip()}"
    return None


def make_python(folder: Path) -> Path:
    """Make a Python environment with the packages of this process, but for NumPy.

    The backend takes no ``PYTHONPATH``; it looks for ``python3`` on the path, or is told of a folder with
    ``bin/activate``.
    """
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    (folder / "bin" / "activate").write_text(f"export PATH={folder}/bin:$PATH\n")
    home = Path(sys.executable).resolve().parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = {_VERSION}\n")
    packages = folder / "lib" / f"python{_VERSION}" / "site-packages"
    packages.mkdir(parents=True)
    # An editable installation has them nowhere on the path.
    ours = [Path(package.__file__).parents[1] for package in (iqa_runtime, iqa_serving)]
    places = [WHEELS, *ours, *(path for path in map(Path, sys.path) if path.is_dir())]
    (packages / "tests.pth").write_text("".join(f"{path.absolute()}\n" for path in places))
    return folder


class Tritonserver:
    """A server that was started: where it listens, and what it says."""

    def __init__(self, folder: Path, repository: Path) -> None:
        backends = folder / "backends"
        shutil.copytree(_SERVER / "backends" / "python", backends / "python")
        shutil.copy(_SERVER / "python_backend_stubs" / _VERSION / _STUB, backends / "python")
        (backends / "onnxruntime").mkdir()
        (backends / "onnxruntime" / "model.py").write_text(_ONNX_RUNTIME)
        python = make_python(folder / "python")
        self.log = folder / "log"
        http, grpc = _free_ports(2)
        self.http, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        command = [
            *(_BINARY, "--model-repository", repository, "--backend-directory", backends),
            *("--http-address", "127.0.0.1", "--http-port", str(http)),
            *("--grpc-address", "127.0.0.1", "--grpc-port", str(grpc)),
            *("--model-control-mode", "explicit", "--disable-auto-complete-config"),
            *("--allow-metrics", "false", "--exit-timeout-secs", "5"),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=environment() | {"PATH": f"{python}/bin{os.pathsep}{os.environ['PATH']}"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """Return all that it has said."""
        return self.log.read_text(errors="replace")

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.said()
        return "Started HTTPService" in self.said()


@contextmanager
def started(folder: Path, repository: Path) -> Iterator[Tritonserver]:
    """Start a server that loads no model by itself; at the end it is gone."""
    server = Tritonserver(folder, repository)
    try:
        eventually(server.is_up)
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(60)
        finally:
            server.process.kill()
            server.process.wait()


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; the server has no way to choose some by itself."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
