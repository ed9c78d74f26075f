"""Configurations of Triton's models, and the text that they are written in."""

import json

import pytest

from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.contract import METADATA_KEY, MapOutput, PatchPlan, TensorInput
from iqa_runtime.errors import UsageError
from iqa_serving.triton.config import Placement, Word, bytes_config, plain_config, to_text
from tiny_contract import tiny_contract


def placement(**changes):
    return Placement(**({"max_batch_size": 8, "queue_delay": 5, "instances": 2, "device": "cpu"} | changes))


def parameters_of(config):
    return {each["key"]: each["value"]["string_value"] for each in config["parameters"]}


def test_text_of_a_message():
    message = {
        "text": "a 'quoted' \\ text\n",
        "both": "'\"",
        "kind": Word("KIND_CPU"),
        "number": 3,
        "dims": [3, -1],
        "none": [],
        "group": [{"count": 1}, {"count": 2}],
        "inner": {"deeper": {"name": "ü"}},
    }
    assert to_text(message) == (
        "text: \"a 'quoted' \\\\ text\\n\"\n"
        "both: '\\'\"'\n"
        "kind: KIND_CPU\n"
        "number: 3\n"
        "dims: [3, -1]\n"
        "none: []\n"
        "group {\n  count: 1\n}\n"
        "group {\n  count: 2\n}\n"
        'inner {\n  deeper {\n    name: "ü"\n  }\n}\n'
    )


@pytest.mark.parametrize(
    ("device", "group"),
    [
        ("cpu", {"count": 2, "kind": "KIND_CPU"}),
        ("cuda", {"count": 2, "kind": "KIND_GPU"}),
        ("cuda:1", {"count": 2, "kind": "KIND_GPU", "gpus": [1]}),
    ],
)
def test_where_instances_are(device, group):
    fields = placement(device=device).fields()
    assert fields["instance_group"] == [group]
    assert fields["max_batch_size"] == 8
    assert fields["dynamic_batching"] == {"max_queue_delay_microseconds": 5}


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CPU", ""])
def test_devices_that_triton_has_not(device):
    with pytest.raises(UsageError, match="cuda:N"):
        placement(device=device)


@pytest.mark.parametrize(("task", "inputs"), [("nr", ["image"]), ("fr", ["image", "reference"])])
def test_the_model_of_encoded_images(task, inputs):
    contract = tiny_contract(24, task)
    config = bytes_config("m", contract, placement(), {"scoring": {"threads": None}, "byte_limit": 7, "artefact": "a"})
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["input"]] == [
        (name, "TYPE_STRING", [1]) for name in inputs
    ]
    parameters = parameters_of(config)
    assert contract_from_json(parameters.pop(METADATA_KEY)) == contract
    assert parameters == {"scoring": json.dumps({"threads": None}), "byte_limit": "7", "artefact": "a"}


def test_a_graph_has_the_names_types_and_sizes_of_its_contract():
    own_size = tiny_contract(
        24,
        inputs=(TensorInput(name="image", shape=("batch", 3, "height", "width"), dtype="float16"),),
        patch_plan=PatchPlan(kind="whole"),
        maps=(MapOutput(name="quality_map", rows=0, columns=0, cell=8),),
    )
    config = plain_config("m", GraphSpec.of_artefact(own_size), own_size, placement(), platform="tensorrt_plan")
    assert config["platform"] == "tensorrt_plan"
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP16", "dims": [3, -1, -1]}]
    assert config["output"] == [
        {"name": "score", "data_type": "TYPE_FP32", "dims": [1], "reshape": {"shape": []}},
        {"name": "quality_map", "data_type": "TYPE_FP32", "dims": [-1, -1]},
    ]
    assert contract_from_json(parameters_of(config)[METADATA_KEY]) == own_size
