"""LPIPS beside the package of its authors on PyTorch: the same pairs, from files to distances.

Of torchvision the package takes AlexNet alone, and it would download its weights: here it gets the layers, made of
PyTorch's, with the weights of our artefact. torchvision's wheels on PyPI need the CUDA build of PyTorch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import iqa_runtime
from speed import packages
from speed.commands import command, iqa_run
from speed.turns import Contender, Work

PHOTOGRAPHS = packages.ROOT / "examples" / "photographs"
PAIRS = [
    (PHOTOGRAPHS / f"{name}_{kind}_{strength}.jpg", PHOTOGRAPHS / f"{name}.jpg")
    for name, kind in (("brushes", "blur"), ("mountains", "noise"), ("stream", "jpeg"))
    for strength in (1, 2, 3)
]
"""Image and reference, a third of a megapixel each."""

OURS, RIVAL = "ours, ONNX Runtime", "PyPI lpips on PyTorch"
SIZE = "MB installed"
SAME_DISTANCE = 5e-5
"""Largest difference: four digits after the point."""


def contenders(threads: int) -> list[Contender]:
    """Return who scores all pairs, networks loaded: ours in one call, and pair by pair as the package has to."""
    rows = [
        (OURS, "onnxruntime", False),
        ("ours, OpenVINO", "openvino", False),
        ("ours, ONNX Runtime, pair by pair", "onnxruntime", True),
    ]
    found = []
    for name, backend, one_by_one in rows:
        options = {"threads": threads, "backend": backend, "one_by_one": one_by_one}
        found.append(Contender(name=name, role="ours", make="speed.lpips:ours", options=options))
    return [*found, Contender(name=RIVAL, role="rival", make="speed.lpips:rival", options={"threads": threads})]


def start_ups(threads: int) -> list[Contender]:
    """Return commands that score one pair, from nothing."""
    image, reference = map(str, PAIRS[0])
    mine = iqa_run("lpips", image, "--reference", reference, "--threads", str(threads))
    theirs = [sys.executable, "-m", "speed.lpips", str(threads), image, reference]
    return [command(OURS, "ours", mine), command(RIVAL, "rival", theirs)]


def ours(options: dict[str, Any]) -> Work:
    from iqa_runtime import Scorer

    if options["backend"] == "openvino":
        packages.import_openvino()
    scorer = Scorer("lpips", backend=options["backend"], threads=options["threads"])

    def score() -> list[float]:
        if options["one_by_one"]:
            results = [scorer.score(image, reference=reference) for image, reference in PAIRS]
        else:
            results = list(scorer.score_many(*zip(*PAIRS, strict=True)))
        return [float(result.value or 0) for result in results]

    megabytes = installed_megabytes(["iqa-deploy", options["backend"]])
    return Work(call=score, check=score(), facts={SIZE: megabytes})


def rival(options: dict[str, Any]) -> Work:
    score = _authors(options["threads"])

    def run() -> list[float]:
        return [score(str(image), str(reference)) for image, reference in PAIRS]

    return Work(call=run, check=run(), facts={SIZE: installed_megabytes(["lpips"])})


def installed_megabytes(names: Iterable[str]) -> float:
    """Return the size on the disk of packages and all they depend on, in 10^6 bytes, as far as they are installed.

    Of this one it is the runtime, whose files an editable installation does not list.
    """
    known: dict[str, metadata.Distribution] = {}
    wanted = list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in known:
            continue
        try:
            known[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needed = [line for line in known[name].requires or () if "extra ==" not in line]
        wanted += [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in needed]
    paths = {Path(str(file.locate())).resolve() for found in known.values() for file in found.files or ()}
    if "iqa-deploy" in known:
        paths |= set(Path(iqa_runtime.__file__).parent.rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def _authors(threads: int) -> Any:
    """Return their metric as a function of two paths, in the steps of their own example."""
    import torch

    packages.add_folder()
    torch.set_num_threads(threads)
    sys.modules["torchvision"] = _torchvision()
    package = packages.import_rival("lpips")
    network = package.LPIPS(net="alex", verbose=False).eval()

    def score(image: str, reference: str) -> float:
        tensors = [package.im2tensor(package.load_image(path)) for path in (image, reference)]
        with torch.inference_mode():
            return float(network(*tensors))

    return score


def _torchvision() -> ModuleType:
    """Return AlexNet where the package of the authors looks for it."""
    import onnx
    import torch
    from onnx import numpy_helper
    from torch import nn

    from iqa_runtime.artefacts.bundled import find_artefact

    graph = onnx.load(find_artefact("lpips")).graph
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    weights = [[values[name] for name in node.input[1:]] for node in nodes]
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    layers: list[nn.Module] = []
    for index, ((given, made, side, stride, padding), (weight, bias)) in enumerate(zip(shapes, weights, strict=True)):
        convolution = nn.Conv2d(given, made, side, stride, padding)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        layers += [convolution, nn.ReLU(inplace=True)]
        if index in (0, 1):
            layers.append(nn.MaxPool2d(3, 2))
    alexnet = nn.Module()
    alexnet.features = nn.Sequential(*layers)
    torchvision = ModuleType("torchvision")
    torchvision.models = ModuleType("torchvision.models")  # type: ignore[attr-defined]
    torchvision.models.alexnet = lambda **_: alexnet
    return torchvision


def main() -> None:
    threads, image, reference = sys.argv[1:]
    print(_authors(int(threads))(image, reference))


if __name__ == "__main__":
    main()
