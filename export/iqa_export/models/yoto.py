"""YOTO: one network for full-reference and no-reference quality (Yun and Lin, arXiv 2310.09560), as published.

This is the network as its authors wrote it, for training, for loading their checkpoints and as the oracle of parity;
`iqa_export.deploy.yoto` computes the same function with less than half of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from iqa_export.models import mobilenet, resnet, swin, windows
from iqa_export.models.containers import Layers, NamedLayers
from iqa_export.models.heads import DROPOUT, TokenHead

CROP = 224
QUADRANTS = 2
"""Windows along each axis in the local half of the attention between the two inputs."""
CROSS_WINDOWS = 7
"""Windows along each axis in the attention between scales: one per token of the coarsest map."""

Segment = Literal["joint", "single"]
"""``joint``: the reference side carries segment embedding 1 in full-reference mode; ``single``: 0 on both sides."""


@dataclass(frozen=True)
class YotoLayout:
    """Sizes of a YOTO.

    Attributes
    ----------
    dim
        Features of a token.
    sizes
        Sides of the maps, the finest first.
    difference
        Whether full-reference mode adds, to each token of the distorted side, a linear map of the absolute difference
        to the reference's token. The published network has to build that difference out of attention alone, which
        takes its width and its amount of training; the edge variant is given it (our choice).
    """

    dim: int = 768
    sizes: tuple[int, ...] = (56, 28, 14, 7)
    difference: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each map."""
        return tuple(size * size for size in self.sizes)

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales: ``"1"`` is the finest."""
        return tuple(str(index + 1) for index in range(len(self.sizes)))

    @property
    def pairs(self) -> tuple[str, ...]:
        """Pairs of a fine and a coarser scale: ``"12"``, ``"13"``..."""
        return tuple(fine + coarse for fine in self.scales for coarse in self.scales if fine < coarse)


LAYOUTS = {
    "swin_t": YotoLayout(),
    "resnet50": YotoLayout(),
    "edge": YotoLayout(dim=64, sizes=(28, 14, 7), difference=True),
}
"""The published network with its two encoders, and ours for edge devices."""


class YotoOutput(NamedTuple):
    """Scores of a batch of crops.

    Attributes
    ----------
    score
        (B,), the weighted mean of the token scores.
    token_score, token_weight
        (B, T), tokens of the maps one after the other, the finest first, each row-major; as published T = 4165.
    """

    score: Tensor
    token_score: Tensor
    token_weight: Tensor


def split_map(tokens: Tensor, side: int) -> Tensor:
    """Return the tokens of the finest map of (B, T) as a picture, (B, side, side)."""
    return tokens[:, : side * side].reshape(-1, side, side)


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
        """Map (B, dim, N) to tokens (B, N, dim)."""
        mixed = self.dropout(self.attention(x, x))
        # The published network reinterprets the transposed map instead of transposing it back; weights depend on it.
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        gated: Tensor = mixed * self.attention.gating(x) + 2 * x
        return gated.transpose(1, 2)


class ReferenceAttention(nn.Module):
    """Hierarchical attention, part 2: tokens of the distorted image, asked for by those of the reference.

    First over the whole map, then inside quadrants; the coarsest map has no quadrants.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.whole = Attention(dim)
        self.quadrant = Attention(dim) if size % QUADRANTS == 0 else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map distorted `x` and reference `y`, both (B, size^2, dim), to (B, size^2, dim)."""
        x = x + self.whole.gating(x) * self.whole(y, x)
        if self.quadrant is None:
            return x
        x_blocks = windows.cut(x, self.size, QUADRANTS)
        y_blocks = windows.cut(y, self.size, QUADRANTS)
        mixed = self.quadrant(y_blocks, x_blocks)
        return windows.join(x_blocks + self.quadrant.gating(x_blocks) * mixed, self.size, QUADRANTS)


class CrossScaleAttention(nn.Module):
    """Semantic distortion awareness: a fine map asks a coarser one, window by window."""

    def __init__(self, fine: int, coarse: int, dim: int) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse
        self.attention = Attention(dim)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, fine^2, dim) and (B, coarse^2, dim) to (B, fine^2, dim)."""
        fine_windows = windows.cut(fine, self.fine, CROSS_WINDOWS)
        coarse_windows = windows.cut(coarse, self.coarse, CROSS_WINDOWS)
        mixed = self.attention(fine_windows, coarse_windows)
        return windows.join(fine_windows + self.attention.gating(fine_windows) * mixed, self.fine, CROSS_WINDOWS)


class Head(nn.Module):
    """Average the normalised maps of each scale, then predict a score and a weight per token."""

    def __init__(self, layout: YotoLayout) -> None:
        super().__init__()
        dim = layout.dim
        names = [scale + scale for scale in layout.scales] + list(layout.pairs)
        self.norms = NamedLayers[nn.LayerNorm]({name: nn.LayerNorm(dim) for name in names})
        self.score = TokenHead(dim, dim // 2)
        self.weight = TokenHead(dim, dim // 2)

    def forward(self, maps: dict[str, Tensor]) -> YotoOutput:
        """Score the maps, keyed ``"11"`` (with the reference) and ``"12"`` (across scales), each (B, N_i, dim)."""
        scales = []
        for scale in sorted({name[0] for name in maps}):
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
    variant
        ``swin_t``, ``resnet50`` or ``edge``: the encoder, and of `LAYOUTS` the rest.
    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.layout = layout = LAYOUTS[variant]
        dim, sizes = layout.dim, layout.sizes
        self.encoder, channels = _encoder(variant)
        self.embed = Layers[nn.Conv2d](nn.Conv2d(count, dim, 1) for count in channels)
        self.channel_attention = Layers[ChannelAttention](ChannelAttention(tokens) for tokens in layout.tokens)
        self.segment = Layers[nn.Embedding](nn.Embedding(2, dim) for _ in sizes)
        self.difference = Layers[nn.Linear](nn.Linear(dim, dim, bias=False) for _ in sizes if layout.difference)
        self.reference_attention = Layers[ReferenceAttention](ReferenceAttention(size, dim) for size in sizes)
        self.cross_scale = NamedLayers[CrossScaleAttention](
            {pair: CrossScaleAttention(sizes[int(pair[0]) - 1], sizes[int(pair[1]) - 1], dim) for pair in layout.pairs}
        )
        self.head = Head(layout)

    def side(self, image: Tensor) -> list[Tensor]:
        """Encode one input, (B, 3, 224, 224), to the tokens of each scale, (B, N_i, dim)."""
        scales = []
        for stage, embed, attention in zip(self.encoder(image), self.embed, self.channel_attention, strict=True):
            scales.append(attention(embed(stage).flatten(2)))
        return scales

    def assess(self, distorted: list[Tensor], pristine: list[Tensor], reference_segment: int) -> YotoOutput:
        """Score what `side` made of the two inputs; without a reference both are the same."""
        maps = {}
        for index, (attention, segment) in enumerate(zip(self.reference_attention, self.segment, strict=True)):
            x = distorted[index] + segment.weight[0]
            if self.layout.difference:
                x = x + self.difference[index]((distorted[index] - pristine[index]).abs())
            y = pristine[index] + segment.weight[reference_segment]
            maps[f"{index + 1}{index + 1}"] = attention(x, y)
        for pair, across in self.cross_scale.items():
            maps[pair] = across(distorted[int(pair[0]) - 1], distorted[int(pair[1]) - 1])
        output: YotoOutput = self.head(maps)
        return output

    def forward(self, image: Tensor, reference: Tensor, reference_segment: int) -> YotoOutput:
        """Score crops.

        Parameters
        ----------
        image, reference
            (B, 3, 224, 224), ``(x / 255 - 0.5) / 0.5``; in no-reference mode the same tensor twice.
        reference_segment
            Segment embedding of the reference side: 1 in full-reference mode of a jointly trained network, else 0.
        """
        return self.assess(self.side(image), self.side(reference), reference_segment)


def _encoder(variant: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the encoder of a variant and the channels of its maps."""
    if variant == "edge":
        return mobilenet.MobileNetV2(), mobilenet.STAGE_CHANNELS
    if variant == "resnet50":
        return resnet.ResNet50(), resnet.STAGE_CHANNELS
    return swin.SwinT(), swin.STAGE_CHANNELS
