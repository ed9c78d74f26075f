"""YOTO as a system: key map of the authors' checkpoints, contract, graphs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.yoto import DeployYoto, FeatureScorer, ReferenceEncoder, feature_lengths, split_features
from iqa_export.models.yoto import CROP, LAYOUTS, Yoto, YotoLayout, YotoOutput, split_map
from iqa_export.systems.base import EDGE_SIZE, METRIC_SCALE, UNIT_SCORE, GraphChoice, System
from iqa_runtime.contract import MapOutput, PatchPlan, Resize, ScoreOutput, Task
from iqa_runtime.errors import UsageError

EDGE_WEIGHTS = Path(__file__).parents[1] / "weights" / "yoto-edge.safetensors"


def _maps(layout: YotoLayout) -> tuple[MapOutput, ...]:
    side = layout.sizes[0]
    return tuple(MapOutput(name=name, rows=side, columns=side) for name in ("quality_map", "weight_map"))


def _features(layout: YotoLayout) -> tuple[int, int]:
    return sum(length for scale in feature_lengths(layout) for length in scale), layout.dim


class YotoSystem(System):
    """YOTO with a Swin-T or ResNet-50 encoder, or at edge size, with or without a reference."""

    name = "yoto"
    title = "YOTO"
    paper = "arXiv 2310.09560"
    code = "https://github.com/BarCodeReader/YOTO"
    licence = "none stated by the authors"
    faithful = "as published; outputs equal to the authors' implementation within float32 rounding"
    faithful_of_variants: ClassVar[dict[str, str]] = {
        "resnet50": "as the paper describes it; no outputs or checkpoints of the authors to compare with",
        "edge": "our own network in YOTO's form: three maps of at most 28 x 28, 64 features, MobileNetV2 encoder",
    }
    weights_source = (
        "a state dict of the authors' implementation, as its train_FRNR.py saves it (*.pth); "
        "the code and its training data are at https://github.com/BarCodeReader/YOTO"
    )
    segments = ("joint", "single")
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {
        "swin_t": ("nr", "fr"),
        "resnet50": ("nr", "fr"),
        "edge": ("nr", "fr"),
    }
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    crop = CROP
    patch_plan = PatchPlan(kind="five", size=CROP)
    score = UNIT_SCORE
    map_outputs = _maps(LAYOUTS["swin_t"])
    feature_shape = _features(LAYOUTS["swin_t"])
    bundled: ClassVar[dict[str, Path]] = {"edge": EDGE_WEIGHTS}

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        return Yoto(variant).eval()

    def faithful_of(self, variant: str) -> str:
        """Tell the published network from the one whose public code lacks its encoder, and from ours."""
        return self.faithful_of_variants.get(variant, self.faithful)

    def score_of(self, variant: str) -> ScoreOutput:
        """Return what the score means; the edge variant was taught by metrics, not by people."""
        if variant != "edge":
            return self.score
        return replace(self.score, scale=METRIC_SCALE)

    def maps_of(self, variant: str) -> tuple[MapOutput, ...]:
        """Return maps of the variant's finest grid."""
        return _maps(LAYOUTS[variant])

    def resize_of(self, choice: GraphChoice) -> Resize | None:
        """Shrink what the edge variant judges alone to the sizes it was trained on; pairs are compared as they are."""
        return EDGE_SIZE if (choice.variant, choice.task) == ("edge", "nr") else None

    def features_of(self, variant: str) -> tuple[int, ...]:
        """Return the tokens of all that scoring needs of a reference, and their features."""
        return _features(LAYOUTS[variant])

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the encoder from the name of its first layer."""
        if "encoder.patch_embed.proj.weight" in keys:
            return "swin_t"
        if "encoder.features.0.0.weight" in keys:
            return "edge"
        return "resnet50" if "encoder.conv1.weight" in keys else None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names, for the edge variant ours; encoders keep those of their ImageNet checkpoints."""
        if variant == "edge":
            return KeyMap()
        layout = LAYOUTS[variant]
        layers = {"query": "c_q", "key": "c_k", "value": "c_v"}
        prefixes: dict[str, str] = {}
        for head in ("score", "weight"):
            prefixes |= {f"head.{head}.hidden": f"fc_{head}.0", f"head.{head}.last": f"fc_{head}.3"}
        for index in range(len(layout.sizes)):
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
        for pair in layout.pairs:
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
        if choice.variant == "edge" and choice.segment == "single":
            raise UsageError(
                "``segment=single``: the edge variant is trained on both tasks; leave it out, or say joint"
            )
        if choice.task == "fr" and choice.segment is None and choice.variant != "edge":
            raise UsageError(
                "``task=fr`` needs ``segment``: joint for a checkpoint trained on both tasks (the authors' 'mix' "
                "mode), single for one trained with references alone; it cannot be told from the weights"
            )
        if choice.task == "nr" and choice.segment is not None:
            raise UsageError("``segment``: only full-reference scoring uses the segment embedding; leave it out")

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the published network, without a reference fed the image twice."""
        return _Outputs(_Written(cast(Yoto, network), _segment(choice)), choice)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form, taking the image and, in full-reference mode, the reference."""
        return _Outputs(DeployYoto(cast(Yoto, network), _segment(choice)), choice)

    def reference_split(self, network: nn.Module, choice: GraphChoice) -> tuple[nn.Module, nn.Module]:
        """Return the encoder of folded queries and the scorer that takes them."""
        deployed = DeployYoto(cast(Yoto, network), _segment(choice))
        return ReferenceEncoder(deployed), _Outputs(FeatureScorer(deployed), choice)

    def baked(self, network: nn.Module, choice: GraphChoice, features: Tensor) -> nn.Module:
        """Return a scorer of whole images: the crops of the plan, each against those of the reference at its place."""
        if choice.maps:
            raise UsageError("``maps``: a baked reference scores whole images; use ``cache_reference`` for maps")
        return _Baked(DeployYoto(cast(Yoto, network), _segment(choice)), features)

    def baked_crops(self, choice: GraphChoice, plan_count: int) -> int:
        """Return the plan's count: each crop has its own reference crop, so an item is the whole image."""
        del choice
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

    def __init__(self, network: nn.Module, choice: GraphChoice) -> None:
        super().__init__()
        self.network, self.maps, self.side = network, choice.maps, LAYOUTS[choice.variant].sizes[0]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output: YotoOutput = self.network(*inputs)
        if not self.maps:
            return (output.score,)
        return output.score, split_map(output.token_score, self.side), split_map(output.token_weight, self.side)


class _Baked(nn.Module):
    """Whole images, (B, P, 3, 224, 224), against the constant features of P reference crops, (P, F, dim)."""

    features: Tensor

    def __init__(self, network: DeployYoto, features: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("features", features)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        crops = self.features.shape[0]
        features = self.features.expand(image.shape[0], -1, -1, -1).flatten(0, 1)
        output = self.network.assess(
            self.network.side(image.flatten(0, 1)), split_features(features, self.network.layout)
        )
        return (output.score.reshape(-1, crops).mean(1),)


def _segment(choice: GraphChoice) -> int:
    return int(choice.task == "fr" and choice.segment != "single")
