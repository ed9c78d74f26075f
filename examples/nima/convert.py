"""Turn the Keras weights of NIMA on MobileNet into a state dict of `nima.NimaMobileNet`.

python convert.py weights_aisthetics.hdf5 nima.safetensors
"""

import sys
from collections.abc import Iterator

import h5py
import safetensors.torch
import torch
from nima import WIDTHS, NimaMobileNet
from torch import Tensor


def layer_names() -> Iterator[str]:
    """Yield the names of Keras's convolutions in the order of `NimaMobileNet.layers`."""
    yield "conv1"
    for index in range(1, len(WIDTHS) + 1):
        yield f"conv_dw_{index}"
        yield f"conv_pw_{index}"


def converted(file: h5py.File) -> dict[str, Tensor]:
    """Return the entries under PyTorch's names and in its order of axes: Keras has height, width, inputs, outputs."""

    def tensor(layer: str, name: str, *axes: int) -> Tensor:
        values = torch.from_numpy(file[layer][layer][f"{name}:0"][()])
        return values.permute(*axes).contiguous() if axes else values

    state = {}
    for index, name in enumerate(layer_names()):
        # A depthwise kernel has one output for each input: (h, w, C, 1) becomes (C, 1, h, w).
        kernel = ("depthwise_kernel", 2, 3, 0, 1) if "dw" in name else ("kernel", 3, 2, 0, 1)
        state[f"layers.{index}.convolution.weight"] = tensor(name, *kernel)
        ours = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        for key, keras in ours.items():
            state[f"layers.{index}.normalisation.{key}"] = tensor(f"{name}_bn", keras)
    state["grades.weight"] = tensor("dense_1", "kernel", 1, 0)
    state["grades.bias"] = tensor("dense_1", "bias")
    return state


def main(source: str, target: str) -> None:
    with h5py.File(source) as file:
        state = converted(file)
    missing, unexpected = NimaMobileNet().load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.endswith("num_batches_tracked")] + unexpected
    if wrong:
        sys.exit(f"{source}: not the weights of NIMA on MobileNet: {', '.join(wrong)}")
    said = {"licence": "Apache-2.0 (idealo/image-quality-assessment)", "trained_on": "AVA"}
    safetensors.torch.save_file(state, target, metadata=said)


if __name__ == "__main__":
    main(*sys.argv[1:])
