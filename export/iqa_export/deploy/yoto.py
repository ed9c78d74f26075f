"""YOTO for less work: the function of `iqa_export.models.yoto`, 42 instead of 113 GMAC per crop without a reference.

1. Without a reference both sides are one tensor, encoded once.
2. Folded products in every attention (`iqa_export.deploy.attention`), the scale inside.
3. Where a window holds a single key its softmax is one: the value, broadcast over the window.
4. Windows are cut and joined by reshape and transpose (`iqa_export.models.windows`).
5. All that depends on the reference enters as folded queries: `ReferenceEncoder` computes them once per reference.
6. Low rank in the channel attention of the finest scales (`iqa_export.deploy.channel_attention`).
7. The two token heads share one product; the averages over maps are inside the scales of their LayerNorms.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from iqa_export.deploy import batchnorm, channel_attention
from iqa_export.deploy.attention import KeyFoldedAttention, QueryFoldedAttention
from iqa_export.deploy.heads import StackedHeads
from iqa_export.models import windows
from iqa_export.models.containers import Layers
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.models.resnet import ResNet50
from iqa_export.models.yoto import (
    BASIS,
    CROSS_WINDOWS,
    QUADRANTS,
    CrossScaleAttention,
    Head,
    ReferenceAttention,
    Side,
    Yoto,
    YotoLayout,
    YotoOutput,
)


class SideEncoder(nn.Module):
    """One input to the tokens of its scales, and to features for comparison where a reference is at hand."""

    def __init__(self, network: Yoto) -> None:
        super().__init__()
        self.comparison = network.comparison
        self.encoder = _folded(network.encoder)
        scales: list[nn.Module] = []
        for index, tokens in enumerate(network.layout.tokens):
            embed, channel = network.embed[index], network.channel_attention[index]
            if network.layout.normalised:
                norms = network.embed_norm[index], network.token_norm[index]
                scales.append(channel_attention.Normalised(embed, channel, *norms))
            elif channel_attention.low_rank_pays(embed.in_channels, tokens, embed.out_channels):
                scales.append(channel_attention.LowRank(embed, channel))
            else:
                scales.append(channel_attention.Folded(embed, channel))
        self.scales = nn.ModuleList(scales)

    def forward(self, image: Tensor, compared: bool = True) -> Side:
        """Encode (B, 3, 224, 224); features for comparison only if it is `compared`."""
        stages = self.encoder(image)
        tokens = [scale(stage) for scale, stage in zip(self.scales, stages, strict=True)]
        if not compared:
            return Side(tokens, [])
        return Side(tokens, [part.features(stage) for part, stage in zip(self.comparison, stages, strict=False)])


def _folded(encoder: nn.Module) -> nn.Module:
    if isinstance(encoder, ResNet50):
        return batchnorm.fold_resnet(encoder)
    return batchnorm.fold_mobilenet(encoder) if isinstance(encoder, MobileNetV2) else encoder


class FoldedReferenceAttention(nn.Module):
    """Attention between the inputs of one scale, its reference side in the form of folded queries."""

    def __init__(self, attention: ReferenceAttention) -> None:
        super().__init__()
        self.size = attention.size
        self.whole = QueryFoldedAttention(attention.whole)
        self.whole_gate = attention.whole.gate
        self.quadrant = None if attention.quadrant is None else QueryFoldedAttention(attention.quadrant)
        self.quadrant_gate = None if attention.quadrant is None else attention.quadrant.gate

    def queries(self, y: Tensor) -> list[Tensor]:
        """Project reference tokens, (B, size^2, dim), for the whole map and, but for the coarsest, for quadrants."""
        folded = [self.whole.query(y)]
        if self.quadrant is not None:
            folded.append(self.quadrant.query(y))
        return folded

    def forward(self, x: Tensor, queries: list[Tensor]) -> Tensor:
        """Map distorted tokens `x`, (B, size^2, dim), to the same shape."""
        x = x + nn.functional.gelu(self.whole_gate(x)) * self.whole(queries[0], x)
        if self.quadrant is None or self.quadrant_gate is None:
            return x
        blocks = windows.cut(x, self.size, QUADRANTS)
        mixed = self.quadrant(windows.cut(queries[1], self.size, QUADRANTS), blocks)
        return windows.join(blocks + nn.functional.gelu(self.quadrant_gate(blocks)) * mixed, self.size, QUADRANTS)


class FoldedCrossScaleAttention(nn.Module):
    """Attention from a fine to a coarser map, the product folded on the coarser side, which has fewer tokens."""

    def __init__(self, attention: CrossScaleAttention) -> None:
        super().__init__()
        self.fine, self.coarse = attention.fine, attention.coarse
        self.attention = KeyFoldedAttention(attention.attention)
        self.gate = attention.attention.gate

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, fine^2, dim) and (B, coarse^2, dim) to (B, fine^2, dim)."""
        queries = windows.cut(fine, self.fine, CROSS_WINDOWS)
        mixed = self.attention(queries, windows.cut(coarse, self.coarse, CROSS_WINDOWS))
        return windows.join(queries + nn.functional.gelu(self.gate(queries)) * mixed, self.fine, CROSS_WINDOWS)


class BroadcastCrossScale(nn.Module):
    """Attention to windows of one token: its softmax is one, so query and key vanish and the value is broadcast."""

    def __init__(self, attention: CrossScaleAttention) -> None:
        super().__init__()
        self.side = attention.fine // CROSS_WINDOWS
        self.value = attention.attention.value
        self.gate = attention.attention.gate

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, fine^2, dim) and (B, 49, dim) to (B, fine^2, dim)."""
        value = self.value(coarse).reshape(-1, CROSS_WINDOWS, 1, CROSS_WINDOWS, 1, coarse.shape[-1])
        gate = nn.functional.gelu(self.gate(fine)).reshape(-1, CROSS_WINDOWS, self.side, CROSS_WINDOWS, self.side, 1)
        spread: Tensor = (gate * value).reshape(fine.shape)
        return fine + spread


class FusedHead(nn.Module):
    """The head with both token networks as one, and the average of the maps inside their LayerNorms.

    mean_k(gamma_k n_k + beta_k) = sum_k((gamma_k / K) n_k + beta_k / K).
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.norms = copy.deepcopy(head.norms)
        names = list(self.norms)
        with torch.no_grad():
            for name, norm in self.norms.items():
                count = sum(other[0] == name[0] for other in names)
                norm.weight.div_(count)
                norm.bias.div_(count)
        self.heads = StackedHeads(head.score, head.weight)

    def forward(self, maps: dict[str, Tensor]) -> YotoOutput:
        """Score the maps, as `iqa_export.models.yoto.Head` does."""
        scales: dict[str, Tensor] = {}
        for name, tokens in maps.items():
            normalised = self.norms[name](tokens)
            scales[name[0]] = scales[name[0]] + normalised if name[0] in scales else normalised
        tokens = torch.cat([scales[scale] for scale in sorted(scales)], 1)
        score_values, weight_values = self.heads(tokens)
        token_score, token_weight = torch.relu(score_values), torch.sigmoid(weight_values)
        score = (token_score * token_weight).sum(-1) / token_weight.sum(-1)
        return YotoOutput(score, token_score, token_weight)


class DeployYoto(nn.Module):
    """The parts of the deploy form; `forward` scores with or without a reference.

    What a reference leaves for scoring is, per scale, a list of (B, N_i, dim): folded queries for the whole map and,
    but for the coarsest, for quadrants; then, where the network compares, the features for that, cut to tokens.

    Parameters
    ----------
    network
        The network as published; it is left as it is, and shares the parameters that no rewrite touches.
    reference_segment
        Segment embedding of the reference side, 0 or 1.
    """

    def __init__(self, network: Yoto, reference_segment: int) -> None:
        super().__init__()
        self.layout = network.layout
        self.reference_segment = reference_segment
        self.side = SideEncoder(network)
        self.segment = network.segment
        self.comparison = network.comparison
        self.reference_attention = Layers[FoldedReferenceAttention](
            FoldedReferenceAttention(attention) for attention in network.reference_attention
        )
        cross: dict[str, nn.Module] = {}
        for pair, attention in network.cross_scale.items():
            single_key = attention.coarse == CROSS_WINDOWS
            cross[pair] = (BroadcastCrossScale if single_key else FoldedCrossScaleAttention)(attention)
        self.cross_scale = nn.ModuleDict(cross)
        self.head = FusedHead(network.head)

    def queries(self, pristine: list[Tensor]) -> list[list[Tensor]]:
        """Folded queries of the reference side's tokens, per scale."""
        return [
            attention.queries(tokens + table.weight[self.reference_segment])
            for attention, tokens, table in zip(self.reference_attention, pristine, self.segment, strict=True)
        ]

    def reference_features(self, reference: Tensor) -> list[list[Tensor]]:
        """All that scoring needs of reference crops, (B, 3, 224, 224), per scale."""
        pristine = self.side(reference)
        parts = self.queries(pristine.tokens)
        for scale, features in zip(parts, pristine.features, strict=False):
            scale.append(features.reshape(features.shape[0], -1, self.layout.dim))
        return parts

    def assess(self, distorted: Side, reference_features: list[list[Tensor]] | None) -> YotoOutput:
        """Score the distorted side's tokens against those of a reference, or on their own."""
        maps = {}
        features = self.queries(distorted.tokens) if reference_features is None else reference_features
        for index, (attention, segment) in enumerate(zip(self.reference_attention, self.segment, strict=True)):
            x = distorted.tokens[index] + segment.weight[0]
            if self.layout.comparison and reference_features is not None:
                own = distorted.features[index]
                x = x + self.comparison[index](own, features[index][-1].reshape(own.shape))
            maps[f"{index + 1}{index + 1}"] = attention(x, features[index])
        for pair, across in self.cross_scale.items():
            maps[pair] = across(distorted.tokens[int(pair[0]) - 1], distorted.tokens[int(pair[1]) - 1])
        output: YotoOutput = self.head(maps)
        return output

    def forward(self, image: Tensor, reference: Tensor | None = None) -> YotoOutput:
        """Score crops, (B, 3, 224, 224); without `reference` the image is its own."""
        distorted = self.side(image, compared=reference is not None)
        return self.assess(distorted, None if reference is None else self.reference_features(reference))


class ReferenceEncoder(nn.Module):
    """All that scoring needs of a reference, (B, F, dim), scale after scale; as published F = 8281."""

    def __init__(self, network: DeployYoto) -> None:
        super().__init__()
        self.network = network

    def forward(self, reference: Tensor) -> Tensor:
        """Encode reference crops, (B, 3, 224, 224)."""
        return torch.cat([part for scale in self.network.reference_features(reference) for part in scale], 1)


class FeatureScorer(nn.Module):
    """Score crops against the output of `ReferenceEncoder`."""

    def __init__(self, network: DeployYoto) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, reference_features: Tensor) -> YotoOutput:
        """Score crops, (B, 3, 224, 224), against features, (B, F, dim)."""
        features = split_features(reference_features, self.network.layout)
        return self.network.assess(self.network.side(image), features)


def feature_lengths(layout: YotoLayout) -> list[list[int]]:
    """Tokens of each part of the reference's features, per scale."""
    compared = BASIS if layout.comparison else 0
    lengths = []
    for size in layout.sizes:
        queries = [size * size] * (1 + (size % QUADRANTS == 0))
        lengths.append([*queries, compared * size * size] if compared else queries)
    return lengths


def split_features(features: Tensor, layout: YotoLayout) -> list[list[Tensor]]:
    """Undo the concatenation of `ReferenceEncoder`."""
    lengths = feature_lengths(layout)
    parts = iter(torch.split(features, [length for scale in lengths for length in scale], 1))
    return [[next(parts) for _ in scale] for scale in lengths]
