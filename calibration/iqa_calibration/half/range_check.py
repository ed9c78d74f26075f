"""The range check of half precision: every node beside a twin that reads and makes rounded values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from iqa_calibration.graphs.runner import Feed, Runner
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import HalfFormat
from iqa_runtime.errors import ArtefactError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCheck:
    """What the range check measured of one node.

    Attributes
    ----------
    node, operator
        Its name and operator.
    largest
        Largest magnitude of its results in float32.
    error
        Root mean square error of its results as a share of their root mean square, when its inputs and its results are
        rounded to half.
    """

    node: str
    operator: str
    largest: float
    error: float


def measured(
    model: ModelProto,
    structure: Structure,
    types: dict[str, int],
    half: HalfFormat,
    feeds: Iterable[Feed],
    *,
    threads: int,
) -> tuple[dict[str, NodeCheck], int]:
    """Run every node twice, as it is and as a twin in half; only three numbers of each leave the graph.

    Returns
    -------
    checks, items
        By name of the node; the number of items.

    Raises
    ------
    UsageError
        If there are no items.
    ArtefactError
        If ONNX Runtime cannot run the graph, or it is not finite in float32.
    """
    probes = _Probes(model, structure, types, half)
    largest = dict.fromkeys(probes.names, 0.0)
    signal, noise = dict.fromkeys(probes.names, 0.0), dict.fromkeys(probes.names, 0.0)
    items = 0
    for values in Runner(probes.model).run_each(feeds, threads=threads):
        for index, name in enumerate(probes.names):
            peak = float(values[f"largest_{index}"])
            energy = float(values[f"signal_{index}"])
            # The maximum passes over values that are no numbers, their sum does not.
            if not np.isfinite(peak) or np.isnan(energy):
                raise ArtefactError(f"node {name}: not finite in float32 on item {items}; check the weights")
            largest[name] = max(largest[name], peak)
            signal[name] += energy
            noise[name] += float(values[f"noise_{index}"])
        items += 1
    if not items:
        raise UsageError("the range check has no items; give at least one image")
    checks = {}
    for name in probes.names:
        error = 0.0 if noise[name] == 0 else inf
        if np.isfinite(noise[name]) and signal[name] > 0:
            error = sqrt(noise[name] / signal[name])
        operator = structure.nodes[name].op_type
        checks[name] = NodeCheck(node=name, operator=operator, largest=largest[name], error=error)
    return checks, items


class _Probes:
    """A graph whose outputs are, of every node's first result: largest magnitude, energy, energy of the error."""

    def __init__(self, model: ModelProto, structure: Structure, types: dict[str, int], half: HalfFormat) -> None:
        self.names = [name for name, node in structure.nodes.items() if types.get(node.output[0]) == TensorProto.FLOAT]
        self._half, self._types = half, types
        self._rounded: dict[str, str] = {}
        self._nodes: list[NodeProto] = []
        probed = {name: index for index, name in enumerate(self.names)}
        for name, node in structure.nodes.items():
            self._nodes.append(node)
            if name in probed:
                self._probe(node, probed[name])
        self.model = ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        del graph.node[:], graph.output[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.output.extend(
            ValueInfoProto(name=f"{probe}_{index}")
            for index in range(len(self.names))
            for probe in ("largest", "signal", "noise")
        )

    def _probe(self, node: NodeProto, index: int) -> None:
        twin = NodeProto()
        twin.CopyFrom(node)
        twin.name = f"twin_{index}"
        for position, tensor in enumerate(node.input):
            if self._types.get(tensor) == TensorProto.FLOAT:
                twin.input[position] = self._round(tensor)
        for position in range(len(node.output)):
            twin.output[position] = f"twin_{index}_{position}"
        self._nodes.append(twin)
        result = node.output[0]
        self._add("Sub", [self._round(twin.output[0]), result], f"difference_{index}")
        self._add("ReduceSumSquare", [f"difference_{index}"], f"noise_{index}", keepdims=0)
        self._add("ReduceSumSquare", [result], f"signal_{index}", keepdims=0)
        self._add("Abs", [result], f"magnitude_{index}")
        self._add("ReduceMax", [f"magnitude_{index}"], f"largest_{index}", keepdims=0)

    def _round(self, tensor: str) -> str:
        if tensor not in self._rounded:
            self._rounded[tensor] = f"{tensor}_rounded"
            self._add("Cast", [tensor], f"{tensor}_narrow", to=self._half.element_type)
            self._add("Cast", [f"{tensor}_narrow"], f"{tensor}_rounded", to=TensorProto.FLOAT)
        return self._rounded[tensor]

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
