"""The choices in DRI-IQA that its paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iqa_runtime.errors import UsageError

STRIDE = 8
"""Of the guided trunk and the score's tokens, against the crop: where Restormer's third downsampling ends."""
EXTRACTOR_STRIDE = 32
"""Of the extractor's last map; crops are multiples of it."""
_CHOICES = {
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
        Side of a crop, a multiple of 32. 224 as MANIQA, the source of the trunk's blocks; its linear layers over
        positions make it part of the network.
    extractor_mean, extractor_std
        Normalisation of what the extractor sees, RGB: ImageNet's, so that published ResNet-50 weights fit.
    quality_half
        Which half of the extractor's channels is the quality representation; the other is that of degradation. The
        paper says two halves and no order.
    restorer_input
        ``pixels``: the restorer sees x / 255 and its residual is in the range of pixels; ``normalised``: it sees what
        the extractor sees.
    width
        Channels of the restorer at full resolution, doubled at each halving: Restormer's 48.
    full_restormer
        Restormer's 4, 6 and 6 blocks a level instead of 2, 2 and 2, which cost less than half.
    restorer_heads
        Attention heads a level, Restormer's.
    expansion
        Of Restormer's feed-forward layers, Restormer's.
    guided_stages, guidance_blocks
        Stages of the trunk, and transposed guidance blocks in each: MANIQA's two of two attention blocks.
    tgb_query
        ``quality``: queries of the guidance from the quality representation, keys and values from the image's
        features, the smallest change that makes MANIQA's block a guidance; ``image``: the other way round.
    dropout
        In the guidance and before the Swin blocks, MANIQA's.
    swin_depths, swin_heads, swin_window, swin_hidden, swin_scale, drop_path
        The scale Swin blocks, MANIQA's.
    extractor_taps
        Add maps of the extractor to the restorer's, at the three resolutions they share: how the authors' earlier
        restorer (L2RIRNet) takes features that were kept.
    modulation
        Scale and shift the trunk's channels by the degradation representation, as AirNet: this half reaches the
        restorer.
    modulation_slope
        Of the leaky ReLU in that, AirNet's.
    decoder_in_score
        Give the predictor the decoder's first level beside the trunk: the paper has restoration assist the score, and
        VCRNet's predictor takes decoder maps.
    score_bias
        Initial bias of the token scores, so that the final ReLU is alive when training starts.
    projection
        Features of each half that contrastive training compares, ARNIQA's.
    """

    crop: int = 224
    extractor_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    extractor_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    quality_half: Literal["first", "second"] = "first"
    restorer_input: Literal["pixels", "normalised"] = "pixels"
    width: int = 48
    full_restormer: bool = False
    restorer_heads: tuple[int, int, int] = (1, 2, 4)
    expansion: float = 2.66
    guided_stages: int = 2
    guidance_blocks: int = 2
    tgb_query: Literal["quality", "image"] = "quality"
    dropout: float = 0.1
    swin_depths: tuple[int, ...] = (2, 2)
    swin_heads: int = 4
    swin_window: int = 4
    swin_hidden: int = 768
    swin_scale: float = 0.8
    drop_path: float = 0.1
    extractor_taps: bool = True
    modulation: bool = True
    modulation_slope: float = 0.1
    decoder_in_score: bool = True
    score_bias: float = 0.5
    projection: int = 128

    def __post_init__(self) -> None:
        """Refuse sizes that don't divide and words that mean nothing."""
        if self.crop % EXTRACTOR_STRIDE or self.size % self.swin_window:
            raise UsageError(
                f"crop {self.crop}: choose a multiple of {EXTRACTOR_STRIDE} and of {STRIDE * self.swin_window}"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r}: choose {' or '.join(known)}")

    @property
    def dim(self) -> int:
        """Channels of the guided trunk."""
        return STRIDE * self.width

    @property
    def size(self) -> int:
        """Side of the guided trunk's maps."""
        return self.crop // STRIDE

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Restormer blocks a level."""
        return (4, 6, 6) if self.full_restormer else (2, 2, 2)
