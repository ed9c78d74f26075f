"""DRI-IQA: quality from two representations, with an image restorer's help (Yue et al., WACV 2025, arXiv 2411.17390).

Faithful in concept: no code and no weights were published. The parts and how they meet follow the paper; forms and
numbers that it leaves open come from the public blocks it cites, see `iqa_export.models.dri_config`.
`iqa_export.deploy.dri` computes the same function with less work.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.models import restormer
from iqa_export.models.containers import Layers
from iqa_export.models.dri_config import DriConfig
from iqa_export.models.dri_extractor import DualRepresentationExtractor, Representations
from iqa_export.models.heads import TokenHead
from iqa_export.models.scale_swin import ScaleSwin

EPSILON = 1e-8
"""Keeps the weighted mean finite when every weight is zero."""


class DriOutput(NamedTuple):
    """What the network makes of a batch of crops: score (B,), and restored crops (B, 3, crop, crop) or None."""

    score: Tensor
    restored: Tensor | None


class TransposedGuidance(nn.Module):
    """Attention between the channels of two maps, positions being the features ("TGB").

    MANIQA's transposed attention with the queries from another map, and without the reshape that there scrambles the
    output: one head, no normalisation.
    """

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.query_from = config.tgb_query
        self.dim = config.size**2
        self.query = nn.Linear(self.dim, self.dim)
        self.key = nn.Linear(self.dim, self.dim)
        self.value = nn.Linear(self.dim, self.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, image: Tensor, quality: Tensor) -> Tensor:
        """Add to the image's features what guidance by the quality representation finds; all (B, dim, positions)."""
        asking, asked = (quality, image) if self.query_from == "quality" else (image, quality)
        logits = self.query(asking) @ self.key(asked).transpose(-2, -1) * self.dim**-0.5
        guided: Tensor = image + self.dropout(logits.softmax(-1) @ self.value(asked))
        return guided


class ChannelGuidance(nn.Module):
    """The same between maps of any size: projections are of channels, rows have unit length, as Restormer's attention.

    A learned temperature takes the place of the usual scale.
    """

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.query_from = config.tgb_query
        self.query = nn.Conv2d(config.dim, config.dim, 1)
        self.key = nn.Conv2d(config.dim, config.dim, 1)
        self.value = nn.Conv2d(config.dim, config.dim, 1)
        self.temperature = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, image: Tensor, quality: Tensor) -> Tensor:
        """Add to the image's features what guidance by the quality representation finds; all (B, dim, positions)."""
        asking, asked = (quality, image) if self.query_from == "quality" else (image, quality)
        asking, asked = asking[..., None], asked[..., None]
        query = functional.normalize(self.query(asking)[..., 0], dim=-1)
        key = functional.normalize(self.key(asked)[..., 0], dim=-1)
        logits = query @ key.transpose(-2, -1) * self.temperature
        guided: Tensor = image + self.dropout(logits.softmax(-1) @ self.value(asked)[..., 0])
        return guided


class GuidedStage(nn.Module):
    """Guidance blocks that share their view of the quality representation, then scale Swin blocks."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.size = config.size
        self.project = nn.Conv2d(config.half, config.dim, 1)
        kind = TransposedGuidance if config.guidance == "positions" else ChannelGuidance
        self.guidance = Layers[nn.Module](kind(config) for _ in range(config.guidance_blocks))
        self.swin = ScaleSwin(
            config.dim,
            config.swin_heads,
            config.size,
            window=config.swin_window,
            hidden=config.swin_hidden,
            depths=config.swin_depths,
            scale=config.swin_scale,
            dropout=config.dropout,
            drop_path=config.drop_path,
        )

    def forward(self, features: Tensor, quality_map: Tensor) -> Tensor:
        """Map (B, dim, size, size), guided by (B, half, H / 32, W / 32) of the crop, to the same shape."""
        shape = (self.size, self.size)
        quality = functional.interpolate(self.project(quality_map), shape, mode="bilinear", align_corners=False)
        quality, tokens = quality.flatten(2), features.flatten(2)
        for guidance in self.guidance:
            tokens = guidance(tokens, quality)
        guided: Tensor = self.swin(tokens.reshape(features.shape))
        return guided


class Encoder(nn.Module):
    """Restormer's encoder: its levels, and the downsampling to the trunk."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.stride = config.restorer_stride
        self.embed = nn.Conv2d(3 * self.stride**2, config.width, 3, padding=1, bias=False)
        dims = [config.width << index for index in range(config.levels)]
        self.levels = Layers[nn.Sequential](
            restormer.level(dim, heads, blocks, config.expansion)
            for dim, heads, blocks in zip(dims, config.restorer_heads, config.blocks, strict=True)
        )
        self.down = Layers[nn.Sequential](restormer.downsample(dim) for dim in dims)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps of the levels, finest first, each with twice the channels of the last; the trunk's input."""
        x = self.embed(functional.pixel_unshuffle(image, self.stride) if self.stride > 1 else image)
        skips = []
        for blocks, down in zip(self.levels, self.down, strict=True):
            skips.append(blocks(x))
            x = down(skips[-1])
        return skips, x


class Modulation(nn.Module):
    """Scale and shift of a map's channels, from representations.

    Parameters
    ----------
    config
        Of the network.
    features, dim
        Length of the vector, channels of the map.
    """

    def __init__(self, config: DriConfig, features: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, config.dim)
        self.activation = nn.LeakyReLU(config.modulation_slope)
        self.last = nn.Linear(config.dim, 2 * dim)

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Modulate (B, dim, H, W) by (B, features)."""
        modulation: Tensor = self.last(self.activation(self.hidden(representation)))
        scale, shift = modulation[..., None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class DecoderLevel(nn.Module):
    """Upsample, concatenate the encoder's map, reduce, add the extractor's, then Restormer blocks.

    Parameters
    ----------
    config, index
        Level 0 is the finest; it keeps both halves of the concatenation and takes no map of the extractor.
    """

    def __init__(self, config: DriConfig, index: int) -> None:
        super().__init__()
        dim = config.width << index
        self.up = restormer.upsample(2 * dim)
        self.reduce = nn.Conv2d(2 * dim, dim, 1, bias=False) if index else None
        tapped = config.extractor_taps and index > 0
        self.tap = nn.Conv2d(config.tap_channels[index - 1], dim, 1) if tapped else None
        kept = dim if index else 2 * dim
        self.blocks = restormer.level(kept, config.restorer_heads[index], config.blocks[index], config.expansion)

    def forward(self, x: Tensor, skip: Tensor, tap: Tensor) -> Tensor:
        """Map (B, 2 dim, H, W) to (B, dim, 2 H, 2 W), at level 0 with twice the channels."""
        x = torch.cat([self.up(x), skip], 1)
        if self.reduce is not None:
            x = self.reduce(x)
        if self.tap is not None:
            x = x + self.tap(tap)
        decoded: Tensor = self.blocks(x)
        return decoded


class QualityHead(nn.Module):
    """Quality and weight of each token, and their mean: MANIQA's head."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.score = TokenHead(config.dim, config.dim)
        self.weight = TokenHead(config.dim, config.dim)
        nn.init.constant_(self.score.last.bias, config.score_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, dim) to scores, (B,)."""
        return weighted_mean(self.score(tokens), self.weight(tokens))


def weighted_mean(score: Tensor, weight: Tensor) -> Tensor:
    """Average token scores by token weights, both (B, T) before their last activations: (B,)."""
    score, weight = torch.relu(score), torch.sigmoid(weight)
    return (score * weight).sum(-1) / (weight.sum(-1) + EPSILON)


class Dri(nn.Module):
    """The whole network but for the projectors of contrastive training."""

    def __init__(self, config: DriConfig | None = None) -> None:
        super().__init__()
        self.config = config = DriConfig() if config is None else config
        self.extractor = DualRepresentationExtractor(config)
        self.encoder = Encoder(config)
        self.guided = Layers[GuidedStage](GuidedStage(config) for _ in range(config.guided_stages))
        last = config.levels - 1
        self.tap = nn.Conv2d(config.tap_channels[last], config.dim, 1) if config.extractor_taps else None
        self.modulation = Modulation(config, config.half, config.dim) if config.modulation else None
        self.decoder = Layers[DecoderLevel](DecoderLevel(config, index) for index in range(config.levels))
        fine = 2 * config.width
        self.fine_modulation = Modulation(config, 2 * config.half, fine) if config.fine_modulation else None
        self.out = nn.Conv2d(fine, 3 * config.restorer_stride**2, 3, padding=1, bias=False)
        if config.zero_start:
            nn.init.zeros_(self.out.weight)
            if self.fine_modulation is not None:
                for parameter in self.fine_modulation.last.parameters():
                    nn.init.zeros_(parameter)
        joined = config.dim + (config.dim // 2 if config.decoder_in_score else 0)
        joined += config.half if config.quality_in_score else 0
        self.fuse = nn.Conv2d(joined, config.dim, 1)
        self.head: nn.Module = QualityHead(config)

    @property
    def beyond_score(self) -> tuple[str, ...]:
        """The parts that the restored crop alone depends on."""
        used = 1 if self.config.decoder_in_score else 0
        levels = (f"decoder.{index}" for index in range(self.config.levels - used))
        return (*levels, "out") if self.fine_modulation is None else (*levels, "fine_modulation", "out")

    def forward(self, image: Tensor, restore: bool = False) -> DriOutput:
        """Score crops.

        Parameters
        ----------
        image
            (B, 3, crop, crop), RGB in [0, 1].
        restore
            Whether to run the decoder to its end and return the restored crops too.
        """
        normalised = self.extractor.normalise(image)
        representations = self.extractor.represent(normalised)
        skips, trunk = self.encoder(image if self.config.restorer_input == "pixels" else normalised)
        for stage in self.guided:
            trunk = stage(trunk, representations.quality_map)
        last = self.config.levels - 1
        decoded = None
        if restore or self.config.decoder_in_score:
            decoded = self.decode(last, self.bottleneck(trunk, representations), skips, representations)
        score: Tensor = self.head(self.tokens(trunk, decoded, representations.quality_map))
        if decoded is None or not restore:
            return DriOutput(score, None)
        for index in reversed(range(last)):
            decoded = self.decode(index, decoded, skips, representations)
        if self.fine_modulation is not None:
            both = torch.cat([representations.quality, representations.degradation], 1)
            decoded = self.fine_modulation(decoded, both)
        residual = self.out(decoded)
        stride = self.config.restorer_stride
        return DriOutput(score, image + (functional.pixel_shuffle(residual, stride) if stride > 1 else residual))

    def decode(self, index: int, x: Tensor, skips: list[Tensor], representations: Representations) -> Tensor:
        """Run one level of the decoder; the finest takes none of the extractor's maps."""
        decoded: Tensor = self.decoder[index](x, skips[index], representations.taps[max(index - 1, 0)])
        return decoded

    def bottleneck(self, trunk: Tensor, representations: Representations) -> Tensor:
        """Join the trunk's map with what the extractor kept and the degradation: the decoder's input."""
        if self.tap is not None:
            trunk = trunk + self.tap(representations.taps[self.config.levels - 1])
        if self.modulation is not None:
            trunk = self.modulation(trunk, representations.degradation)
        return trunk

    def tokens(self, trunk: Tensor, decoded: Tensor | None, quality_map: Tensor) -> Tensor:
        """Join what the score is made of, at the trunk's resolution: (B, T, dim)."""
        joined = [trunk]
        if decoded is not None and self.config.decoder_in_score:
            joined.append(functional.avg_pool2d(decoded, 2))
        if self.config.quality_in_score:
            shape = (self.config.size, self.config.size)
            joined.append(functional.interpolate(quality_map, shape, mode="bilinear", align_corners=False))
        fused = self.fuse(torch.cat(joined, 1) if len(joined) > 1 else trunk)
        return functional.gelu(fused).flatten(2).transpose(1, 2)
