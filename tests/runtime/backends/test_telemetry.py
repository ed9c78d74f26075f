"""Nothing is reported to the makers of a backend, and nothing of theirs is left in the home folder."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import numpy as np
from iqa_runtime import Scorer

before = dict(os.environ)
with Scorer(sys.argv[1], threads=1, backend=sys.argv[2]) as scorer:
    scorer.score(np.zeros((40, 40, 3), np.uint8))
print(dict(os.environ) == before, sys.argv[2] in sys.modules)
"""


@pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=[pytest.mark.openvino, pytest.mark.slow])]
)
def test_a_backend_leaves_no_identifier(artefacts, tmp_path, backend):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [sys.executable, "-c", PROGRAM, str(artefacts.mean()), backend]
    done = subprocess.run(command, env=environment | {"HOME": str(home)}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
    assert list(home.rglob("*")) == []
