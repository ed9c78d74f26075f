"""Every name that building uses is in TensorRT from 10.3 to 11.4 and in TensorRT-RTX, and the fake has no other."""

import inspect
import re
from dataclasses import is_dataclass
from enum import IntEnum
from pathlib import Path

import pytest

import fake_tensorrt
import iqa_export.engine
from tensorrt_names import API, names_used

MODULES = sorted(Path(iqa_export.engine.__file__).parent.glob("*.py"))

VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "tensor": "ITensor",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "parser": "OnnxParser",
    "complaint": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "refitter": "Refitter",
    "onnx_refitter": "OnnxParserRefitter",
    "serialization": "ISerializationConfig",
}


def test_there_are_five_versions():
    assert len(API) == 5
    assert {name.split("_")[-1][:5] for name in API} == {"10.3.", "10.13", "10.16", "11.4.", "1.7.1"}


@pytest.mark.parametrize("version", API)
def test_every_name_used_exists(version):
    used = {name for module in MODULES for name in names_used(module, VARIABLES)}
    assert ("BuilderFlag", "STRIP_PLAN") in used
    assert ("IBuilderConfig", "builder_optimization_level") in used
    missing = [
        (class_, member)
        for class_, member in used
        if class_ not in API[version] or (member is not None and member not in API[version][class_])
    ]
    assert not missing


@pytest.mark.parametrize("version", API)
def test_the_fake_has_the_names_and_parameters_of_the_real_one(version):
    known = API[version]
    for name, class_ in fake_tensorrt.classes().items():
        if issubclass(class_, IntEnum):
            assert set(class_.__members__) <= set(known[name]), name
            continue
        for member, value in vars(class_).items():
            if member.startswith("_") or member == "Severity":
                continue
            assert member in known[name], f"{name}.{member}"
            real = known[name][member]
            if inspect.isfunction(value) and real not in (None, "(...)"):
                parameters = list(inspect.signature(value).parameters.values())[1:]
                mine = [f"{entry.name}{'=' * (entry.default is not entry.empty)}" for entry in parameters]
                assert f"({', '.join(mine)})" == real, f"{name}.{member}"


@pytest.mark.parametrize("version", API)
def test_the_fake_is_made_as_the_real_one(version):
    for name in ("Builder", "OnnxParser", "Runtime", "Refitter", "OnnxParserRefitter", "ILogger", "IProgressMonitor"):
        parameters = list(inspect.signature(fake_tensorrt.classes()[name].__init__).parameters)[1:]
        assert f"({', '.join(parameters)})" == API[version][name]["__init__"]


@pytest.mark.parametrize("version", API)
def test_the_real_one_has_the_attributes_of_the_fake(version):
    checked = 0
    for name, class_ in fake_tensorrt.classes().items():
        if issubclass(class_, IntEnum) or not inspect.isfunction(vars(class_).get("__init__")):
            continue
        # What a dataclass keeps for itself begins with an underscore too.
        attributes = class_.__annotations__ if is_dataclass(class_) else assigned(class_)
        for attribute in attributes:
            if not attribute.startswith("_"):
                assert attribute in API[version][name], f"{name}.{attribute}"
                checked += 1
    assert checked > 10


def assigned(class_):
    return re.findall(r"self\.(\w+)(?::[^=\n]*)? = ", inspect.getsource(class_.__init__))
