"""MFE-Net: quality guided by high frequencies and a feature of distortions (Yu, arXiv 2411.07556).

Faithful in concept: no code and no weights were published. The three branches and how they meet follow the paper;
forms and numbers that it leaves open come from the public blocks it cites, or of its authors, and are fields of
`MfeConfig`. `iqa_export.deploy.mfe` computes the same function with less work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.models import van
from iqa_export.models.containers import Layers
from iqa_export.models.fusion import AdaptiveFusion, AttentionalFusion
from iqa_export.models.mobilenet import PYRAMID_CHANNELS, MobileNetV2Pyramid
from iqa_export.models.octave import OctaveConv
from iqa_export.models.resnet import STAGE_CHANNELS, ResNet50
from iqa_runtime.errors import UsageError

DISTORTIONS = ("none", "blur", "noise", "compression", "exposure", "contrast", "color", "spatial")
"""What the edge variant names: nothing, or the groups of KADID-10k, whose brightness is called exposure."""
VIEWS = 4
"""Of each map in the head's inception modules."""
_CROP_MULTIPLE = 32


@dataclass(frozen=True, kw_only=True)
class MfeConfig:
    """Every choice that the paper leaves open, with the reason for its default.

    Attributes
    ----------
    crop
        Side of a crop: MAMIQA's, whose trunk and head this network has. Its layers take any multiple of 32.
    mean, std
        Normalisation of what the quality and the high-frequency branch see, RGB: ImageNet's, so that published VAN
        weights fit.
    distortion_input
        ``pixels``: the distortion branch sees x / 255, as CONTRIQUE's weights want it; ``normalised``: what the others
        see, for the weights of ARNIQA and of ImageNet.
    trunks
        ``published``: VAN judges quality, ResNet-50 knows distortions. ``mobilenet_v2``: both are MobileNetV2 (our
        choice for edge devices), and `van` and `drop_path` are without effect.
    van
        Size of the quality branch, ``b0`` to ``b3``: MAMIQA's is B2.
    drop_path
        In that branch, VAN's for B0 to B2.
    stem
        Channels of the two strided convolutions before the high-frequency modules. The paper says vanilla convolution;
        two of stride two meet VAN's first stage.
    low_share
        Part of the channels that is low-frequency, inside the high-frequency branch alone: HFCG-CNN's, by the same
        author.
    slope
        Of the leaky ReLUs in that branch, HFCG-CNN's.
    fusion_reduction
        Of the hidden layer that weighs quality against high frequencies: AFF's, for want of a formula.
    zero_start
        Start with taps of zero and weights of one in that fusion, which then passes the quality map on as it is: a
        trained quality branch is undisturbed when training starts.
    next_stage
        What the next stage of VAN gets. ``guided``: the quality map fused with high frequencies, for the paper has them
        steer the quality branch, and HFCG-CNN feeds the guided map on; ``quality``: the quality map alone; ``aware``:
        the map fused with distortions too.
    aff_reduction
        Inside the fusion with the distortion maps, AFF's.
    feature_maps
        Whose means the distortion feature is: those of the ``last`` map of the branch, as CONTRIQUE's, or of ``all``
        one after the other. Grain and blur show in the fine maps, and a narrow last map cannot hold everything.
    unit_feature
        Scale the distortion feature to unit length: contrastive training of the branch compares directions.
    named
        Whether a linear layer on the feature, before it is scaled, says which of `DISTORTIONS` were done. They are not
        exclusive. The paper has the branch tell distortions apart and no output that says what it found (our choice).
    hidden
        Features of the regressor's two hidden layers, MAMIQA's.
    dropout
        In the regressor, MAMIQA's, but in training alone.
    """

    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    distortion_input: Literal["pixels", "normalised"] = "pixels"
    trunks: Literal["published", "mobilenet_v2"] = "published"
    van: Literal["b0", "b1", "b2", "b3"] = "b2"
    drop_path: float = 0.1
    stem: tuple[int, int] = (32, 64)
    low_share: float = 0.25
    slope: float = 0.2
    fusion_reduction: int = 4
    zero_start: bool = True
    next_stage: Literal["guided", "quality", "aware"] = "guided"
    aff_reduction: int = 4
    feature_maps: Literal["last", "all"] = "last"
    unit_feature: bool = True
    named: bool = False
    hidden: int = 512
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse sizes that the branches' resampling does not reach."""
        if self.crop % _CROP_MULTIPLE or self.crop <= 0:
            raise UsageError(f"crop {self.crop}: choose a multiple of {_CROP_MULTIPLE}")
        if not 0 < self.low_share < 1:
            raise UsageError(f"low_share {self.low_share}: choose a part between 0 and 1")

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the maps of the four stages of the quality branch."""
        return PYRAMID_CHANNELS if self.trunks == "mobilenet_v2" else van.SIZES[self.van].channels

    @property
    def distortion_channels(self) -> tuple[int, ...]:
        """Channels of the four maps of the distortion branch."""
        return PYRAMID_CHANNELS if self.trunks == "mobilenet_v2" else STAGE_CHANNELS

    @property
    def features(self) -> int:
        """Length of the distortion feature."""
        return sum(self.distortion_channels[self.feature_slice])

    @property
    def feature_slice(self) -> slice:
        """The maps of the distortion branch that the feature is made of."""
        return slice(None) if self.feature_maps == "all" else slice(-1, None)


CONFIGS = {
    "van_b2": MfeConfig(),
    "edge": MfeConfig(trunks="mobilenet_v2", stem=(16, 32), feature_maps="all", named=True, hidden=128, dropout=0.2),
}
"""The network as far as it was published, and ours for edge devices."""


class MfeOutput(NamedTuple):
    """What the network makes of a batch of crops.

    Attributes
    ----------
    score
        (B,).
    distortion_feature
        (B, features), means over maps of the distortion branch; of unit length unless the config says otherwise.
    distortion_logits
        (B, 8), for each of `DISTORTIONS` the logit of the probability that it was done; None if nothing is named.
    """

    score: Tensor
    distortion_feature: Tensor
    distortion_logits: Tensor | None


class HighFrequencyModule(nn.Module):
    """An octave convolution whose high output is tapped; the low one goes to the next module alone.

    Parameters
    ----------
    channels, out_channels, low, out_low, stride
        Those of `OctaveConv`.
    slope
        Of the leaky ReLU after each output.
    """

    def __init__(self, channels: int, out_channels: int, low: int, out_low: int, stride: int, slope: float) -> None:
        super().__init__()
        self.convolution = OctaveConv(channels, out_channels, low, out_low, stride)
        self.high_norm = nn.BatchNorm2d(out_channels - out_low)
        self.low_norm = nn.BatchNorm2d(out_low) if out_low else None
        self.activation = nn.LeakyReLU(slope)
        self.tap = nn.Conv2d(out_channels - out_low, out_channels, 1, bias=False)
        self.tap_norm = nn.BatchNorm2d(out_channels)

    def forward(self, high: Tensor, low: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return both frequencies and the tapped map, (B, out_channels, H / stride, W / stride)."""
        high, low = self.convolution(high, low)
        high = self.activation(self.high_norm(high))
        if low is not None and self.low_norm is not None:
            low = self.activation(self.low_norm(low))
        return high, low, self.tap_norm(self.tap(high))


class HighFrequencyBranch(nn.Module):
    """Strided convolutions, then one high-frequency module for each stage of the quality branch ("HFEN")."""

    def __init__(self, config: MfeConfig) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for channels, out_channels in zip((3, *config.stem), config.stem, strict=False):
            stem += [
                nn.Conv2d(channels, out_channels, 3, 2, 1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.LeakyReLU(config.slope),
            ]
        self.stem = nn.Sequential(*stem)
        levels = []
        channels, low = config.stem[-1], 0
        for index, out_channels in enumerate(config.channels):
            # What is low at the end would be discarded.
            out_low = 0 if index == len(config.channels) - 1 else int(config.low_share * out_channels)
            stride = 2 if index else 1
            levels.append(HighFrequencyModule(channels, out_channels, low, out_low, stride, config.slope))
            channels, low = out_channels, out_low
        self.levels = Layers[HighFrequencyModule](levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to four maps, of the shapes of the quality branch."""
        high, low = self.stem(x), None
        taps = []
        for module in self.levels:
            high, low, tap = module(high, low)
            taps.append(tap)
        return taps


class Inception(nn.Module):
    """Four views of a map at half its size, beside each other: 1 x 1, 3 x 3, twice 3 x 3, average.

    Nothing but convolution lies between the views' layers: normalisation and activation follow the concatenation.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(dim, dim, 1, 2)
        self.small = nn.Conv2d(dim, dim, 3, 2, 1)
        self.large = nn.Sequential(nn.Conv2d(dim, dim, 3, 2, 1), nn.Conv2d(dim, dim, 3, 1, 1))
        self.average = nn.AvgPool2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(VIEWS * dim)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, 4 dim, ceil(H / 2), ceil(W / 2))."""
        views = torch.cat([self.point(x), self.small(x), self.large(x), self.average(x)], 1)
        activated: Tensor = self.activation(self.norm(views))
        return activated


class Regressor(nn.Sequential):
    """Three linear layers from the features of all stages to one value: MAMIQA's."""

    def __init__(self, config: MfeConfig) -> None:
        super().__init__(
            nn.Linear(VIEWS * sum(config.channels), config.hidden),
            nn.PReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            nn.PReLU(),
            nn.Linear(config.hidden, 1),
        )


class DistortionProjections(Layers[nn.Sequential]):
    """The maps of the distortion branch to the channels of the quality branch."""

    def __init__(self, config: MfeConfig) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(channels, dim, 1, bias=False), nn.BatchNorm2d(dim))
            for channels, dim in zip(config.distortion_channels, config.channels, strict=True)
        )


def distortion_branch(config: MfeConfig) -> ResNet50 | MobileNetV2Pyramid:
    """Return the trunk that knows distortions."""
    return MobileNetV2Pyramid() if config.trunks == "mobilenet_v2" else ResNet50()


def naming_layer(config: MfeConfig) -> nn.Linear | None:
    """Return what names distortions, if anything does.

    At the start each name has a probability of about one in their number, as RetinaNet's classes have theirs (Lin et
    al., arXiv 1708.02002, section 4.1): most names don't fit most pictures, and a bias has far to go from a half.
    """
    if not config.named:
        return None
    layer = nn.Linear(config.features, len(DISTORTIONS))
    nn.init.constant_(layer.bias, -math.log(len(DISTORTIONS) - 1))
    return layer


class Mfe(nn.Module):
    """The whole network."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: MfeConfig | None = None) -> None:
        super().__init__()
        self.config = config = MfeConfig() if config is None else config
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.quality: MobileNetV2Pyramid | van.Van
        if config.trunks == "mobilenet_v2":
            self.quality = MobileNetV2Pyramid()
        else:
            self.quality = van.Van(van.SIZES[config.van], config.drop_path)
        self.high_frequency = HighFrequencyBranch(config)
        self.guide = Layers[AdaptiveFusion](AdaptiveFusion(dim, config.fusion_reduction) for dim in config.channels)
        self.distortion = distortion_branch(config)
        self.project = DistortionProjections(config)
        self.aware = Layers[AttentionalFusion](AttentionalFusion(dim, config.aff_reduction) for dim in config.channels)
        self.inception = Layers[Inception](Inception(dim) for dim in config.channels)
        self.regressor = Regressor(config)
        self.naming = naming_layer(config)
        if config.zero_start:
            for level, guide in zip(self.high_frequency.levels, self.guide, strict=True):
                nn.init.zeros_(level.tap_norm.weight)
                for parameter in guide.weigh.parameters():
                    nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> MfeOutput:
        """Score crops, (B, 3, crop, crop), RGB in [0, 1]."""
        normalised = (image - self.mean) / self.std
        distortions = self.distortion(image if self.config.distortion_input == "pixels" else normalised)
        taps = self.high_frequency(normalised)
        x, features = normalised, []
        for index, (tap, distortion) in enumerate(zip(taps, distortions, strict=True)):
            quality = self.quality.stage(index + 1, x)
            guided = self.guide[index](quality, tap)
            aware = self.aware[index](guided, self.project[index](distortion))
            features.append(self.inception[index](aware).mean((2, 3)))
            x = {"guided": guided, "quality": quality, "aware": aware}[self.config.next_stage]
        score = self.regressor(torch.cat(features, 1)).squeeze(-1)
        feature = self.pool(distortions)
        logits = None if self.naming is None else self.naming(feature)
        return MfeOutput(score, functional.normalize(feature, dim=1) if self.config.unit_feature else feature, logits)

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return the distortion feature of the maps of the distortion branch, before it is scaled."""
        return torch.cat([each.mean((2, 3)) for each in maps[self.config.feature_slice]], 1)
