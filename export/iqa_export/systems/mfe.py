"""MFE-Net as a system: contract, graphs, and no key map, for no checkpoint was published."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.mfe import deploy_mfe
from iqa_export.models.mfe import CONFIGS, DISTORTIONS, Mfe, MfeConfig, MfeOutput
from iqa_export.systems.base import EDGE_SIZE, METRIC_SCALE, UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import ExtraOutput, PatchPlan, Resize, ScoreOutput, Task

EDGE_WEIGHTS = Path(__file__).parents[1] / "weights" / "mfe-edge.safetensors"
FEATURE = "distortion_feature"
NAMED = "distortions"
_PLAN_COUNT = 50
_PLAN_SEED = 0
_MARKERS = {"quality.patch_embed1.proj.weight": "van_b2", "quality.features.0.0.weight": "edge"}
"""An entry of each variant that the other has not."""


class MfeSystem(System):
    """MFE-Net with VAN-B2 and ResNet-50, or at edge size; a subclass with other configs is another model."""

    configs: ClassVar[dict[str, MfeConfig]] = CONFIGS
    name = "mfe"
    title = "MFE-Net"
    paper = "arXiv 2411.07556"
    code = "none published"
    licence = "none: neither code nor weights were published"
    faithful = "in concept: no code or weights were published; built from the paper and the public blocks it cites"
    weights_source = (
        "a state dict of this project's own network, trained by you: no checkpoint was published; "
        "published VAN and ResNet-50 weights are for its trunks alone (iqa_export.backbones)"
    )
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"van_b2": ("nr",), "edge": ("nr",)}
    bundled: ClassVar[dict[str, Path]] = {"edge": EDGE_WEIGHTS}
    # The network takes x / 255 and normalises inside, for its branches want different inputs.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    crop = CONFIGS["van_b2"].crop
    # MAMIQA averages fifty random crops; a fixed draw of them gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=crop, count=_PLAN_COUNT, seed=_PLAN_SEED)
    score = UNIT_SCORE
    extra_outputs = (ExtraOutput(name=FEATURE, shape=(CONFIGS["van_b2"].features,)),)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        return Mfe(self.configs[variant]).eval()

    def faithful_of(self, variant: str) -> str:
        """Tell the network with the published trunks from ours."""
        if variant != "edge":
            return self.faithful
        return "our own network in MFE-Net's form, as far as that is known: both trunks are MobileNetV2"

    def score_of(self, variant: str) -> ScoreOutput:
        """Return what the score means; the edge variant was taught by metrics, not by people."""
        return replace(self.score, scale=METRIC_SCALE) if variant == "edge" else self.score

    def extras_of(self, variant: str) -> tuple[ExtraOutput, ...]:
        """Return the feature and, where they are named, the distortions."""
        config = self.configs[variant]
        feature = ExtraOutput(name=FEATURE, shape=(config.features,))
        named = ExtraOutput(name=NAMED, shape=(len(DISTORTIONS),), labels=DISTORTIONS)
        return (feature, named) if config.named else (feature,)

    def patch_plan_of(self, variant: str) -> PatchPlan:
        """Return five crops for the edge variant, a tenth of the work."""
        return PatchPlan(kind="five", size=self.crop) if variant == "edge" else self.patch_plan

    def resize_of(self, choice: GraphChoice) -> Resize | None:
        """Shrink what the edge variant judges to the sizes it was trained on."""
        return EDGE_SIZE if choice.variant == "edge" else None

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the trunk from the name of its first layer."""
        return next((variant for marker, variant in _MARKERS.items() if marker in keys), None)

    def key_map(self, variant: str) -> KeyMap:
        """Return our own names."""
        del variant
        return KeyMap()

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the network."""
        return _Outputs(network, choice.extras)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form."""
        return _Outputs(deploy_mfe(cast(Mfe, network)), choice.extras)


class _Outputs(nn.Module):
    """A network that returns `MfeOutput` behind the outputs of the graph."""

    def __init__(self, network: nn.Module, extras: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.extras = network, extras

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output: MfeOutput = self.network(image)
        outputs = [output.score]
        if FEATURE in self.extras:
            outputs.append(output.distortion_feature)
        if NAMED in self.extras and output.distortion_logits is not None:
            outputs.append(torch.sigmoid(output.distortion_logits))
        return tuple(outputs)
