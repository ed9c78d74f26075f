"""The contract of a network of a few nodes, for tests that need one and care about little in it."""

from pathlib import Path
from typing import Any

from iqa_runtime.artefacts.engine_file import EngineFile
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.contract import Contract, PatchPlan, ScoreOutput, TensorInput, Weights


def tiny_contract(
    side: int, task: str = "nr", *, mean: float = 0.5, std: float = 0.5, trained: bool = True, **changes: Any
) -> Contract:
    """Describe a float32 network on crops of `side` pixels, with one image or two, but for what is changed."""
    names = ["image"] if task == "nr" else ["image", "reference"]
    fields: dict[str, Any] = {
        "model": "m",
        "variant": "v",
        "task": task,
        "options": {},
        "precision": "fp32",
        "target": "any",
        "opset": 20,
        "inputs": tuple(
            TensorInput(name=name, shape=("batch", 3, side, side), mean=(mean,) * 3, std=(std,) * 3) for name in names
        ),
        "patch_plan": PatchPlan(kind="five", size=side),
        "pooling": "mean",
        "score": ScoreOutput(low=0, high=1, higher_is_better=True, bounded=False, scale="s"),
        "faithful": "as published",
        "weights": Weights(file="f", sha256="", trained=trained, licence="l", trained_on="t"),
        "exporter": "test",
    }
    return Contract(**(fields | changes))


def unread(contract: Contract, name: str = "a.onnx", engine: EngineFile | None = None) -> Artefact:
    """Return an artefact of that contract with nothing in its file, for what looks at the contract alone."""
    return Artefact(path=Path(name), contract=contract, graph=GraphFile(Path(name), b"", engine))
