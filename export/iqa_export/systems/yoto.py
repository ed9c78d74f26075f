"""YOTO as a system: key map of the authors' checkpoints, contract, graphs."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.yoto import DeployYoto, FeatureScorer, ReferenceEncoder, split_features
from iqa_export.models.yoto import CROP, DIM, QUADRANTS, SCALE_PAIRS, SIZES, Yoto, YotoOutput, split_map
from iqa_export.systems.base import UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import MapOutput, PatchPlan, Task
from iqa_runtime.errors import UsageError

FEATURE_TOKENS = sum(size * size * (2 if size % QUADRANTS == 0 else 1) for size in SIZES)


class YotoSystem(System):
    """YOTO with a Swin-T or ResNet-50 encoder, with or without a reference."""

    name = "yoto"
    title = "YOTO"
    paper = "arXiv 2310.09560"
    code = "https://github.com/BarCodeReader/YOTO"
    licence = "none stated by the authors"
    faithful = "as published; outputs equal to the authors' implementation within float32 rounding"
    faithful_resnet50 = "as the paper describes it; no outputs or checkpoints of the authors to compare with"
    weights_source = (
        "a state dict of the authors' implementation, as its train_FRNR.py saves it (*.pth); "
        "the code and its training data are at https://github.com/BarCodeReader/YOTO"
    )
    segments = ("joint", "single")
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"swin_t": ("nr", "fr"), "resnet50": ("nr", "fr")}
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    crop = CROP
    plan = PatchPlan(kind="five", size=CROP)
    score = UNIT_SCORE
    map_outputs = (
        MapOutput(name="quality_map", rows=SIZES[0], columns=SIZES[0]),
        MapOutput(name="weight_map", rows=SIZES[0], columns=SIZES[0]),
    )
    feature_shape = (FEATURE_TOKENS, DIM)

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        return Yoto(variant).eval()

    def faithful_of(self, variant: str) -> str:
        """Tell the published network from the one whose public code lacks its encoder."""
        return self.faithful_resnet50 if variant == "resnet50" else self.faithful

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the encoder from the name of its first layer."""
        if "encoder.patch_embed.proj.weight" in keys:
            return "swin_t"
        return "resnet50" if "encoder.conv1.weight" in keys else None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names; the encoders keep those of their ImageNet checkpoints."""
        del variant
        layers = {"query": "c_q", "key": "c_k", "value": "c_v"}
        prefixes: dict[str, str] = {}
        for head in ("score", "weight"):
            prefixes |= {f"head.{head}.hidden": f"fc_{head}.0", f"head.{head}.last": f"fc_{head}.3"}
        for index in range(len(SIZES)):
            scale = index + 1
            prefixes[f"embed.{index}"] = f"emb{scale}"
            prefixes[f"segment.{index}"] = f"seg_embd{scale}"
            prefixes[f"head.norms.{scale}{scale}"] = f"ln{scale}{scale}"
            channel = f"channel_attention.{index}.attention"
            prefixes[f"{channel}.gate"] = f"CA{scale}.scale.0"
            prefixes |= {f"{channel}.{ours}": f"CA{scale}.{theirs}" for ours, theirs in layers.items()}
            for half, part in enumerate(("whole", "quadrant"), start=1):
                attention, published = f"reference_attention.{index}.{part}", f"CSA{scale}{scale}"
                prefixes[f"{attention}.gate"] = f"{published}.scale{half}.0"
                prefixes |= {f"{attention}.{ours}": f"{published}.{theirs}{half}" for ours, theirs in layers.items()}
        for pair in SCALE_PAIRS:
            prefixes[f"head.norms.{pair}"] = f"ln{pair}"
            prefixes[f"cross_scale.{pair}.attention.gate"] = f"CSA{pair}.scale.0"
            prefixes |= {
                f"cross_scale.{pair}.attention.{ours}": f"CSA{pair}.{theirs}" for ours, theirs in layers.items()
            }
        # The last is the gate of quadrants that the coarsest map has not: in every checkpoint, in no computation.
        ignored = (r"encoder\..*\.(relative_position_index|attn_mask)", r"encoder\.fc\..*", r"CSA44\.scale2\.0\..*")
        return KeyMap(prefixes, ignored)

    def check(self, choice: GraphChoice) -> None:
        """Refuse a full-reference export that does not say how the checkpoint was trained."""
        super().check(choice)
        if choice.task == "fr" and choice.segment is None:
            raise UsageError(
                "--task fr needs --segment: joint for a checkpoint trained on both tasks (the authors' 'mix' mode), "
                "single for one trained with references alone; it cannot be told from the weights"
            )
        if choice.task == "nr" and choice.segment is not None:
            raise UsageError("--segment: only full-reference scoring uses the segment embedding; leave it out")

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the published network, without a reference fed the image twice."""
        return _Outputs(_Written(cast(Yoto, network), _segment(choice)), choice.maps)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form, taking the image and, in full-reference mode, the reference."""
        return _Outputs(DeployYoto(cast(Yoto, network), _segment(choice)), choice.maps)

    def reference_split(self, network: nn.Module, choice: GraphChoice) -> tuple[nn.Module, nn.Module]:
        """Return the encoder of folded queries and the scorer that takes them."""
        if choice.task == "nr":
            return super().reference_split(network, choice)
        deployed = DeployYoto(cast(Yoto, network), _segment(choice))
        return ReferenceEncoder(deployed), _Outputs(FeatureScorer(deployed), choice.maps)

    def baked(self, network: nn.Module, choice: GraphChoice, features: Tensor) -> nn.Module:
        """Return a scorer of whole images: the crops of the plan, each against those of the reference at its place."""
        if choice.task == "nr":
            return super().baked(network, choice, features)
        if choice.maps:
            raise UsageError("--maps: a baked reference scores whole images; use --cache-reference for maps")
        return _Baked(DeployYoto(cast(Yoto, network), _segment(choice)), features)

    def baked_crops(self, task: Task, plan_count: int) -> int:
        """Return the plan's count: each crop has its own reference crop, so an item is the whole image."""
        del task
        return plan_count


class _Written(nn.Module):
    """The published network behind the inputs of the graph."""

    def __init__(self, network: Yoto, reference_segment: int) -> None:
        super().__init__()
        self.network, self.reference_segment = network, reference_segment

    def forward(self, image: Tensor, reference: Tensor | None = None) -> YotoOutput:
        output: YotoOutput = self.network(image, image if reference is None else reference, self.reference_segment)
        return output


class _Outputs(nn.Module):
    """A network that returns `YotoOutput` behind the outputs of the graph: the score and, if asked for, the maps."""

    def __init__(self, network: nn.Module, maps: bool) -> None:
        super().__init__()
        self.network, self.maps = network, maps

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output: YotoOutput = self.network(*inputs)
        if not self.maps:
            return (output.score,)
        return output.score, split_map(output.token_score), split_map(output.token_weight)


class _Baked(nn.Module):
    """Whole images, (B, P, 3, 224, 224), against the constant features of P reference crops, (P, 8281, 768)."""

    features: Tensor

    def __init__(self, network: DeployYoto, features: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("features", features)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        crops = self.features.shape[0]
        features = self.features.expand(image.shape[0], -1, -1, -1).flatten(0, 1)
        output = self.network.assess(self.network.side(image.flatten(0, 1)), split_features(features))
        return (output.score.reshape(-1, crops).mean(1),)


def _segment(choice: GraphChoice) -> int:
    return int(choice.task == "fr" and choice.segment == "joint")
