"""CVRKD-IQA as a system: key map of the authors' checkpoints, contract, graphs."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.cvrkd import DeployCvrkd
from iqa_export.models.cvrkd import CROP, CROPS, FEATURES, GRID, Cvrkd
from iqa_export.systems.base import GraphChoice, System
from iqa_runtime.contract import PatchPlan, ScoreOutput, Task

_PLAN_SEED = 0

SCORE_ENDS = (1.0, 5.0)
"""Of KADID-10k's mean opinion scores."""


class CvrkdSystem(System):
    """CVRKD-IQA: the student takes any clean photograph as its reference, the teacher the aligned original."""

    name = "cvrkd"
    title = "CVRKD-IQA"
    paper = "arXiv 2202.13123 (AAAI 2022)"
    code = "https://github.com/guanghaoyin/CVRKD-IQA"
    licence = "MIT"
    faithful = "as published; outputs equal to the authors' implementation within float32 rounding"
    weights_source = (
        "NAR_student_cross_dataset.pth (variant student) or FR_teacher_cross_dataset.pth (variant teacher), "
        "linked from https://github.com/guanghaoyin/CVRKD-IQA"
    )
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"student": ("nar",), "teacher": ("fr",)}
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    crop = CROP
    crops_per_item = CROPS
    # The authors crop at random, unseeded; a fixed draw of ten crops gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=CROP, count=CROPS, seed=_PLAN_SEED)
    score = ScoreOutput(
        low=SCORE_ENDS[0],
        high=SCORE_ENDS[1],
        higher_is_better=True,
        bounded=False,
        scale="mean opinion score of KADID-10k, 1 to 5",
    )
    feature_shape = (FEATURES, GRID, GRID)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode; both variants are the same one."""
        del variant
        return Cvrkd().eval()

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Return None: teacher and student have the same keys, the task decides."""
        del keys
        return None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names; the trunk keeps torchvision's."""
        del variant
        prefixes = {"trunk": "feature_extractor", "hidden": "regressor.l1", "last": "regressor.l2"}
        prefixes |= {f"project.{stage}": f"lda{stage + 1}_process.0" for stage in range(4)}
        for mixer, published, depth in (
            ("distorted_mixer", "MLP_encoder_lq.mlp", 9),
            ("difference_mixer", "MLP_encoder_diff.mlp", 18),
        ):
            prefixes[f"{mixer}.embed"] = f"{published}.1"
            prefixes[f"{mixer}.norm"] = f"{published}.{2 + depth}"
            for block in range(depth):
                for index, axis in enumerate(("token", "channel")):
                    theirs = f"{published}.{2 + block}.{index}"
                    prefixes[f"{mixer}.blocks.{block}.{axis}_norm"] = f"{theirs}.norm"
                    prefixes[f"{mixer}.blocks.{block}.{axis}_mlp.0"] = f"{theirs}.fn.0"
                    prefixes[f"{mixer}.blocks.{block}.{axis}_mlp.2"] = f"{theirs}.fn.3"
        # Parts that the authors' checkpoints carry and their forward pass never reads.
        ignored = (
            r"feature_extractor\.lda\d_(pool\.0|fc)\..*",
            r"feature_extractor\.fc\..*",
            r"regressor\.(relu1|bn1)\..*",
        )
        return KeyMap(prefixes, ignored)

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the published network."""
        del choice
        return _Score(network)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form, taking the crops of image and reference."""
        del choice
        return _TwoInputs(DeployCvrkd(cast(Cvrkd, network)))

    def reference_split(self, network: nn.Module, choice: GraphChoice) -> tuple[nn.Module, nn.Module]:
        """Return the encoder of features and the scorer that takes them."""
        del choice
        deployed = DeployCvrkd(cast(Cvrkd, network))
        return deployed.encoder, _Score(deployed)

    def baked(self, network: nn.Module, choice: GraphChoice, features: Tensor) -> nn.Module:
        """Return a scorer against the constant features of one reference, (1, 2560, 7, 7)."""
        del choice
        return _Baked(DeployCvrkd(cast(Cvrkd, network)), features)


class _Score(nn.Module):
    """A network that returns `CvrkdOutput`, reduced to its score."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        return (self.network(image, other).score,)


class _TwoInputs(nn.Module):
    """The deploy form with the reference encoded in the same graph."""

    def __init__(self, network: DeployCvrkd) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, reference: Tensor) -> tuple[Tensor, ...]:
        return (self.network(image, self.network.encoder(reference)).score,)


class _Baked(nn.Module):
    """The deploy form with the features of one reference as a constant."""

    features: Tensor

    def __init__(self, network: DeployCvrkd, features: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("features", features)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.network(image, self.features).score,)
