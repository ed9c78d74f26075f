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
    comparison
        Whether full-reference mode adds, to each token of the distorted side, what `Comparison` finds between the
        inputs at that place. The published network has to build that out of attention alone, which takes its width and
        its amount of training; the edge variant is given it (our choice).
    normalised
        Whether tokens pass a LayerNorm before and after the channel attention. Gates multiply maps by maps, one stage
        after the other, and nothing in the published network bounds them; with it the edge variant trains at ten times
        the rate, and its activations fit half precision and eight bits (our choice).
    """

    dim: int = 768
    sizes: tuple[int, ...] = (56, 28, 14, 7)
    comparison: bool = False
    normalised: bool = False

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


BASIS = 3
"""Features that `Comparison` looks at, as a multiple of a token's."""

LAYOUTS = {
    "swin_t": YotoLayout(),
    "resnet50": YotoLayout(),
    "edge": YotoLayout(dim=64, sizes=(28, 14, 7), comparison=True, normalised=True),
}
"""The published network with its two encoders, and ours for edge devices."""


class Side(NamedTuple):
    """One input, encoded.

    Attributes
    ----------
    tokens
        (B, N_i, dim) of each scale.
    features
        (B, N_i, BASIS * dim) of each scale, for `Comparison`; none where nothing is compared.
    """

    tokens: list[Tensor]
    features: list[Tensor]


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


def normalise_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalise each position of (B, dim, N) over its features."""
    normalised: Tensor = norm(x.transpose(1, 2)).transpose(1, 2)
    return normalised


def split_map(tokens: Tensor, side: int) -> Tensor:
    """Return the tokens of the finest map of (B, T) as a picture, (B, side, side)."""
    return tokens[:, : side * side].reshape(-1, side, side)


class Attention(nn.Module):
    """Attention with one head and without output projection, gated per query token.

    Parameters
    ----------
    dim
        Features of a token; also the scale, dim^-1/2.
    dropout
        Share of the mixed values that training sets to zero.
    """

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Mix the values of `keys` (..., K, dim) for each of `queries` (..., Q, dim)."""
        query, key, value = self.query(queries), self.key(keys), self.value(keys)
        if self.training and query.shape[-2] > self.dim:
            # The same without ever holding the logits, which on large maps take most of a training step's time.
            q, k, v = (part.reshape(-1, 1, part.shape[-2], self.dim) for part in (query, key, value))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=self.dim**-0.5).reshape(query.shape)
        else:
            logits = query @ key.transpose(-2, -1) * self.dim**-0.5
            mixed = logits.softmax(-1) @ value
        dropped: Tensor = self.dropout(mixed)
        return dropped

    def gating(self, tokens: Tensor) -> Tensor:
        """Gate of each token: (..., T, dim) to (..., T, 1)."""
        return nn.functional.gelu(self.gate(tokens))


class ChannelAttention(nn.Module):
    """Hierarchical attention, part 1: channels are the tokens, positions their features."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.attention = Attention(positions, DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, N) to tokens (B, N, dim)."""
        mixed = self.attention(x, x)
        # The published network reinterprets the transposed map instead of transposing it back; weights depend on it.
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        gated: Tensor = mixed * self.attention.gating(x) + 2 * x
        return gated.transpose(1, 2)


class ReferenceAttention(nn.Module):
    """Hierarchical attention, part 2: tokens of the distorted image, asked for by those of the reference.

    First over the whole map, then inside quadrants; the coarsest map has no quadrants.
    """

    def __init__(self, size: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.whole = Attention(dim, dropout)
        self.quadrant = Attention(dim, dropout) if size % QUADRANTS == 0 else None

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

    def __init__(self, fine: int, coarse: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fine, self.coarse = fine, coarse
        self.attention = Attention(dim, dropout)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, fine^2, dim) and (B, coarse^2, dim) to (B, fine^2, dim)."""
        fine_windows = windows.cut(fine, self.fine, CROSS_WINDOWS)
        coarse_windows = windows.cut(coarse, self.coarse, CROSS_WINDOWS)
        mixed = self.attention(fine_windows, coarse_windows)
        return windows.join(fine_windows + self.attention.gating(fine_windows) * mixed, self.fine, CROSS_WINDOWS)


class Comparison(nn.Module):
    """How unlike two inputs are, feature by feature and place by place.

    With features a and b, linear in a map of the encoder, and a learned constant c > 0, it takes

        (a - b)^2 / (a^2 + b^2 + c) = 1 - (2 a b + c) / (a^2 + b^2 + c)

    the term that SSIM, FSIM, VSI and GMSD have in common: zero where nothing changed, and the weaker the more was there
    already, as structure masks errors. It is the same for contrast raised and lowered, for grain added and detail lost,
    which people do not judge alike; so beside it goes the change with its sign (our choice),

        (a^2 - b^2) / (a^2 + b^2 + c)
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.basis = nn.Conv2d(channels, BASIS * dim, 1, bias=False)
        self.log_constant = nn.Parameter(torch.zeros(BASIS * dim))
        self.mix = nn.Linear(2 * BASIS * dim, dim, bias=False)

    def features(self, stage: Tensor) -> Tensor:
        """Map a stage map, (B, C, size, size), to (B, N, BASIS * dim)."""
        features: Tensor = self.basis(stage).flatten(2).transpose(1, 2)
        return features

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Map the features of both inputs, the distorted one first, to (B, N, dim)."""
        energy, pristine_energy = a.square(), b.square()
        total = energy + pristine_energy + self.log_constant.exp()
        terms = torch.cat([(a - b).square() / total, (energy - pristine_energy) / total], -1)
        mixed: Tensor = self.mix(terms)
        return mixed


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
    attention_dropout
        In training, after the attentions between the two inputs and between scales; the authors' is 0.1. After the
        channel attention and in the heads it is 0.1 always.
    drop_path
        In training, of the Swin-T encoder (`iqa_export.models.swin.SwinT`); the authors' is 0.2. Others have none.
    """

    def __init__(self, variant: str, *, attention_dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.layout = layout = LAYOUTS[variant]
        dim, sizes = layout.dim, layout.sizes
        self.encoder, channels = _encoder(variant, drop_path)
        self.embed = Layers[nn.Conv2d](nn.Conv2d(count, dim, 1) for count in channels)
        self.channel_attention = Layers[ChannelAttention](ChannelAttention(tokens) for tokens in layout.tokens)
        norms = sizes if layout.normalised else ()
        self.embed_norm = Layers[nn.LayerNorm](nn.LayerNorm(dim) for _ in norms)
        self.token_norm = Layers[nn.LayerNorm](nn.LayerNorm(dim) for _ in norms)
        self.segment = Layers[nn.Embedding](nn.Embedding(2, dim) for _ in sizes)
        self.comparison = Layers[Comparison](Comparison(count, dim) for count in channels if layout.comparison)
        self.reference_attention = Layers[ReferenceAttention](
            ReferenceAttention(size, dim, attention_dropout) for size in sizes
        )
        size_of = dict(zip(layout.scales, sizes, strict=True))
        self.cross_scale = NamedLayers[CrossScaleAttention](
            {
                pair: CrossScaleAttention(size_of[pair[0]], size_of[pair[1]], dim, attention_dropout)
                for pair in layout.pairs
            }
        )
        self.head = Head(layout)

    def side(self, image: Tensor, compared: bool = True) -> Side:
        """Encode one input, (B, 3, 224, 224); features for comparison only if it is `compared`."""
        side = Side([], [])
        for index, stage in enumerate(self.encoder(image)):
            x = self.embed[index](stage).flatten(2)
            if self.layout.normalised:
                x = normalise_channels(self.embed_norm[index], x)
            tokens = self.channel_attention[index](x)
            side.tokens.append(self.token_norm[index](tokens) if self.layout.normalised else tokens)
            if self.layout.comparison and compared:
                side.features.append(self.comparison[index].features(stage))
        return side

    def assess(self, distorted: Side, pristine: Side, reference_segment: int) -> YotoOutput:
        """Score what `side` made of the two inputs; without a reference both are the same."""
        maps = {}
        for index, (attention, segment) in enumerate(zip(self.reference_attention, self.segment, strict=True)):
            x = distorted.tokens[index] + segment.weight[0]
            if self.layout.comparison and distorted is not pristine:
                x = x + self.comparison[index](distorted.features[index], pristine.features[index])
            y = pristine.tokens[index] + segment.weight[reference_segment]
            maps[f"{index + 1}{index + 1}"] = attention(x, y)
        for pair, across in self.cross_scale.items():
            maps[pair] = across(distorted.tokens[int(pair[0]) - 1], distorted.tokens[int(pair[1]) - 1])
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


def _encoder(variant: str, drop_path: float) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the encoder of a variant and the channels of its maps."""
    if variant == "edge":
        return mobilenet.MobileNetV2(), mobilenet.STAGE_CHANNELS
    if variant == "resnet50":
        return resnet.ResNet50(), resnet.STAGE_CHANNELS
    return swin.SwinT(drop_path), swin.STAGE_CHANNELS
