"""The choices in DRI-IQA that its paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iqa_export.models import mobilenet, resnet
from iqa_runtime.errors import UsageError

EXTRACTOR_STRIDE = 32
"""Of the extractor's last map; crops are multiples of it."""
_CHOICES = {
    "trunk": ("resnet50", "mobilenet_v2"),
    "guidance": ("positions", "channels"),
    "quality_half": ("first", "second"),
    "restorer_input": ("pixels", "normalised"),
    "tgb_query": ("quality", "image"),
}


@dataclass(frozen=True, kw_only=True)
class DriConfig:
    """Every choice that the paper leaves open, with the reason for its default.

    Attributes
    ----------
    crop
        Side of a crop, a multiple of 32. 224 as MANIQA, the source of the guided trunk's blocks; linear layers over
        positions make it part of the network.
    trunk
        Of the extractor. ``resnet50`` as QPT, whose contrast the paper extends; ``mobilenet_v2`` for edge devices (our
        choice), with a layer behind it that makes one map of its maps.
    representation
        Features of each half behind that layer; ResNet-50's last map has halves of 1024.
    extractor_mean, extractor_std
        Normalisation of what the extractor sees, RGB: ImageNet's, so that published ResNet-50 weights fit.
    quality_half
        Which half of the extractor's channels is the quality representation; the other is that of degradation. The
        paper says two halves and no order.
    restorer_input
        ``pixels``: the restorer sees x / 255 and its residual is in the range of pixels; ``normalised``: it sees what
        the extractor sees.
    restorer_stride
        1 begins at full resolution, as Restormer; 2 with the four pixels of each square side by side, a quarter of the
        work (our choice for edge devices).
    width
        Channels of the restorer at its finest resolution, doubled at each halving: Restormer's 48.
    restorer_blocks
        Blocks a level, of as many levels: 2, 2 and 2 cost less than half of Restormer's.
    full_restormer
        Restormer's 4, 6 and 6 blocks a level instead.
    restorer_heads
        Attention heads a level, Restormer's.
    expansion
        Of Restormer's feed-forward layers, Restormer's.
    zero_start
        Start with a residual of zero: what is restored is at first the crop itself, which few steps then improve.
    guided_stages, guidance_blocks
        Stages of the trunk, and transposed guidance blocks in each: MANIQA's two of two attention blocks.
    tgb_query
        ``quality``: queries of the guidance from the quality representation, keys and values from the image's
        features, the smallest change that makes MANIQA's block a guidance; ``image``: the other way round.
    guidance
        What makes queries, keys and values: linear layers over ``positions``, MANIQA's; or over ``channels``,
        Restormer's, which fit crops of any size (our choice: an edge variant can be trained on smaller ones).
    dropout
        In the guidance and before the Swin blocks, MANIQA's.
    swin_depths, swin_heads, swin_window, swin_hidden, swin_scale, drop_path
        The scale Swin blocks, MANIQA's.
    extractor_taps
        Add maps of the extractor to the restorer's, at the resolutions they share: how the authors' earlier
        restorer (L2RIRNet) takes features that were kept.
    modulation
        Scale and shift the trunk's channels by the degradation representation, as AirNet: this half reaches the
        restorer.
    fine_modulation
        Scale and shift the channels of the restorer's finest level, too, by both representations: how much of each
        filter's answer is taken away depends on what was done and how badly, which few steps learn (our choice).
    modulation_slope
        Of the leaky ReLU in that, AirNet's.
    decoder_in_score
        Give the predictor the decoder's first level beside the trunk: the paper has restoration assist the score, and
        VCRNet's predictor takes decoder maps.
    quality_in_score
        Give the predictor the quality map, too: what few steps of training the restorer sees do less harm (our choice).
    score_bias
        Initial bias of the token scores, so that the final ReLU is alive when training starts.
    projection
        Features of each half that contrastive training compares, ARNIQA's.
    """

    crop: int = 224
    trunk: Literal["resnet50", "mobilenet_v2"] = "resnet50"
    representation: int = 128
    extractor_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    extractor_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    quality_half: Literal["first", "second"] = "first"
    restorer_input: Literal["pixels", "normalised"] = "pixels"
    restorer_stride: Literal[1, 2] = 1
    width: int = 48
    restorer_blocks: tuple[int, ...] = (2, 2, 2)
    full_restormer: bool = False
    restorer_heads: tuple[int, ...] = (1, 2, 4)
    expansion: float = 2.66
    zero_start: bool = False
    guided_stages: int = 2
    guidance_blocks: int = 2
    tgb_query: Literal["quality", "image"] = "quality"
    guidance: Literal["positions", "channels"] = "positions"
    dropout: float = 0.1
    swin_depths: tuple[int, ...] = (2, 2)
    swin_heads: int = 4
    swin_window: int = 4
    swin_hidden: int = 768
    swin_scale: float = 0.8
    drop_path: float = 0.1
    extractor_taps: bool = True
    modulation: bool = True
    fine_modulation: bool = False
    modulation_slope: float = 0.1
    decoder_in_score: bool = True
    quality_in_score: bool = False
    score_bias: float = 0.5
    projection: int = 128

    def __post_init__(self) -> None:
        """Refuse sizes that don't divide and words that mean nothing."""
        if self.crop % EXTRACTOR_STRIDE or self.crop % self.stride or self.size % self.swin_window:
            raise UsageError(
                f"crop {self.crop}: choose a multiple of {EXTRACTOR_STRIDE} and of {self.stride * self.swin_window}"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r}: choose {' or '.join(known)}")

    @property
    def levels(self) -> int:
        """Resolutions of the restorer above that of the guided trunk."""
        return len(self.restorer_heads)

    @property
    def stride(self) -> int:
        """Of the guided trunk and the score's tokens, against the crop: where the restorer's last downsampling ends."""
        return self.restorer_stride << self.levels

    @property
    def dim(self) -> int:
        """Channels of the guided trunk."""
        return self.width << self.levels

    @property
    def size(self) -> int:
        """Side of the guided trunk's maps."""
        return self.crop // self.stride

    @property
    def blocks(self) -> tuple[int, ...]:
        """Restormer blocks a level."""
        return (4, 6, 6) if self.full_restormer else self.restorer_blocks

    @property
    def half(self) -> int:
        """Channels of each representation."""
        return self.representation if self.trunk == "mobilenet_v2" else resnet.STAGE_CHANNELS[-1] // 2

    @property
    def tap_channels(self) -> tuple[int, int, int]:
        """Channels of the extractor's maps for the restorer: at strides 2, 4 and 8 of ResNet-50, 4, 8 and 16 else."""
        if self.trunk == "mobilenet_v2":
            return mobilenet.PYRAMID_CHANNELS[:3]
        return (resnet.STEM_CHANNELS, *resnet.STAGE_CHANNELS[:2])


CONFIGS = {
    "base": DriConfig(),
    "edge": DriConfig(
        trunk="mobilenet_v2",
        restorer_stride=2,
        width=16,
        restorer_blocks=(1, 1),
        restorer_heads=(1, 2),
        expansion=2.0,
        zero_start=True,
        guided_stages=1,
        fine_modulation=True,
        guidance="channels",
        dropout=0.0,
        swin_depths=(2,),
        swin_hidden=128,
        drop_path=0.0,
        quality_in_score=True,
    ),
}
"""The network as far as it was published, and ours for edge devices."""
