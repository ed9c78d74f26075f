"""MFE-Net as a system: contract, graphs, and no key map, for no checkpoint was published."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.mfe import deploy_mfe
from iqa_export.models.mfe import DISTORTION_FEATURES, Mfe, MfeConfig, MfeOutput
from iqa_export.systems.base import UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import ExtraOutput, PatchPlan, Task

_FEATURE = ExtraOutput(name="distortion_feature", shape=(DISTORTION_FEATURES,))
_PLAN_COUNT = 50
_PLAN_SEED = 0


class MfeSystem(System):
    """MFE-Net with VAN-B2; a subclass with another name and config is another model."""

    config: ClassVar[MfeConfig] = MfeConfig()
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
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"van_b2": ("nr",)}
    # The network takes x / 255 and normalises inside, for its branches want different inputs.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    crop = config.crop
    # MAMIQA averages fifty random crops; a fixed draw of them gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=config.crop, count=_PLAN_COUNT, seed=_PLAN_SEED)
    score = UNIT_SCORE
    extra_outputs = (_FEATURE,)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        del variant
        return Mfe(self.config).eval()

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Return None: there is one variant."""
        del keys
        return None

    def key_map(self, variant: str) -> KeyMap:
        """Return our own names."""
        del variant
        return KeyMap()

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the network."""
        return _Outputs(network, _FEATURE.name in choice.extras)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form."""
        return _Outputs(deploy_mfe(cast(Mfe, network)), _FEATURE.name in choice.extras)


class _Outputs(nn.Module):
    """A network that returns `MfeOutput` behind the outputs of the graph."""

    def __init__(self, network: nn.Module, feature: bool) -> None:
        super().__init__()
        self.network, self.feature = network, feature

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output: MfeOutput = self.network(image)
        return output if self.feature else (output.score,)
