"""Options that several commands have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

ARTEFACT_HELP = (
    "File written by iqa-export (.onnx or .plan), or a bundled model: edge, edge-nr, edge-fr, cvrkd-edge, dri-edge, "
    "mfe-edge or lpips."
)

BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Items handed to the backend at a time. Default: as many as it works on at once.",
        rich_help_panel="Scoring",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """Which image of a file is meant."""

    PANEL: ClassVar[str] = "Scoring"

    frame: Annotated[
        str | None,
        typer.Option(
            metavar="first",
            help="Of animations and files of several pages, take the first image. Default: they fail.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions(FrameOptions):
    """What of a picture is scored; the names are those of `iqa_runtime.Scorer`."""

    crops: Annotated[
        str | None,
        typer.Option(
            metavar="PLAN",
            help="Where crops lie: five, center, grid[:STRIDE], random:COUNT[:SEED] or uniform:COUNT. Default: the "
            "artefact's plan.",
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How pictures are resized first, such as shorter:512, longer:1024:lanczos:shrink or none. Default: as "
            "the artefact says.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a `iqa_runtime.Scorer`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions(PictureOptions):
    """The same, and how long it may take."""

    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="An image that takes longer fails, and the run goes on. Default: any time.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What runs an artefact and where; the names are those of `iqa_runtime.Scorer`."""

    PANEL: ClassVar[str] = "Backend"

    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Library that runs the artefact. Default: the best one installed for it."),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="Where to run: cpu, cuda or cuda:N. Default: cpu; cuda for an engine (.plan)."
        ),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="What to compute in: float32 or, with openvino, bfloat16. Default: what the artefact was judged in.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="CPU threads. Default: as many as the cores this process may use."),
    ] = None
    trust: Annotated[
        Path | None, typer.Option(metavar="KEY.pem", help="Public key that must have signed an engine.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a `iqa_runtime.Scorer` of an artefact that was opened, and so trusted, before."""
        return {name: value for name, value in asdict(self).items() if name != "trust"}
