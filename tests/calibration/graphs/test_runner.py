import numpy as np
import pytest
from onnx import TensorProto, helper

from iqa_calibration.graphs.finishing import save
from iqa_calibration.graphs.runner import Runner, first_not_finite
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
        np.testing.assert_array_equal(Runner(source, threads=2).run(ITEM)["score"], [[0, 3]])


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
