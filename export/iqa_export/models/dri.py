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
from iqa_export.models.heads import TokenHead
from iqa_export.models.resnet import STAGE_CHANNELS, STEM_CHANNELS, ResNet50
from iqa_export.models.scale_swin import ScaleSwin

HALF = STAGE_CHANNELS[-1] // 2
"""Channels of each representation."""
EPSILON = 1e-8
"""Keeps the weighted mean finite when every weight is zero."""


class Representations(NamedTuple):
    """What the extractor makes of a batch of images.

    Attributes
    ----------
    taps
        Maps for the restorer: 64, 256 and 512 channels at strides 2, 4 and 8.
    quality_map
        (B, 1024, H / 32, W / 32).
    quality, degradation
        (B, 1024), the spatial means of the two halves.
    """

    taps: tuple[Tensor, Tensor, Tensor]
    quality_map: Tensor
    quality: Tensor
    degradation: Tensor


class DriOutput(NamedTuple):
    """What the network makes of a batch of crops: score (B,), and restored crops (B, 3, crop, crop) or None."""

    score: Tensor
    restored: Tensor | None


class DualRepresentationExtractor(nn.Module):
    """ResNet-50 whose last map is split on its channels into a quality and a degradation half ("DRE-Net").

    Averaging is linear, so a loss on the two vectors also trains the maps they are the means of.
    """

    mean: Tensor
    std: Tensor | None

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.quality_first = config.quality_half == "first"
        self.trunk = ResNet50()
        for name, values in (("mean", config.extractor_mean), ("std", config.extractor_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise RGB in [0, 1], (B, 3, H, W); without `std` the first convolutions divide."""
        centred = image - self.mean
        return centred if self.std is None else centred / self.std

    def forward(self, image: Tensor) -> Representations:
        """Represent RGB images in [0, 1], (B, 3, H, W)."""
        return self.represent(self.normalise(image))

    def represent(self, normalised: Tensor) -> Representations:
        """Represent normalised images."""
        stem = self.trunk.stem(normalised)
        stage1, stage2, _, stage4 = self.trunk.stages(stem)
        halves = stage4[:, :HALF], stage4[:, HALF:]
        quality_map, degradation_map = halves if self.quality_first else halves[::-1]
        means = quality_map.mean((2, 3)), degradation_map.mean((2, 3))
        return Representations((stem, stage1, stage2), quality_map, *means)


class Projector(nn.Module):
    """One half of the representation to the unit vectors that contrastive training compares; no part of scoring."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(HALF, HALF)
        self.last = nn.Linear(HALF, config.projection)

    def forward(self, representation: Tensor) -> Tensor:
        """Map (B, 1024) to (B, projection), both L2-normalised."""
        hidden = torch.relu(self.hidden(functional.normalize(representation, dim=-1)))
        return functional.normalize(self.last(hidden), dim=-1)


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


class GuidedStage(nn.Module):
    """Guidance blocks that share their view of the quality representation, then scale Swin blocks."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.size = config.size
        self.project = nn.Conv2d(HALF, config.dim, 1)
        self.guidance = Layers[TransposedGuidance](TransposedGuidance(config) for _ in range(config.guidance_blocks))
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
        """Map (B, dim, size, size), guided by (B, 1024, size / 4, size / 4), to the same shape."""
        shape = (self.size, self.size)
        quality = functional.interpolate(self.project(quality_map), shape, mode="bilinear", align_corners=False)
        quality, tokens = quality.flatten(2), features.flatten(2)
        for guidance in self.guidance:
            tokens = guidance(tokens, quality)
        guided: Tensor = self.swin(tokens.reshape(features.shape))
        return guided


class Encoder(nn.Module):
    """Restormer's encoder: three levels, and the downsampling to the trunk."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, config.width, 3, padding=1, bias=False)
        dims = [config.width << index for index in range(3)]
        self.levels = Layers[nn.Sequential](
            restormer.level(dim, heads, blocks, config.expansion)
            for dim, heads, blocks in zip(dims, config.restorer_heads, config.blocks, strict=True)
        )
        self.down = Layers[nn.Sequential](restormer.downsample(dim) for dim in dims)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps of the levels, width, 2 and 4 width channels at strides 1, 2, 4, and the trunk's input."""
        x = self.embed(image)
        skips = []
        for blocks, down in zip(self.levels, self.down, strict=True):
            skips.append(blocks(x))
            x = down(skips[-1])
        return skips, x


class Modulation(nn.Module):
    """Scale and shift of the trunk's channels, from the degradation representation."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(HALF, config.dim)
        self.activation = nn.LeakyReLU(config.modulation_slope)
        self.last = nn.Linear(config.dim, 2 * config.dim)

    def forward(self, x: Tensor, degradation: Tensor) -> Tensor:
        """Modulate (B, dim, H, W) by (B, 1024)."""
        modulation: Tensor = self.last(self.activation(self.hidden(degradation)))
        scale, shift = modulation[..., None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class DecoderLevel(nn.Module):
    """Upsample, concatenate the encoder's map, reduce, add the extractor's, then Restormer blocks.

    Parameters
    ----------
    config, index
        Level 0 is full resolution; it keeps both halves of the concatenation and takes no map of the extractor.
    """

    def __init__(self, config: DriConfig, index: int) -> None:
        super().__init__()
        dim = config.width << index
        self.up = restormer.upsample(2 * dim)
        self.reduce = nn.Conv2d(2 * dim, dim, 1, bias=False) if index else None
        tapped = config.extractor_taps and index > 0
        self.tap = nn.Conv2d((STEM_CHANNELS, STAGE_CHANNELS[0])[index - 1], dim, 1) if tapped else None
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
        self.tap = nn.Conv2d(STAGE_CHANNELS[1], config.dim, 1) if config.extractor_taps else None
        self.modulation = Modulation(config) if config.modulation else None
        self.decoder = Layers[DecoderLevel](DecoderLevel(config, index) for index in range(3))
        self.out = nn.Conv2d(2 * config.width, 3, 3, padding=1, bias=False)
        joined = config.dim + (config.dim // 2 if config.decoder_in_score else 0)
        self.fuse = nn.Conv2d(joined, config.dim, 1)
        self.head: nn.Module = QualityHead(config)

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
        decoded = None
        if restore or self.config.decoder_in_score:
            decoded = self.decoder[2](self.bottleneck(trunk, representations), skips[2], representations.taps[1])
        score: Tensor = self.head(self.tokens(trunk, decoded if self.config.decoder_in_score else None))
        if decoded is None or not restore:
            return DriOutput(score, None)
        for index in (1, 0):
            decoded = self.decoder[index](decoded, skips[index], representations.taps[0])
        return DriOutput(score, image + self.out(decoded))

    def bottleneck(self, trunk: Tensor, representations: Representations) -> Tensor:
        """Join the trunk's map with what the extractor kept and the degradation: the decoder's input."""
        if self.tap is not None:
            trunk = trunk + self.tap(representations.taps[2])
        if self.modulation is not None:
            trunk = self.modulation(trunk, representations.degradation)
        return trunk

    def tokens(self, trunk: Tensor, decoded: Tensor | None) -> Tensor:
        """Join the trunk's map and, if there, the decoder's first one to what the score is made of: (B, T, dim)."""
        joined = trunk if decoded is None else torch.cat([trunk, functional.avg_pool2d(decoded, 2)], 1)
        return functional.gelu(self.fuse(joined)).flatten(2).transpose(1, 2)
