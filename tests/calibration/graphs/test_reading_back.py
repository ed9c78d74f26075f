"""An artefact is held to its own contract before anything is made of it."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.graphs.reading_back import check_artefact, check_scores, check_signature
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.contract import MapOutput, PatchPlan, ScoreOutput
from iqa_runtime.errors import ArtefactError
from tiny_contract import tiny_contract

SIDE = 16


def score(low=0.0, high=1.0, *, bounded=True) -> ScoreOutput:
    return ScoreOutput(low=low, high=high, higher_is_better=True, bounded=bounded, scale="")


def artefact(path, *, shape=("batch",), kind=TensorProto.FLOAT, factor=1.0, side=SIDE, **changes):
    """An artefact whose score is the mean of a crop times a factor, in the shape and type that are asked for."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["column"]),
        helper.make_node("Expand", ["column", "grades"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["score"], to=kind),
    ]
    sizes = [-1, *shape[1:]] if len(shape) > 1 else [-1]
    constants = {
        "axes": np.array([1, 2, 3]),
        "factor": np.float32(factor),
        "shape": np.array([-1, *[1] * (len(sizes) - 1)]),
        "grades": np.array([1, *sizes[1:]]),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, side, side))],
        [helper.make_tensor_value_info("score", kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    embed_contract(model, tiny_contract(SIDE, mean=0.0, std=1.0, **changes))
    save(model, path)
    return path


def test_one_that_keeps_its_contract(tmp_path):
    path = artefact(tmp_path / "x.onnx", score=score())
    check_artefact(open_artefact(path))
    assert replace(check_signature(path), sha256="") == tiny_contract(SIDE, mean=0.0, std=1.0, score=score())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": ("batch", 1)}, r"output 'score'.*contract says"),
        ({"shape": ("batch", 10)}, r"output 'score'.*contract says"),
        ({"kind": TensorProto.INT64}, r"output 'score' of the graph is tensor\(int64\)"),
        ({"side": 2 * SIDE}, "input 'image'"),
        ({"patch_plan": PatchPlan(kind="five", size=2 * SIDE)}, r"patch_plan\.size"),
        ({"score": score(5, 1)}, "not a range"),
        ({"score": score(1, 1)}, "not a range"),
        ({"score": score(0, np.inf)}, "invalid contract"),
        ({"maps": (MapOutput(name="quality_map", rows=4, columns=4),)}, "outputs"),
        ({"score": score(), "factor": 50.9}, "bounded to 0 to 1, and photographs and plain crops score"),
        ({"score": score(high=0.9)}, "score .* to 1; correct"),
        ({"score": score(), "factor": -1.0}, "bounded to 0 to 1"),
        ({"score": score(bounded=False), "factor": np.nan}, "no score"),
    ],
)
def test_one_that_does_not(tmp_path, settings, message):
    path = artefact(tmp_path / "x.onnx", **settings)
    with pytest.raises(ArtefactError, match=message):
        check_artefact(open_artefact(path))


def test_rounding_at_the_bounds_is_none(tmp_path):
    contract = tiny_contract(SIDE, score=score(1, 5))
    check_scores(tmp_path / "x.onnx", contract, np.float32([1, 5 + 1e-6]))
    with pytest.raises(ArtefactError, match="bounded"):
        check_scores(tmp_path / "x.onnx", contract, np.float32([1, 5.001]))
