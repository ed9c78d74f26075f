import collections

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.int8.observers import Range, min_max
from iqa_calibration.int8.placement import place
from iqa_calibration.int8.quantisation import quantise, weight_scales
from iqa_calibration.int8.statistics import collect
from iqa_runtime.errors import UsageError

ALL_TARGETS = pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt"])

ROUNDING = 0.1
"""Root mean square of the error over the standard deviation: 8 bits up to a peak of four standard deviations make an
error of 8 / 255 / sqrt(12) = 0.9 % of one, a dozen such, of the inputs and weights of six products, 3 %; and up to
three times that for images of a third of the contrast."""


def network(seed=0):
    """Build a convolutional block with a skip, a shared matrix product, and a score."""
    rng = np.random.default_rng(seed)

    def weights(name, *shape, spread=1.0):
        values = rng.normal(0, spread / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Conv", ["image", "stem.weight", "stem.bias"], ["a"], name="stem", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "body.weight", "body.bias"], ["c"], name="body", pads=[1, 1, 1, 1], group=4),
        helper.make_node("Add", ["b", "c"], ["d"], name="add"),
        helper.make_node("Conv", ["d", "last.weight"], ["e"], name="last"),
        helper.make_node("Reshape", ["e", "shape"], ["f"], name="flat"),
        helper.make_node("Transpose", ["mlp.weight"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["f", "turned"], ["g"], name="mlp"),
        helper.make_node("Gelu", ["g"], ["h"], name="gelu"),
        helper.make_node("MatMul", ["h", "turned"], ["i"], name="mlp_again"),
        helper.make_node("Gemm", ["i", "head.weight", "head.bias"], ["j"], name="head", transB=1),
        helper.make_node("ReduceMean", ["j", "axis"], ["score"], name="mean", keepdims=0),
    ]
    parameters = [
        weights("stem.weight", 8, 3, 3, 3, spread=2),
        weights("stem.bias", 8),
        weights("body.weight", 8, 2, 3, 3),
        weights("body.bias", 8),
        weights("last.weight", 12, 8, 1, 1),
        weights("mlp.weight", 588, 588),
        weights("head.weight", 8, 588),
        weights("head.bias", 8),
        numpy_helper.from_array(np.array([-1, 588]), "shape"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 15, 15])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        parameters,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def images(count=40):
    rng = np.random.default_rng(1)
    return (rng.normal(size=(count, 3, 15, 15)) * rng.uniform(0.3, 1, (count, 1, 1, 1))).astype(np.float32)


def ranges_of(model, placement):
    seen = collect(model, placement.tensors, lambda: [{"image": images()}])
    return {name: min_max(entry) for name, entry in seen.items()}


def session(model, optimised=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def scores(model):
    return session(model).run(["score"], {"image": images()})[0]


def error(values, expected):
    return np.sqrt(np.mean((values - expected) ** 2)) / expected.std()


def quantised(target, model=None, **options):
    model = network() if model is None else model
    placement = place(model, target)
    return quantise(model, placement, ranges_of(model, placement), **options)


def initialisers(model):
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}


@ALL_TARGETS
def test_the_quantised_graph_computes_nearly_the_same(target):
    model = quantised(target)
    onnx.checker.check_model(model, full_check=True)
    assert 0 < error(scores(model), scores(network())) < ROUNDING


@ALL_TARGETS
def test_every_weight_is_one_byte_and_within_half_a_step(target):
    model = quantised(target)
    stored, original = initialisers(model), initialisers(network())
    for name in ("stem.weight", "body.weight", "last.weight", "mlp.weight", "head.weight"):
        assert name not in stored
        integers, scales = stored[f"{name}/integers"], stored[f"{name}/scales"]
        assert integers.dtype == np.int8
        axis = 1 if name == "mlp.weight" else 0  # stored as its products read it: transposed
        values = original[name].T if axis else original[name]
        shape = [-1 if index == axis else 1 for index in range(values.ndim)]
        assert np.abs(integers * scales.reshape(shape) - values).max() <= 0.501 * scales.max()
        assert scales == pytest.approx(np.abs(values).max(axis=tuple({*range(values.ndim)} - {axis})) / 127)
    assert model.ByteSize() < 0.35 * network().ByteSize()


@ALL_TARGETS
def test_inputs_outputs_names_and_the_dynamic_batch_stay(target):
    model, before = quantised(target), network()
    assert list(model.graph.input) == list(before.graph.input)
    assert list(model.graph.output) == list(before.graph.output)
    names = [node.name for node in model.graph.node]
    assert [name for name in names if "/" not in name] == [
        node.name for node in before.graph.node if node.name != "turn"
    ]
    assert len(set(names)) == len(names)
    run = session(model)
    for batch in (1, 3):
        assert run.run(None, {"image": images(batch)})[0].shape == (batch,)


@ALL_TARGETS
def test_the_float_graph_is_left_as_it_is(target):
    model = network()
    quantised(target, model)
    assert model == network()


@pytest.mark.parametrize("target", ["openvino", "tensorrt"])
def test_symmetric_targets_have_int8_around_zero_and_a_float_bias(target):
    model = quantised(target)
    stored = initialisers(model)
    points = [values for name, values in stored.items() if name.endswith(("zero_point", "zero_points"))]
    assert {values.dtype for values in points} == {np.dtype(np.int8)}
    assert not any(values.any() for values in points)
    for bias in ("stem.bias", "body.bias", "head.bias"):
        assert stored[bias].dtype == np.float32
    seen = ranges_of(network(), place(network(), target))["f"]
    assert stored["f/scale"] == pytest.approx(max(-seen.low, seen.high) / 127)


def test_onnxruntime_has_uint8_activations_that_hold_zero_exactly():
    stored = initialisers(quantised("onnxruntime"))
    seen = ranges_of(network(), place(network(), "onnxruntime"))
    for name, entry in seen.items():
        scale, point = float(stored[f"{name}/scale"]), stored[f"{name}/zero_point"]
        assert point.dtype == np.uint8
        assert (0 - int(point)) * scale == pytest.approx(min(entry.low, 0), abs=0.51 * scale)
        assert (255 - int(point)) * scale == pytest.approx(max(entry.high, 0), abs=0.51 * scale)
    assert stored["b/zero_point"] == 0  # behind a Relu


def test_onnxruntime_runs_every_product_in_integers(tmp_path):
    session(quantised("onnxruntime"), tmp_path / "optimised.onnx")
    operators = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert operators["QLinearConv"] == 3
    assert operators["QLinearAdd"] == 1
    # The one whose result another product reads as integers writes integers at once.
    assert operators["MatMulIntegerToFloat"] == operators["QLinearMatMul"] == 1
    assert operators["QGemm"] == 1
    assert not operators.keys() & {"Conv", "FusedConv", "MatMul", "Gemm", "FusedGemm"}


def test_a_channel_of_no_weights_keeps_its_bias():
    model = network()
    for entry in model.graph.initializer:
        values = numpy_helper.to_array(entry).copy()
        if entry.name == "stem.weight":
            values[3] = 1e-20
            values[4] = 0
            values[5] = 1e-44  # over 127: no float32
        if entry.name == "stem.bias":
            values[3:6] = 2.5
        entry.CopyFrom(numpy_helper.from_array(values, entry.name))
    expected = scores(model)
    for target in ("onnxruntime", "tensorrt"):
        assert error(scores(quantised(target, model)), expected) < ROUNDING


def test_a_tensor_that_was_always_zero_stays_zero():
    model = network()
    placement = place(model, "tensorrt")
    ranges = ranges_of(model, placement) | {"f": Range(0.0, 0.0)}
    assert initialisers(quantise(model, placement, ranges))["f/scale"] == 1


def test_nodes_that_share_a_parameter_share_its_integers():
    shared = [name for name in initialisers(quantised("onnxruntime")) if "mlp.weight" in name]
    assert sorted(shared) == [f"mlp.weight/{part}" for part in ("integers", "scales", "zero_points")]


def test_nodes_that_share_a_parameter_but_not_its_scale_do_not():
    """A large bias needs coarser weights behind one input than behind the other."""
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["a"], name="first"),
        helper.make_node("Mul", ["image", "tiny"], ["small"], name="mul"),
        helper.make_node("Conv", ["small", "weight", "bias"], ["b"], name="second"),
        helper.make_node("Concat", ["a", "b"], ["c"], name="concat", axis=1),
        helper.make_node("ReduceMean", ["c", "axes"], ["score"], name="mean", keepdims=0),
    ]
    model = network()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    rng = np.random.default_rng(0)
    values = {
        "weight": rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
        "tiny": np.array(1e-12, np.float32),
        "axes": np.array([1, 2, 3]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())
    expected = scores(model)
    result = quantised("onnxruntime", model)
    assert {"weight/scales", "second/weight/scales"} <= initialisers(result).keys()
    assert scores(result) == pytest.approx(expected, rel=ROUNDING)  # an overflow would be wrong by more than the bias


@ALL_TARGETS
def test_names_to_keep_stay_float(target):
    model = quantised(target, keep_float=["body", "mlp"])
    stored = initialisers(model)
    assert {"body.weight", "mlp.weight"} <= stored.keys()
    assert "stem.weight/integers" in stored
    assert [list(node.input) for node in model.graph.node if node.name == "mlp_again"] == [["h", "turned"]]
    with pytest.raises(UsageError, match="keep_float=nothing"):
        quantised(target, keep_float=["nothing"])


def test_a_plan_made_with_names_to_keep_keeps_them():
    model = network()
    placement = place(model, "tensorrt", keep_float=["stem"])
    stored = initialisers(quantise(model, placement, ranges_of(model, placement), keep_float=["last"]))
    assert {"stem.weight", "last.weight"} <= stored.keys()


def test_attention_products_read_both_operands_in_integers():
    nodes = [
        helper.make_node("Softmax", ["image"], ["shares"], name="softmax"),
        helper.make_node("MatMul", ["shares", "image"], ["mixed"], name="mix"),
        helper.make_node("ReduceMean", ["mixed", "axes"], ["score"], name="mean", keepdims=0),
    ]
    model = network()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 300, 300]))
    placement = place(model, "openvino", attention=True)
    result = quantise(model, placement, {"image": Range(-4, 4), "shares": Range(0, 0.3)})
    values = np.random.default_rng(0).normal(size=(4, 1, 300, 300)).clip(-4, 4).astype(np.float32)
    exact, integer = (
        session(entry).run(["mixed"], {"image": values})[0] for entry in map(_with_mixed, (model, result))
    )
    assert 0 < np.abs(integer - exact).max() < ROUNDING * np.ptp(exact)


def _with_mixed(model):
    model.graph.output.append(helper.make_empty_tensor_value_info("mixed"))
    return model


@pytest.mark.parametrize("broken", [None, Range(0.0, np.inf), Range(np.nan, 1.0)])
def test_a_range_that_is_missing_or_not_finite_is_an_error(broken):
    model = network()
    placement = place(model, "tensorrt")
    ranges = ranges_of(model, placement)
    if broken is None:
        del ranges["f"]
    else:
        ranges["f"] = broken
    with pytest.raises(UsageError, match=r"tensor 'f': .*observe"):
        quantise(model, placement, ranges)


def test_an_old_opset_is_an_error():
    model = network()
    model.opset_import[0].version = 12
    with pytest.raises(UsageError, match=r"opset 12: .* 13"):
        quantise(model, place(model, "tensorrt"), {})


def test_scales_of_channels():
    weights = np.array([[0.5, -2.54], [0, 0], [1e-44, 0]], np.float32)
    assert weight_scales(weights, 0) == pytest.approx([0.02, 0, 0])
    assert weight_scales(weights, 1) == pytest.approx([0.5 / 127, 0.02])


def test_tensorrt_builds_the_graph(tmp_path):
    """TensorRT-RTX, whose parser and builder need no GPU, has the rules of TensorRT's strongly typed networks."""
    tensorrt = pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "model.onnx"
    onnx.save(quantised("tensorrt"), path)
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    described = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(described, logger)
    assert parser.parse_from_file(str(path)), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 15, 15), (2, 3, 15, 15), (4, 3, 15, 15))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(described, config) is not None
