"""Every graph of every system through the parser and the builder of TensorRT-RTX, which need no GPU."""

from dataclasses import dataclass, replace

import onnx
import pytest

from iqa_calibration.graphs.finishing import embed_contract
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import FORMATS, at_opset_for, converted
from iqa_calibration.int8.observers import Range
from iqa_calibration.int8.placement import place
from iqa_calibration.int8.quantisation import quantise
from iqa_calibration.int8.weight_only import compress_weights
from iqa_export.checkpoints import load_into, random_checkpoint
from iqa_export.engine import EngineOptions, build_engine
from iqa_export.onnx_export import to_onnx
from iqa_export.systems import BUILT_IN, GraphChoice, find_system
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import load_engine
from iqa_runtime.artefacts.files import encoder_plan
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import OWN_SIZE, FileDigest, PatchPlan

pytest.importorskip("tensorrt_rtx")

QUICKEST = EngineOptions(library="tensorrt_rtx", opt_batch=1, max_batch=2, builder_level=0)
"""What is asked here is whether there is an engine, not how fast it is."""
LEAST = 31
OWN_SIZES = replace(QUICKEST, max_batch=1, min_size=(LEAST, LEAST), opt_size=(48, 64), max_size=(96, 128))
"""The same for whole pictures at their own size."""

EVERY = ("fp32", "fp16", "bf16", "int8", "int8-weights")
FLOAT = ("fp32",)
ARITHMETIC = ("fp32", "fp16", "bf16", "int8")
"""What has numbers of its own: TensorRT-RTX 1.7.1 crashes over the 8-bit weights of the two large YOTO networks with a
reference, each of which goes into two products (docs/tensorrt.md)."""


@dataclass(frozen=True)
class Graph:
    """A system's graph with random weights, and the precisions to build it in."""

    system: str
    choice: GraphChoice
    outputs: tuple[str, ...] = ()
    precisions: tuple[str, ...] = EVERY

    def __str__(self):
        return "-".join([self.system, self.choice.variant, self.choice.task, *self.outputs])


def graph(system, variant, task, *, segment=None, maps=(), extras=(), precisions=EVERY):
    choice = GraphChoice(variant=variant, task=task, segment=segment, maps=bool(maps), extras=extras)
    return Graph(system, choice, (*maps, *extras), precisions)


# In fewer precisions is what shares its operators with another row: the same network with one side less or more, or
# without an optional output.
GRAPHS = [
    graph("yoto", "swin_t", "nr"),
    graph("yoto", "swin_t", "fr", segment="joint", precisions=FLOAT),
    graph("yoto", "resnet50", "nr", precisions=("fp32", "int8-weights")),
    graph("yoto", "resnet50", "fr", segment="joint", precisions=ARITHMETIC),
    graph("yoto", "edge", "nr", maps=("quality_map", "weight_map")),
    graph("yoto", "edge", "fr", maps=("quality_map", "weight_map")),
    graph("cvrkd", "student", "nar"),
    graph("cvrkd", "teacher", "fr", precisions=FLOAT),
    graph("cvrkd", "edge", "nar"),
    graph("cvrkd", "edge", "fr", precisions=FLOAT),
    graph("dri", "base", "nr", precisions=FLOAT),
    graph("dri", "edge", "nr"),
    graph("dri", "base", "nr", extras=("restored",)),
    graph("mfe", "van_b2", "nr", precisions=FLOAT),
    graph("mfe", "van_b2", "nr", extras=("distortion_feature",)),
    graph("lpips", "alex", "fr"),
    graph("lpips", "vgg", "fr"),
    graph("dists", "vgg16", "fr"),
    graph("mfe", "edge", "nr", extras=("distortion_feature", "distortions")),
]

LARGE = ("swin_t", "resnet50", "student", "teacher", "base", "van_b2", "vgg", "vgg16")

MORE_KERNELS = [("dri-edge-nr", "int8"), ("dri-edge-nr", "int8-weights")]
"""Plans hold kernels beside weights; in these, the kernels of integers take more bytes than the weights save."""

CACHED = [graph("yoto", "edge", "fr", precisions=FLOAT), graph("cvrkd", "student", "nar", precisions=FLOAT)]
"""In float32, as `iqa-export` makes them."""

_SUMS = ("Softmax", "LayerNormalization", "ReduceMean", "GlobalAveragePool")


def test_the_table_names_every_graph_and_builds_every_network_in_every_precision():
    systems = [system() for system in BUILT_IN]
    tasks = {
        (system.name, variant, task) for system in systems for variant in system.tasks for task in system.tasks[variant]
    }
    assert {(row.system, row.choice.variant, row.choice.task) for row in GRAPHS} == tasks
    optional = {
        (system.name, output.name)
        for system in systems
        for variant in system.tasks
        for output in (*system.map_outputs, *system.extras_of(variant))
    }
    assert {(row.system, output) for row in GRAPHS for output in row.outputs} == optional
    built = {(row.system, row.choice.variant, precision) for row in GRAPHS for precision in row.precisions}
    # The teacher is the student's network with other weights.
    built |= {("cvrkd", "teacher", precision) for precision in EVERY}
    assert built == {(name, variant, precision) for name, variant, _ in tasks for precision in EVERY}


def network_of(row):
    system = find_system(row.system)
    network = system.build(row.choice.variant).requires_grad_(False)
    names = system.key_map(row.choice.variant)
    load_into(network, random_checkpoint(network, 0, names), names)
    return system, network


def exported(row):
    """Return the deploy form and its inputs."""
    system, network = network_of(row)
    names = ["image"] if row.choice.task == "nr" else ["image", "reference"]
    inputs = tuple(system.crop_input(name, variant=row.choice.variant) for name in names)
    module, outputs = system.deployed(network, row.choice), ["score", *row.outputs]
    return to_onnx(module, inputs, outputs, patch_plan=system.patch_plan), inputs


def in_half(model, kind):
    """Put a graph into half as `to_half` would at the least; its check of every node would take minutes here."""
    model = at_opset_for(model, FORMATS[kind])
    keep = [name for name, node in Structure(model).nodes.items() if node.op_type in _SUMS]
    return converted(model, FORMATS[kind], keep)


def integer_unmeasured(model):
    """Quantise with one range for all tensors: the builder does not look at it, and to run the network takes long."""
    placement = place(model, "tensorrt")
    return quantise(model, placement, dict.fromkeys(placement.tensors, Range(-4.0, 4.0)))


FORMS = {
    "fp32": lambda model: model,
    "fp16": lambda model: in_half(model, "fp16"),
    "bf16": lambda model: in_half(model, "bf16"),
    "int8": integer_unmeasured,
    "int8-weights": lambda model: compress_weights(model, "tensorrt"),
}


def write(model, path, inputs, **changes):
    contract = replace(
        read_contract(find_artefact("edge-nr")),
        inputs=inputs,
        task="nr" if len(inputs) == 1 else "fr",
        patch_plan=PatchPlan(kind="whole", smallest=LEAST)
        if inputs[0].shape[-2:] == OWN_SIZE
        else PatchPlan(kind="five", size=int(inputs[0].shape[-1])),
        maps=(),
        **changes,
    )
    embed_contract(model, contract)
    onnx.save(model, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.long] if row.choice.variant in LARGE else []) for row in GRAPHS],
    ids=str,
)
def test_every_graph_builds(tmp_path, row):
    model, inputs = exported(row)
    sizes = {}
    for precision in row.precisions:
        source = write(FORMS[precision](model), tmp_path / f"{precision}.onnx", inputs=inputs, precision=precision)
        build_engine(source, tmp_path / "x.plan", OWN_SIZES if inputs[0].shape[-2:] == OWN_SIZE else QUICKEST)
        sizes[precision] = len(load_engine(tmp_path / "x.plan")[1])
        source.unlink()
    float32 = sizes.pop("fp32")
    smaller = {precision for precision, size in sizes.items() if size < float32}
    assert smaller == {precision for precision in sizes if (str(row), precision) not in MORE_KERNELS}


@pytest.mark.slow
@pytest.mark.parametrize("row", CACHED, ids=str)
def test_an_artefact_with_a_reference_encoder_builds_as_two(tmp_path, row):
    system, network = network_of(row)
    encoder, scorer = system.reference_split(network, row.choice)
    image, reference = (system.crop_input(name, variant=row.choice.variant) for name in ("image", "reference"))
    features = to_onnx(encoder, [reference], ["reference_features"])
    onnx.save(features, tmp_path / "x.reference.onnx")
    digest = FileDigest.of_file(tmp_path / "x.reference.onnx")
    inputs = (image, system.feature_input(row.choice.variant))
    source = write(to_onnx(scorer, inputs, ["score"]), tmp_path / "x.onnx", inputs=inputs, reference_encoder=digest)
    described = build_engine(source, tmp_path / "x.plan", QUICKEST)
    encoder_described, _ = load_engine(encoder_plan(tmp_path / "x.plan"))
    assert described.contract.reference_encoder == encoder_described.plan
    assert encoder_described.source == digest
