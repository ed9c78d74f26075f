"""YOTO: one network for full-reference and no-reference quality (Yun and Lin, arXiv 2310.09560), as published.

This is the network as its authors wrote it, for training, for loading their checkpoints and as the oracle of parity;
`iqa_export.deploy.yoto` computes the same function with less than half of the work.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from iqa_export.models import resnet, swin, windows
from iqa_export.models.containers import Layers, NamedLayers
from iqa_export.models.heads import DROPOUT, TokenHead

CROP = 224
DIM = 768
SIZES = (56, 28, 14, 7)
TOKENS = tuple(size * size for size in SIZES)
QUADRANTS = 2
"""Windows along each axis in the local half of the attention between the two inputs."""
CROSS_WINDOWS = 7
"""Windows along each axis in the attention between scales: one per token of the coarsest map."""
SCALE_PAIRS = ("12", "13", "14", "23", "24", "34")

Segment = Literal["joint", "single"]
"""``joint``: the reference side carries segment embedding 1 in full-reference mode; ``single``: 0 on both sides."""


class YotoOutput(NamedTuple):
    """Scores of a batch of crops.

    Attributes
    ----------
    score
        (B,), the weighted mean of the token scores.
    token_score, token_weight
        (B, 4165), tokens of the four maps one after the other, each row-major.
    """

    score: Tensor
    token_score: Tensor
    token_weight: Tensor


def split_map(tokens: Tensor) -> Tensor:
    """Return the tokens of the finest map of (B, 4165) as a picture, (B, 56, 56)."""
    return tokens[:, : TOKENS[0]].reshape(-1, SIZES[0], SIZES[0])


class Attention(nn.Module):
    """Attention with one head and without output projection, gated per query token.

    Parameters
    ----------
    dim
        Features of a token; also the scale, dim^-1/2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, 1)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Mix the values of `keys` (..., K, dim) for each of `queries` (..., Q, dim)."""
        logits = self.query(queries) @ self.key(keys).transpose(-2, -1) * self.dim**-0.5
        mixed: Tensor = logits.softmax(-1) @ self.value(keys)
        return mixed

    def gating(self, tokens: Tensor) -> Tensor:
        """Gate of each token: (..., T, dim) to (..., T, 1)."""
        return nn.functional.gelu(self.gate(tokens))


class ChannelAttention(nn.Module):
    """Hierarchical attention, part 1: channels are the tokens, positions their features."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.attention = Attention(positions)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 768, N) to tokens (B, N, 768)."""
        mixed = self.dropout(self.attention(x, x))
        # The published network reinterprets the transposed map instead of transposing it back; weights depend on it.
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        gated: Tensor = mixed * self.attention.gating(x) + 2 * x
        return gated.transpose(1, 2)


class ReferenceAttention(nn.Module):
    """Hierarchical attention, part 2: tokens of the distorted image, asked for by those of the reference.

    First over the whole map, then inside quadrants; the coarsest map has no quadrants.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.whole = Attention(DIM)
        self.quadrant = Attention(DIM) if size % QUADRANTS == 0 else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map distorted `x` and reference `y`, both (B, size^2, 768), to (B, size^2, 768)."""
        x = x + self.whole.gating(x) * self.whole(y, x)
        if self.quadrant is None:
            return x
        x_blocks = windows.cut(x, self.size, QUADRANTS)
        y_blocks = windows.cut(y, self.size, QUADRANTS)
        mixed = self.quadrant(y_blocks, x_blocks)
        return windows.join(x_blocks + self.quadrant.gating(x_blocks) * mixed, self.size, QUADRANTS)


class CrossScaleAttention(nn.Module):
    """Semantic distortion awareness: a fine map asks a coarser one, window by window."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse
        self.attention = Attention(DIM)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, fine^2, 768) and (B, coarse^2, 768) to (B, fine^2, 768)."""
        fine_windows = windows.cut(fine, self.fine, CROSS_WINDOWS)
        coarse_windows = windows.cut(coarse, self.coarse, CROSS_WINDOWS)
        mixed = self.attention(fine_windows, coarse_windows)
        return windows.join(fine_windows + self.attention.gating(fine_windows) * mixed, self.fine, CROSS_WINDOWS)


class Head(nn.Module):
    """Average the normalised maps of each scale, then predict a score and a weight per token."""

    def __init__(self) -> None:
        super().__init__()
        names = [f"{i}{i}" for i in range(1, 5)] + list(SCALE_PAIRS)
        self.norms = NamedLayers[nn.LayerNorm]({name: nn.LayerNorm(DIM) for name in names})
        self.score = TokenHead(DIM, DIM // 2)
        self.weight = TokenHead(DIM, DIM // 2)

    def forward(self, maps: dict[str, Tensor]) -> YotoOutput:
        """Score the ten maps, keyed ``"11"`` (with the reference) and ``"12"`` (across scales), each (B, N_i, 768)."""
        scales = []
        for scale in "1234":
            normalised = [self.norms[name](tokens) for name, tokens in maps.items() if name[0] == scale]
            scales.append(torch.stack(normalised).mean(0))
        tokens = torch.cat(scales, 1)
        token_score = torch.relu(self.score(tokens))
        token_weight = torch.sigmoid(self.weight(tokens))
        score = (token_score * token_weight).sum(-1) / token_weight.sum(-1)
        return YotoOutput(score, token_score, token_weight)


class Yoto(nn.Module):
    """The whole network.

    Parameters
    ----------
    encoder
        ``swin_t`` or ``resnet50``.
    """

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.encoder: nn.Module = swin.SwinT() if encoder == "swin_t" else resnet.ResNet50()
        channels = swin.STAGE_CHANNELS if encoder == "swin_t" else resnet.STAGE_CHANNELS
        self.embed = Layers[nn.Conv2d](nn.Conv2d(count, DIM, 1) for count in channels)
        self.channel_attention = Layers[ChannelAttention](ChannelAttention(tokens) for tokens in TOKENS)
        self.segment = Layers[nn.Embedding](nn.Embedding(2, DIM) for _ in SIZES)
        self.reference_attention = Layers[ReferenceAttention](ReferenceAttention(size) for size in SIZES)
        self.cross_scale = NamedLayers[CrossScaleAttention](
            {pair: CrossScaleAttention(SIZES[int(pair[0]) - 1], SIZES[int(pair[1]) - 1]) for pair in SCALE_PAIRS}
        )
        self.head = Head()

    def side(self, image: Tensor) -> list[Tensor]:
        """Encode one input, (B, 3, 224, 224), to the tokens of the four scales, (B, N_i, 768)."""
        scales = []
        for stage, embed, attention in zip(self.encoder(image), self.embed, self.channel_attention, strict=True):
            scales.append(attention(embed(stage).flatten(2)))
        return scales

    def forward(self, image: Tensor, reference: Tensor, reference_segment: int) -> YotoOutput:
        """Score crops.

        Parameters
        ----------
        image, reference
            (B, 3, 224, 224), ``(x / 255 - 0.5) / 0.5``; in no-reference mode the same tensor twice.
        reference_segment
            Segment embedding of the reference side: 1 in full-reference mode of a jointly trained network, else 0.
        """
        distorted, pristine = self.side(image), self.side(reference)
        maps = {}
        for index, (attention, segment) in enumerate(zip(self.reference_attention, self.segment, strict=True)):
            x = distorted[index] + segment.weight[0]
            y = pristine[index] + segment.weight[reference_segment]
            maps[f"{index + 1}{index + 1}"] = attention(x, y)
        for pair, across in self.cross_scale.items():
            maps[pair] = across(distorted[int(pair[0]) - 1], distorted[int(pair[1]) - 1])
        output: YotoOutput = self.head(maps)
        return output
