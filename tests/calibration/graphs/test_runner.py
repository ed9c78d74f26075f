from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from iqa_calibration.graphs.finishing import save
from iqa_calibration.graphs.runner import Runner, first_not_finite
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.errors import ArtefactError

ITEM = {"image": np.array([[-4.0, 9.0]], np.float32)}


@pytest.fixture
def model():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["positive"]), helper.make_node("Sqrt", ["positive"], ["score"])],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 2))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch", 2))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_model_and_file_give_the_same(model, tmp_path):
    save(model, tmp_path / "model.onnx")
    for source in (model, tmp_path / "model.onnx"):
        np.testing.assert_array_equal(Runner(source).run(ITEM)["score"], [[0, 3]])


def test_intermediate_tensors_come_beside_the_outputs(model):
    before = model.SerializeToString()
    runner = Runner(model, extra_outputs=["positive", "score"])
    assert runner.outputs == ("score", "positive")
    np.testing.assert_array_equal(runner.run(ITEM)["positive"], [[0, 9]])
    assert list(runner.run(ITEM, ["positive"])) == ["positive"]
    assert model.SerializeToString() == before


def test_what_cannot_be_loaded_or_run_is_an_error(model, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        Runner(path)
    with pytest.raises(ArtefactError, match="cannot load"):
        Runner(model, extra_outputs=["nowhere"])
    with pytest.raises(ArtefactError, match="cannot run"):
        Runner(model).run({"image": np.zeros((1, 3), np.float32)})


def test_first_output_that_is_not_finite():
    values = {"a": np.zeros(2), "b": np.array([0, np.inf]), "c": np.array([np.nan])}
    assert first_not_finite(values) == "b"
    assert first_not_finite({"a": np.zeros(2)}) is None


def test_items_come_in_order_however_many_run_at_once(model):
    feeds = [{"image": np.array([[number**2, 0.0]], np.float32)} for number in range(9)]
    for threads in (1, 4):
        runs = Runner(model, extra_outputs=["positive"]).run_each(iter(feeds), ["score"], threads=threads)
        assert [float(values["score"][0, 0]) for values in runs] == list(range(9))
    with pytest.raises(ArtefactError, match="cannot run"):
        list(Runner(model).run_each([ITEM, {}]))


def test_sessions_have_the_options_that_ship(model, monkeypatch):
    """Those of the backend that scores: a graph must not be checked under one set of options and run under another."""
    given = []

    def record(_, options, **arguments):
        names = ("intra_op_num_threads", "inter_op_num_threads", "use_deterministic_compute", "execution_mode")
        given.append({name: getattr(options, name) for name in (*names, "graph_optimization_level")} | arguments)
        raise RuntimeError("seen")

    monkeypatch.setattr("onnxruntime.InferenceSession", record)
    with pytest.raises(ArtefactError, match="seen"):
        Runner(model)
    graph = GraphFile(Path("x.onnx"), b"")
    with pytest.raises(ArtefactError, match="seen"):
        OnnxRuntimeBackend(graph, GraphSpec((), ()), device="cpu", threads=4).activate()
    runner, backend = given
    assert runner.pop("providers") == ["CPUExecutionProvider"]
    assert backend.pop("providers") == [("CPUExecutionProvider", {})]
    assert runner == backend
    assert runner["intra_op_num_threads"] == 1
