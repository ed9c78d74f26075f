"""PyTorch as a backend: the network as published, with the weights an artefact was made of.

The oracle for `iqa-compare`, and for whoever wants to see what export, calibration or an engine changed. Layer by layer
it shows the deploy form, which has the artefact's layers. The runtime finds it by its entry point, so that nothing
there knows of torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import nn

from iqa_export.checkpoints import (
    RANDOM_PREFIX,
    Checkpoint,
    expected_keys,
    load_into,
    random_checkpoint,
    read_checkpoint,
)
from iqa_export.systems import GraphChoice, System, all_systems, find_system
from iqa_export.torch_layers import TracedLayers
from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.onnx_metadata import read_metadata
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.contract import METADATA_KEY, Contract, FileDigest
from iqa_runtime.errors import ArtefactError, BackendError, FileError, UsageError


class PyTorchBackend(Backend):
    """The network of an artefact in PyTorch, float32 whatever the artefact's precision, one item a run.

    Its weights are those packaged, random ones of the same seed, or the file named in the contract, which must lie
    beside the artefact; its digest has to be the contract's.

    Parameters
    ----------
    graph, spec, threads
        As in `Backend`; PyTorch's own number of threads is left as it is, because it belongs to the whole process.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    UsageError
        If there is no such device, or the artefact takes features of a reference instead of its pixels.
    """

    name: ClassVar[str] = "pytorch"

    def __init__(self, graph: GraphFile, spec: GraphSpec, *, device: str, threads: int) -> None:
        super().__init__(graph, spec, device=device, threads=threads)
        if re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device) is None:
            raise UsageError(f"device {device!r}: PyTorch runs on cpu, cuda or cuda:N")
        self._contract = contract_from_json(read_metadata(graph.take())[METADATA_KEY], source=str(graph.path))
        if self._contract.reference_encoder is not None or self._contract.baked_reference is not None:
            raise UsageError(
                f"{graph.path}: the network as published takes the reference itself, this artefact its features; "
                "export it without ``cache_reference`` and ``reference_image``"
            )
        if self._contract.model not in all_systems():
            raise UsageError(
                f"{graph.path}: {self._contract.model!r} is no system that is installed here, and the module of a "
                "network is not imported because an artefact says so; register a System for it (examples/custom_model)"
            )
        self._network: nn.Module | None = None
        self._traced: TracedLayers | None = None

    @property
    def items_per_run(self) -> int:
        """One, as parity is tested at export."""
        return 1

    @property
    def provider(self) -> str:
        """Version of PyTorch, and the device."""
        return f"PyTorch {torch.__version__} {self.device}"

    def layer_tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Return the tensors of the deploy form that was exported, under the names that the exporter gave them.

        The network as published computes the same by other steps. They are computed on the CPU in float32, and
        their names hold with the version of PyTorch that exported the artefact.
        """
        return self._layers().shapes

    def _load(self) -> None:
        if self.device != "cpu" and not torch.cuda.is_available():
            raise BackendError(f"device {self.device!r}: this PyTorch ({torch.__version__}) finds no GPU")
        system, network, choice = self._published()
        self._network = system.as_written(network, choice).eval().to(self.device)

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        network = self._network
        if network is None:
            raise UsageError(f"{self.path}: the backend was deactivated while in use")
        tensors = [torch.from_numpy(inputs[spec.name]).to(self.device, torch.float32) for spec in self.spec.inputs]
        # On a GPU, PyTorch would round the inputs of convolutions to ten bits of mantissa.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            values = network(*tensors)
        found = dict(zip(self.spec.output_names, values, strict=True))
        return [found[name].cpu().numpy() for name in outputs]

    def _run_layers(self, inputs: dict[str, NDArray[Any]], names: list[str]) -> list[NDArray[Any]]:
        tensors = [torch.from_numpy(inputs[spec.name]).to(torch.float32) for spec in self.spec.inputs]
        found = self._layers().run(tensors, names)
        return [found[name].numpy() for name in names]

    def _release(self) -> None:
        self._network = self._traced = None

    def _published(self) -> tuple[System, nn.Module, GraphChoice]:
        """Return the network with its weights, and which of its graphs the artefact is."""
        contract = self._contract
        system = find_system(contract.model)
        network = system.build(contract.variant).requires_grad_(False)
        load_into(network, self._weights(system, network), system.key_map(contract.variant))
        choice = GraphChoice(
            variant=contract.variant,
            task=contract.task,
            segment=contract.options.get("segment"),
            maps=bool(contract.maps),
            extras=tuple(output.name for output in contract.extras),
        )
        return system, network, choice

    def _layers(self) -> TracedLayers:
        """Trace the deploy form, as the exporter does, the first time."""
        if self._traced is None:
            system, network, choice = self._published()
            module = system.deployed(network, choice)
            self._traced = TracedLayers(
                module,
                self._contract.inputs,
                self.spec.output_names,
                opset=self._contract.opset,
                patch_plan=self._contract.patch_plan,
            )
        return self._traced

    def _weights(self, system: System, network: nn.Module) -> Checkpoint:
        """Find the weights the artefact was made of."""
        wanted = self._contract.weights
        key_map = system.key_map(self._contract.variant)
        if wanted.file.startswith(RANDOM_PREFIX):
            checkpoint = random_checkpoint(network, int(wanted.file.removeprefix(RANDOM_PREFIX)), key_map)
        else:
            file = self._file_of_weights(system, self._contract)
            checkpoint = read_checkpoint(file, weights_key=wanted.entry, expected=[expected_keys(network, key_map)])
        if checkpoint.sha256 != wanted.sha256:
            raise ArtefactError(
                f"{self.path}: SHA-256 of its weights is {wanted.sha256}, that of {checkpoint.file} "
                f"{checkpoint.sha256}; put the file it was exported from beside it"
            )
        return checkpoint

    def _file_of_weights(self, system: System, contract: Contract) -> Path:
        beside = self.path.parent / contract.weights.file
        if beside.is_file():
            return beside
        packaged = system.bundled.get(contract.variant)
        if packaged is None or not packaged.is_file() or FileDigest.of_file(packaged).sha256 != contract.weights.sha256:
            raise FileError(f"{beside}: the weights of {self.path.name} are not there; put a copy beside it")
        return packaged
