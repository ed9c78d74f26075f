import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.int8 import statistics
from iqa_calibration.int8.observers import BINS
from iqa_calibration.int8.statistics import collect
from iqa_runtime.errors import ArtefactError, FileError, UsageError

TENSORS = ("image", "half", "positive", "score")
ITEMS = 5


def network():
    nodes = [
        helper.make_node("Mul", ["image", "factor"], ["half"]),
        helper.make_node("Relu", ["half"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array(-0.5, np.float32), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Items:
    """Items that count how many were taken, and stop where told."""

    def __init__(self, count=ITEMS, fail_at=None):
        self.count, self.fail_at = count, fail_at
        self.taken = 0

    def __call__(self):
        for index in range(self.count):
            if index == self.fail_at:
                raise KeyboardInterrupt
            self.taken += 1
            yield {"image": item(index)}


def item(index):
    return np.random.default_rng(index).normal(0, 4**index, (1, 3, 8, 8)).astype(np.float32)


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    for name, seen in got.items():
        other = expected[name]
        assert (seen.low, seen.high, seen.limit) == (other.low, other.high, other.limit)
        assert (seen.counts == other.counts).all()


def test_inputs_and_intermediate_tensors_are_observed():
    seen = collect(network(), TENSORS, Items())
    image = np.concatenate([item(index) for index in range(ITEMS)])
    assert tuple(seen) == TENSORS
    for name, values in {"image": image, "half": -image / 2, "positive": np.maximum(-image / 2, 0)}.items():
        limit = seen[name].limit
        expected, _ = np.histogram(values.astype(np.float64), 2 * BINS, (-limit, limit))
        assert (seen[name].low, seen[name].high) == (values.min(), values.max())
        assert (seen[name].counts == expected).all()
    assert seen["score"].counts.sum() == ITEMS


def test_an_item_is_a_batch_of_any_size():
    assert collect(network(), ["half"], lambda: [{"image": np.ones((7, 3, 8, 8), np.float32)}])["half"].high == -0.5


def test_tensors_that_do_not_fit_together_are_observed_one_pass_after_another(monkeypatch):
    at_once = collect(network(), TENSORS, Items())
    monkeypatch.setattr(statistics, "_GROUP_ELEMENTS", 3 * 8 * 8)
    items, told = Items(), []
    assert_equal(collect(network(), TENSORS, items, progress=lambda *at: told.append(at)), at_once)
    passes = items.taken // ITEMS
    assert passes > 1
    assert told == [(done, passes) for done in range(1, items.taken + 1)]


def test_a_filled_cache_runs_nothing(tmp_path):
    first = collect(network(), TENSORS, Items(), cache=tmp_path / "new", key="set")
    items = Items()
    assert_equal(collect(network(), TENSORS, items, cache=tmp_path / "new", key="set"), first)
    assert items.taken == 0


def test_only_new_tensors_are_observed(tmp_path):
    collect(network(), ["half"], Items(), cache=tmp_path, key="set")
    items = Items()
    seen = collect(network(), ["positive", "half"], items, cache=tmp_path, key="set")
    assert items.taken == ITEMS
    assert_equal(seen, collect(network(), ["positive", "half"], Items()))
    assert len(list(tmp_path.iterdir())) == 1


def test_another_set_or_graph_has_a_cache_of_its_own(tmp_path):
    other = network()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(2, np.float32), "factor"))
    expected = collect(other, ["half"], Items())
    for model, key in ((network(), "set"), (network(), "other set"), (other, "set")):
        items = Items()
        seen = collect(model, ["half"], items, cache=tmp_path, key=key)
        assert items.taken == ITEMS
    assert_equal(seen, expected)


def test_the_contract_is_no_part_of_the_key(tmp_path):
    collect(network(), ["half"], Items(), cache=tmp_path, key="set")
    model = network()
    model.metadata_props.add(key="iqa.contract", value="another")
    items = Items()
    collect(model, ["half"], items, cache=tmp_path, key="set")
    assert items.taken == 0


@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_an_interrupted_run_goes_on_with_the_next_item(tmp_path, monkeypatch, fail_at):
    monkeypatch.setattr(statistics, "_GROUP_ELEMENTS", 2 * 3 * 8 * 8)
    with pytest.raises(KeyboardInterrupt):
        collect(network(), TENSORS, Items(fail_at=fail_at), cache=tmp_path, key="set")
    told = []
    seen = collect(network(), TENSORS, Items(), cache=tmp_path, key="set", progress=lambda *at: told.append(at))
    passes = told[-1][1]
    assert len(told) == passes * ITEMS - fail_at
    assert_equal(seen, collect(network(), TENSORS, Items()))


def test_the_state_is_saved_while_running(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "_SAVE_SECONDS", 0.0)
    files = []
    collect(
        network(), TENSORS, Items(), cache=tmp_path, progress=lambda *_: files.append(len(list(tmp_path.glob("*.npz"))))
    )
    assert files == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("kept", [0, 10, 2000])
def test_a_damaged_cache_is_an_error(tmp_path, kept):
    collect(network(), ["half"], Items(), cache=tmp_path, key="set")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileError, match=r"\.npz: .*delete it"):
        collect(network(), ["half"], Items(), cache=tmp_path, key="set")


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileError, match="cannot write"):
        collect(network(), ["half"], Items(), cache=tmp_path / "file")


def test_an_empty_set_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="empty"):
        collect(network(), ["half"], Items(0), cache=tmp_path)


def test_a_tensor_that_is_not_there_is_an_error():
    with pytest.raises(ArtefactError, match="'missing'"):
        collect(network(), ["missing"], Items())


def test_a_value_that_is_not_finite_names_tensor_and_item():
    items = [item(0), np.full((1, 3, 8, 8), -np.inf, np.float32)]
    with pytest.raises(ArtefactError, match="'positive', item 1: a value is not finite"):
        collect(network(), ["positive"], lambda: [{"image": values} for values in items])


def test_items_that_do_not_fit_are_an_error():
    with pytest.raises(ArtefactError, match="cannot run"):
        collect(network(), ["half"], lambda: [{"image": np.zeros((1, 3, 9, 9), np.float32)}])
