"""Descriptions of an engine built on a Jetson."""

import json
from hashlib import sha256

from iqa_runtime.artefacts.engine_file import BatchRange, EngineFile
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.host_key import HostKey
from iqa_runtime.contract import FileDigest
from iqa_runtime.cuda import Gpu

ORIN = Gpu(name="Orin", compute_capability=(8, 7), driver="CUDA 12.6")
JETSON = HostKey(library="tensorrt", version="10.3.0", platform="Linux aarch64", gpu=ORIN)
BUILT_FOR_RTX = HostKey(library="tensorrt_rtx", version="1.7.1.116", platform="Linux x86_64", gpu=None)
CONTENT = b"bytes of an engine"


def described(contract, **changes):
    settings = {
        "contract": contract,
        "plan": FileDigest(file="x.plan", sha256=sha256(CONTENT).hexdigest()),
        "source": FileDigest(file="x.onnx", sha256="1" * 64),
        "host": JETSON,
        "portability": "same_gpu",
        "version_compatible": False,
        "batch": BatchRange(min=1, opt=4, max=8),
        "level": 3,
        "workspace": None,
        "stripped": False,
        "refittable": False,
        "exporter": "tests",
    }
    return EngineFile(**{**settings, **changes})


def rewrite(plan, changes):
    fields = json.loads(description_path(plan).read_text()) | changes
    description_path(plan).write_text(json.dumps(fields))
