"""The deploy form as it is exported, run node by node in PyTorch, so that what is inside can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from iqa_export.dynamic_axes import example_shape
from iqa_export.onnx_export import to_program
from iqa_runtime.contract import PatchPlan, TensorInput


class TracedLayers:
    """The graph that the ONNX exporter translates, in float32 on the CPU.

    The exporter calls the tensor that a node makes by the node's name, and later passes keep the names, so most tensors
    of an artefact are found here by theirs.

    Parameters
    ----------
    module, inputs, outputs, opset, patch_plan
        As in `iqa_export.onnx_export.to_onnx`.

    Attributes
    ----------
    shapes
        The float32 tensors there are: name to shape for one item, of pictures at their own size an example.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorInput],
        outputs: Sequence[str],
        *,
        opset: int,
        patch_plan: PatchPlan | None = None,
    ) -> None:
        program = to_program(module, inputs, outputs, opset=opset, patch_plan=patch_plan).exported_program
        if program is None:
            raise RuntimeError("torch.onnx.export kept no program")
        # Without checks of its inputs, whose shapes the backend has checked.
        self._module = program.module(check_guards=False)
        nodes = self._module.graph.nodes
        results = next(node for node in nodes if node.op == "output").args[0]
        self._nodes = {node.name: node.name for node in nodes if node.op == "call_function"}
        self._nodes |= {name: node.name for name, node in zip(outputs, results, strict=True)}
        item = [torch.zeros(1, *example_shape(tensor, patch_plan)) for tensor in inputs]
        self.shapes = {name: tuple(value.shape) for name, value in self.run(item, self._nodes).items()}

    def run(self, inputs: Sequence[Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run one item; return those of the tensors named that are float32."""
        recorder = _Recorder(self._module, {self._nodes[name] for name in names})
        with torch.inference_mode():
            recorder.run(*inputs)
        found = recorder.values
        return {name: found[self._nodes[name]] for name in names if self._nodes[name] in found}


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the float32 tensors of some nodes."""

    def __init__(self, module: fx.GraphModule, wanted: Collection[str]) -> None:
        super().__init__(module)
        self._wanted = wanted
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and keep its tensor if it is wanted."""
        value = super().run_node(n)
        if n.name in self._wanted and isinstance(value, Tensor) and value.dtype == torch.float32:
            self.values[n.name] = value
        return value
