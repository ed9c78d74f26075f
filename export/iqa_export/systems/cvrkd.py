"""CVRKD-IQA as a system: key map of the authors' checkpoints, contract, graphs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.cvrkd import DeployCvrkd
from iqa_export.models.cvrkd import CONFIGS, CROP, GRID, Cvrkd, CvrkdConfig
from iqa_export.systems.base import EDGE_SIZE, METRIC_SCALE, UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import PatchPlan, Resize, ScoreOutput, Task

_PLAN_SEED = 0

SCORE_ENDS = (1.0, 5.0)
"""Of KADID-10k's mean opinion scores."""


EDGE_WEIGHTS = Path(__file__).parents[1] / "weights" / "cvrkd-edge.safetensors"


class CvrkdSystem(System):
    """CVRKD-IQA: the student takes any clean photograph as its reference, the teacher the aligned original.

    The edge variant is either, by its task.
    """

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
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"student": ("nar",), "teacher": ("fr",), "edge": ("nar", "fr")}
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    crop = CROP
    crops_per_item = CONFIGS["published"].crops
    # The authors crop at random, unseeded; a fixed draw of ten crops gives the same score every time.
    patch_plan = PatchPlan(kind="random", size=CROP, count=crops_per_item, seed=_PLAN_SEED)
    score = ScoreOutput(
        low=SCORE_ENDS[0],
        high=SCORE_ENDS[1],
        higher_is_better=True,
        bounded=False,
        scale="mean opinion score of KADID-10k, 1 to 5",
    )
    bundled: ClassVar[dict[str, Path]] = {"edge": EDGE_WEIGHTS}
    bundled_tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"edge": ("nar",)}
    feature_shape = (CONFIGS["published"].features, GRID, GRID)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode; student and teacher are the same one."""
        return Cvrkd(config_of(variant)).eval()

    def faithful_of(self, variant: str) -> str:
        """Tell the published network from ours."""
        if variant != "edge":
            return self.faithful
        return (
            "our own network in CVRKD-IQA's form: MobileNetV2 trunk, one crop at a time, 3 and 6 blocks of 128 features"
        )

    def score_of(self, variant: str) -> ScoreOutput:
        """Return what the score means; the edge variant was taught by metrics, not by people."""
        return replace(UNIT_SCORE, scale=METRIC_SCALE) if variant == "edge" else self.score

    def patch_plan_of(self, variant: str) -> PatchPlan:
        """Return five crops for the edge variant, half of the work."""
        return PatchPlan(kind="five", size=self.crop) if variant == "edge" else self.patch_plan

    def crops_per_item_of(self, variant: str) -> int:
        """Return how many crops the variant judges together."""
        return config_of(variant).crops

    def resize_of(self, choice: GraphChoice) -> Resize | None:
        """Shrink what the edge variant compares with other pictures; aligned pairs are compared as they are."""
        return EDGE_SIZE if (choice.variant, choice.task) == ("edge", "nar") else None

    def features_of(self, variant: str) -> tuple[int, ...]:
        """Return the features of a reference, at 7 x 7 positions."""
        return config_of(variant).features, GRID, GRID

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the edge variant by its trunk; teacher and student have the same keys, and the task decides."""
        return "edge" if "trunk.features.0.0.weight" in keys else None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names, for the edge variant ours; the trunk keeps torchvision's."""
        if variant == "edge":
            return KeyMap()
        prefixes = {"trunk": "feature_extractor", "hidden": "regressor.l1", "last": "regressor.l2"}
        prefixes |= {f"project.{stage}": f"lda{stage + 1}_process.0" for stage in range(4)}
        for mixer, published, depth in (
            ("distorted_mixer", "MLP_encoder_lq.mlp", CONFIGS["published"].distorted_depth),
            ("difference_mixer", "MLP_encoder_diff.mlp", CONFIGS["published"].difference_depth),
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
        """Return a scorer against the constant features of one reference, (items, features, 7, 7).

        Where crops are judged alone, that of whole images: the crops of the plan, each against that of the reference.
        """
        deployed = DeployCvrkd(cast(Cvrkd, network))
        return (
            _Baked(deployed, features)
            if self.crops_per_item_of(choice.variant) > 1
            else _BakedCrops(deployed, features)
        )

    def baked_crops(self, choice: GraphChoice, plan_count: int) -> int:
        """Return the network's crops, or the plan's where each is judged alone, and has a reference to itself."""
        per_item = self.crops_per_item_of(choice.variant)
        return per_item if per_item > 1 else plan_count


def config_of(variant: str) -> CvrkdConfig:
    """Return the size of a variant's network."""
    return CONFIGS["edge" if variant == "edge" else "published"]


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


class _BakedCrops(_Baked):
    """Whole images, (B, P, 3, 224, 224), against the constant features of P crops of the reference."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.features.expand(image.shape[0], -1, -1, -1, -1).flatten(0, 1)
        score = self.network(image.flatten(0, 1), features).score
        return (score.reshape(-1, self.features.shape[0]).mean(1),)
