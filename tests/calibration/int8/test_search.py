import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.int8.observers import min_max
from iqa_calibration.int8.placement import MIN_DEPTH, place
from iqa_calibration.int8.search import to_int8_accepted
from iqa_calibration.int8.statistics import collect
from iqa_runtime.errors import UsageError

BOTH_FORMS = pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])

LAYERS = tuple(f"layer{index}" for index in range(8))

OUTLIER = 1e6
"""The outlier channel: values of about one are far less than half a step of 8 bits beside it, so they become zero."""

ALLOWED = 0.05
"""Largest change of a score, as a share of the scores' range, that the gate here allows: a fragile layer alone moves
scores by four times that, all others together by less than a tenth."""

ONE_ALLOWED = 0.28
"""What lets one fragile layer pass, which moves scores by 0.22, but not two, by 0.34."""


def network(*fragile, costly=()):
    """Build residual layers of a convolution, and their mean as the score.

    The input of a fragile layer has a constant outlier channel that its weights ignore. A costly layer computes the
    same with nine times the multiplications: its 3x3 kernel is zero but for the centre.
    """
    rng = np.random.default_rng(0)
    constants = {"axes": np.array([1, 2, 3]), "outlier": np.full((1, 1, 6, 6), OUTLIER, np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], name="pick"),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"], name="erase"),
        helper.make_node("Add", ["nothing", "outlier"], ["column"], name="fill"),
    ]
    values = "image"
    for index, layer in enumerate(LAYERS):
        weights = rng.normal(0.1, 0.1, (8, 8, 1, 1)).astype(np.float32)
        read = values
        if layer in fragile:
            nodes.append(
                helper.make_node("Concat", [values, "column"], [f"wide{index}"], name=f"concat{index}", axis=1)
            )
            read, weights = f"wide{index}", np.concatenate([weights, np.zeros((8, 1, 1, 1), np.float32)], axis=1)
        border = int(layer in costly)
        constants[f"{layer}.weight"] = np.pad(weights, ((0, 0), (0, 0), (border, border), (border, border)))
        nodes += [
            helper.make_node(
                "Conv", [read, f"{layer}.weight"], [f"made{index}"], name=f"node{index}", pads=[border] * 4
            ),
            helper.make_node("Add", [values, f"made{index}"], [f"sum{index}"], name=f"add{index}"),
        ]
        values = f"sum{index}"
    nodes.append(helper.make_node("ReduceMean", [values, "axes"], ["score"], name="mean", keepdims=0))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def items():
    rng = np.random.default_rng(1)
    return [{"image": (shift + rng.normal(size=(1, 8, 6, 6))).astype(np.float32)} for shift in np.linspace(-1, 1, 24)]


def scores(model):
    runner = Runner(model)
    return np.array([runner.run(item)["score"].item() for item in items()])


def searched(model, accepted, target="tensorrt", **options):
    placement = place(model, target)
    seen = collect(model, placement.tensors, items)
    ranges = {name: min_max(entry) for name, entry in seen.items()}
    return to_int8_accepted(model, placement, ranges, items(), accepted, **options)


def gate_of(model, asked=None, allowed=ALLOWED):
    exact = scores(model)

    def accepted(candidate):
        if asked is not None:
            asked.append(candidate)
        return np.abs(scores(candidate) - exact).max() <= allowed * np.ptp(exact)

    return accepted


def kept(report):
    return set(report.kept_float)


@BOTH_FORMS
@pytest.mark.parametrize("fragile", [(0,), (5,), (2, 7)])
def test_exactly_the_fragile_layers_stay_in_float(target, fragile):
    model = network(*(LAYERS[index] for index in fragile))
    asked = []
    result, report, passed = searched(model, gate_of(model, asked), target)
    assert passed
    assert kept(report) == {f"node{index}" for index in fragile}
    assert report.quantised == tuple(f"node{index}" for index in range(8) if index not in fragile)
    assert report.target == target
    assert report.tried == len(asked) <= 12
    assert any(result is graph for graph in asked)
    assert gate_of(model)(result)
    floats = {node.name for node in result.graph.node if node.op_type == "Conv" and node.input[1].endswith(".weight")}
    assert floats == kept(report)
    for index in fragile:
        assert f"layer{index} alone" in report.kept_float[f"node{index}"]
    assert {entry.part for entry in report.sensitivities[: len(fragile)]} == {LAYERS[index] for index in fragile}


@pytest.mark.parametrize(("cheap", "costly"), [(2, 7), (7, 2)])
def test_of_two_layers_that_do_equal_harm_the_cheaper_stays_in_float(cheap, costly):
    model = network(LAYERS[2], LAYERS[7], costly={LAYERS[costly]})
    _, report, passed = searched(model, gate_of(model, allowed=ONE_ALLOWED))
    assert passed
    assert kept(report) == {f"node{cheap}"}


def test_without_fragile_layers_nothing_is_given_up_or_measured():
    model = network()
    asked = []
    result, report, passed = searched(model, gate_of(model, asked))
    assert passed
    assert result is asked[0]
    assert (report.tried, report.kept_float, report.sensitivities) == (1, {}, ())
    assert report.quantised == tuple(f"node{index}" for index in range(8))


def test_sensitivities_are_measured_on_request_even_if_the_gate_accepts_at_once():
    told = []
    _, report, passed = searched(
        network(), lambda _: True, always_measure=True, progress=lambda *progress: told.append(progress)
    )
    assert passed
    assert report.tried == 1
    assert report.kept_float == {}
    assert {entry.part for entry in report.sensitivities} == set(LAYERS)
    assert told[-1] == (8, 8)


def test_a_gate_that_never_opens_leaves_the_last_attempt():
    tried = []
    result, report, passed = searched(network("layer3"), lambda graph: tried.append(graph) is not None)
    assert not passed
    assert result is tried[-1]
    # All eight layers, then 4, 6 and 7 of them in float: one stays in integers.
    assert report.tried == len(tried) == 4
    assert len(report.quantised) == 1
    assert len(report.kept_float) == 7


def test_the_gate_is_called_no_more_often_than_allowed():
    tried = []
    result, report, passed = searched(network("layer3"), lambda graph: tried.append(graph) is not None, max_gates=2)
    assert not passed
    assert result is tried[-1]
    assert report.tried == len(tried) == 2
    assert len(report.kept_float) == 4
    with pytest.raises(UsageError, match="max_gates is 0"):
        searched(network(), lambda _: True, max_gates=0)


def test_layers_kept_only_for_their_rank_are_quantised_again_the_costliest_first():
    """The gate demands the third of the ranking: the first two come along, and go back."""
    model = network("layer1", "layer4", "layer6", costly={"layer1", "layer4"})
    _, everything, _ = searched(model, lambda _: True, always_measure=True)
    harm_for_cost = {entry.part: entry.effect**2 / entry.macs for entry in everything.sensitivities}
    first, second, third, *_ = sorted(harm_for_cost, key=lambda part: -harm_for_cost[part])
    assert first == "layer6"

    def demands_the_third(candidate):
        return f"{third}.weight" in {node.input[1] for node in candidate.graph.node if node.op_type == "Conv"}

    node_of = {layer: f"node{index}" for index, layer in enumerate(LAYERS)}
    _, report, passed = searched(model, demands_the_third)
    assert passed
    assert kept(report) == {node_of[third]}
    _, shorter, passed = searched(model, demands_the_third, max_gates=report.tried - 1)
    assert passed
    assert kept(shorter) == {node_of[third], node_of[first]}
    assert {first, second, third} == {"layer1", "layer4", "layer6"}


def test_what_the_plan_keeps_in_float_is_reported_with_its_reason():
    model = network("layer2")
    placement = place(model, "tensorrt", keep_float=["layer0"])
    seen = collect(model, placement.tensors, items)
    ranges = {name: min_max(entry) for name, entry in seen.items()}
    _, report, passed = to_int8_accepted(model, placement, ranges, items(), gate_of(model))
    assert passed
    assert list(report.kept_float) == ["node0", "node2"]
    assert report.kept_float["node0"] == "as asked"
    assert "layer0" not in {entry.part for entry in report.sensitivities}


def attending():
    """Build two layers, and the product of what they make as the score: a sum over 256 tokens."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["image", "first.weight"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "second.weight"], ["b"], name="second"),
        helper.make_node("Transpose", ["a"], ["turned"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "b"], ["products"], name="pair"),
        helper.make_node("ReduceMean", ["products", "axes"], ["score"], name="mean", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", MIN_DEPTH, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [
            numpy_helper.from_array(random.normal(0.1, 0.1, (8, 8)).astype(np.float32), "first.weight"),
            numpy_helper.from_array(random.normal(0.1, 0.1, (8, 8)).astype(np.float32), "second.weight"),
            numpy_helper.from_array(np.array([1, 2]), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def attention_searched(accepts, **options):
    """Search with a gate that is told which products are in integers; return the report and what the gate was told."""
    model = attending()
    random = np.random.default_rng(1)
    images = [{"image": random.normal(size=(1, MIN_DEPTH, 8)).astype(np.float32)} for _ in range(6)]
    placement = place(model, "openvino", attention=True)
    ranges = {name: min_max(entry) for name, entry in collect(model, placement.tensors, lambda: images).items()}
    told = []

    def accepted(candidate):
        told.append({node.name for node in candidate.graph.node if node.op_type == "MatMul" and in_integers(node)})
        return accepts(told[-1])

    return *to_int8_accepted(model, placement, ranges, images, accepted, **options)[1:], told


def in_integers(node):
    return all(tensor.endswith("/dequantised") for tensor in node.input)


def without_pair(integers):
    return "pair" not in integers


def test_products_of_two_activations_stay_where_the_gate_accepts_them():
    report, passed, told = attention_searched(lambda _: True, optional_attention=True)
    assert passed
    assert told == [{"first", "second", "pair"}]
    assert (report.attention, report.kept_float) == ("quantised", {})
    assert report.quantised == ("first", "second", "pair")


@pytest.mark.parametrize("search", [True, False])
def test_optional_products_of_two_activations_go_back_first(search):
    report, passed, told = attention_searched(without_pair, optional_attention=True, search=search)
    assert passed
    assert told == [{"first", "second", "pair"}, {"first", "second"}]
    assert report.attention == "refused"
    assert report.kept_float == {"pair": "a product of two activations, which the gate refused"}
    assert report.sensitivities == ()


def test_where_a_layer_has_to_go_back_products_of_two_activations_are_tried_again():
    report, passed, told = attention_searched(lambda integers: len(integers) <= 2, optional_attention=True, max_gates=2)
    assert (passed, told[-1], report.attention) == (True, {"first", "second"}, "refused")

    def all_but_one_layer(integers):
        return not {"first", "second"} <= integers

    report, passed, told = attention_searched(all_but_one_layer, optional_attention=True)
    assert passed
    assert report.attention == "quantised"
    (kept_layer,) = report.kept_float
    (other,) = {"first", "second"} - {kept_layer}
    assert told == [{"first", "second", "pair"}, {"first", "second"}, {other}, {other, "pair"}]


def test_products_of_two_activations_that_were_asked_for_never_go_back():
    report, passed, told = attention_searched(without_pair)
    assert not passed
    assert report.attention == "quantised"
    assert all("pair" in integers for integers in told)


def test_without_a_search_no_layer_goes_back():
    report, passed, told = attention_searched(lambda _: False, optional_attention=True, search=False)
    assert not passed
    assert told == [{"first", "second", "pair"}, {"first", "second"}]
    assert report.sensitivities == ()


def test_where_the_plan_has_no_products_of_two_activations_they_are_float():
    _, report, _ = searched(network(), lambda _: True, optional_attention=True)
    assert (report.attention, report.tried) == ("float32", 1)
