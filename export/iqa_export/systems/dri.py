"""DRI-IQA as a system: contract and graphs; there are no published checkpoints, so the keys are ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.dri import deploy
from iqa_export.models.dri import Dri
from iqa_export.models.dri_config import CONFIGS, DriConfig
from iqa_export.systems.base import EDGE_SIZE, METRIC_SCALE, UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import ExtraOutput, PatchPlan, Resize, ScoreOutput, Task

EDGE_WEIGHTS = Path(__file__).parents[1] / "weights" / "dri-edge.safetensors"

_PLAN_COUNT = 20
_PLAN_SEED = 0
_MARKERS = {"extractor.trunk.conv1.weight": "base", "extractor.trunk.features.0.0.weight": "edge"}
"""An entry of each variant that the other has not."""


class DriSystem(System):
    """DRI-IQA with the default configuration or at edge size; a subclass with another `config` and `name` is another.

    Attributes
    ----------
    config
        Of the network but for the edge variant. One with another crop needs `crop`, `patch_plan` and `extra_outputs` of
        its own.
    """

    config: ClassVar[DriConfig] = CONFIGS["base"]
    name = "dri"
    title = "DRI-IQA"
    paper = "arXiv 2411.17390 (WACV 2025)"
    code = "none published"
    licence = "none: neither code nor weights were published"
    faithful = "in concept: no code or weights were published; built from the paper and the public blocks it cites"
    weights_source = (
        "a state dict of this project's own network, trained by you: no checkpoint was ever published, "
        "and those of the blocks it is built from don't fit"
    )
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"base": ("nr",), "edge": ("nr",)}
    bundled: ClassVar[dict[str, Path]] = {"edge": EDGE_WEIGHTS}
    # The network takes x / 255 as it is: the extractor normalises inside the graph, the restorer returns pixels.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    crop = config.crop
    # MANIQA averages twenty random crops; a fixed draw of them gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=config.crop, count=_PLAN_COUNT, seed=_PLAN_SEED)
    score = UNIT_SCORE
    extra_outputs = (ExtraOutput(name="restored", shape=(3, config.crop, config.crop)),)

    def config_of(self, variant: str) -> DriConfig:
        """Return the configuration of a variant's network."""
        return replace(CONFIGS["edge"], crop=self.crop) if variant == "edge" else self.config

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        return Dri(self.config_of(variant)).eval()

    def faithful_of(self, variant: str) -> str:
        """Tell the network with the trunk of the papers it is built from and ours."""
        if variant != "edge":
            return self.faithful
        return "our own network in DRI-IQA's form, as far as that is known: a MobileNetV2 trunk and a small restorer"

    def score_of(self, variant: str) -> ScoreOutput:
        """Return what the score means; the edge variant was taught by metrics, not by people."""
        return replace(self.score, scale=METRIC_SCALE) if variant == "edge" else self.score

    def patch_plan_of(self, variant: str) -> PatchPlan:
        """Return five crops for the edge variant, a quarter of the work."""
        return PatchPlan(kind="five", size=self.crop) if variant == "edge" else self.patch_plan

    def resize_of(self, choice: GraphChoice) -> Resize | None:
        """Shrink what the edge variant judges to the sizes it was trained on."""
        return EDGE_SIZE if choice.variant == "edge" else None

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the trunk from the name of its first layer."""
        return next((variant for marker, variant in _MARKERS.items() if marker in keys), None)

    def key_map(self, variant: str) -> KeyMap:
        """Return our own names; what contrastive training projects with is no part of scoring."""
        del variant
        return KeyMap(ignored=(r"projectors\..*",))

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the network as specified."""
        return _Outputs(cast(Dri, network), "restored" in choice.extras)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form."""
        return _Outputs(deploy(cast(Dri, network)), "restored" in choice.extras)


class _Outputs(nn.Module):
    """The network behind the outputs of the graph: the score and, if asked for, the restored crops."""

    def __init__(self, network: Dri, restore: bool) -> None:
        super().__init__()
        self.network, self.restore = network, restore

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.network(image, self.restore)
        return (output.score,) if output.restored is None else (output.score, output.restored)
