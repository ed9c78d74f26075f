"""DRI-IQA as a system: contract and graphs; there are no published checkpoints, so the keys are ours."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.dri import deploy
from iqa_export.models.dri import Dri
from iqa_export.models.dri_config import DriConfig
from iqa_export.systems.base import UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import ExtraOutput, PatchPlan, Task

_PLAN_COUNT = 20
_PLAN_SEED = 0


class DriSystem(System):
    """DRI-IQA with the default configuration; a subclass with another `config` and `name` is another system.

    Attributes
    ----------
    config
        Of the network. One with another crop needs `crop`, `patch_plan` and `extra_outputs` of its own.
    """

    config: ClassVar[DriConfig] = DriConfig()
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
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"base": ("nr",)}
    # The network takes x / 255 as it is: the extractor normalises inside the graph, the restorer returns pixels.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    crop = config.crop
    # MANIQA averages twenty random crops; a fixed draw of them gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=config.crop, count=_PLAN_COUNT, seed=_PLAN_SEED)
    score = UNIT_SCORE
    extra_outputs = (ExtraOutput(name="restored", shape=(3, config.crop, config.crop)),)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        del variant
        return Dri(self.config).eval()

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Return None: there is one variant."""
        del keys
        return None

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
