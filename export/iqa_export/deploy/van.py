"""VAN without normalisation but that of its stages.

With s and t of `iqa_export.deploy.batchnorm` and the factors l1 and l2 of the residual branches, a block computes

    x + l1 (P2 g(P1 (s x + t)) + (s x + t))  =  (1 + l1 s) x + P2' g(P1' x)

where P1' takes the normalisation in and P2' = l1 P2 has the bias l1 (b2 + t); and after it

    x + l2 F2 h(F1 (s x + t))  =  x + F2' h(F1' x)

All of P1, P2, F1, F2 are 1 x 1 convolutions, so padding plays no part.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional

from iqa_export.deploy.batchnorm import affine, fold_before, fold_pair, scale_outputs
from iqa_export.models.van import PatchEmbedding, Van, VanBlock


class FoldedVanBlock(nn.Module):
    """A block of VAN with its normalisations and factors inside its convolutions."""

    kept: Tensor

    def __init__(self, block: VanBlock) -> None:
        super().__init__()
        attention, mlp = block.attn, block.mlp
        scale, shift = affine(block.norm1)
        factor = block.layer_scale_1.double()
        self.enter = fold_before(block.norm1, attention.proj_1)
        self.gate = attention.spatial_gating_unit
        self.leave = scale_outputs(attention.proj_2, factor, factor * shift)
        kept = (1 + factor * scale)[:, None, None].detach()
        self.register_buffer("kept", kept.to(block.layer_scale_1.dtype))
        self.expand = fold_before(block.norm2, mlp.fc1)
        self.depthwise = mlp.dwconv
        self.reduce = scale_outputs(mlp.fc2, block.layer_scale_2.double())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        x = self.kept * x + self.leave(self.gate(functional.gelu(self.enter(x))))
        y: Tensor = x + self.reduce(functional.gelu(self.depthwise(self.expand(x))))
        return y


def fold_van(trunk: Van) -> Van:
    """Return a copy of the trunk with every batch normalisation and every factor folded."""
    trunk = copy.deepcopy(trunk).eval()
    for index in range(1, len(trunk.channels) + 1):
        embedding: PatchEmbedding = getattr(trunk, f"patch_embed{index}")
        setattr(trunk, f"patch_embed{index}", fold_pair(embedding.proj, embedding.norm))
        folded = nn.ModuleList(FoldedVanBlock(block) for block in getattr(trunk, f"block{index}"))
        setattr(trunk, f"block{index}", folded)
    return trunk
