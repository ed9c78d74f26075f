"""The options that ``iqa-calibrate`` and ``iqa-export`` share; light, so that ``--help`` waits for no library."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iqa_runtime.errors import UsageError

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form, ReducedPrecision
    from iqa_runtime.images.loading import Source

Fp16 = Annotated[bool, typer.Option("--fp16", help="Half precision where a measured range check allows it.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="bfloat16, with --target openvino or tensorrt.")]
Int8 = Annotated[bool, typer.Option("--int8", help="8-bit integers, by calibration.")]
Int8Weights = Annotated[
    bool, typer.Option("--int8-weights", help="Weights stored as 8-bit integers, arithmetic in float32: small files.")
]
TargetName = Annotated[
    str | None, typer.Option("--target", help="onnxruntime (default), openvino or tensorrt: who runs the graph.")
]
Method = Annotated[
    str | None, typer.Option(help="How --int8 chooses ranges: mse (default), minmax, percentile or entropy.")
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Node, layer or block to leave in float; may be repeated."),
]
Attention = Annotated[
    bool | None,
    typer.Option(
        "--attention/--no-attention",
        help="--int8 also for long products of two activations. Default: with --target openvino, if the gate accepts.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Of all that is drawn. Default: 0.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Most photographs that calibrate. Default: 64.")]
Cache = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the statistics of --int8 here.")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Write it unjudged; the contract says so.")]
NoSearch = Annotated[bool, typer.Option("--no-search", help="Return nothing to float32 to pass the gate.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Default: the cores this process may use.")]

_FLAGS = (
    "--fp16",
    "--bf16",
    "--int8",
    "--int8-weights",
    "--attention",
    "--no-attention",
    "--no-search",
    "--no-gate",
)
_VALUED = ("--target", "--method", "--keep-float")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as given; the defaults stand for those that were not."""

    fp16: bool = False
    bf16: bool = False
    int8: bool = False
    int8_weights: bool = False
    target: str | None = None
    method: str | None = None
    keep_float: tuple[str, ...] = ()
    attention: bool | None = None
    seed: int | None = None
    limit: int | None = None
    cache: Path | None = None
    no_gate: bool = False
    no_search: bool = False
    threads: int | None = None

    def form(self) -> Form | None:
        """Return what is asked for; None if no precision is.

        Raises
        ------
        UsageError
            If two precisions are, or options don't go together.
        """
        asked: dict[ReducedPrecision, bool] = {
            "fp16": self.fp16,
            "bf16": self.bf16,
            "int8": self.int8,
            "int8-weights": self.int8_weights,
        }
        precisions = [precision for precision, wanted in asked.items() if wanted]
        if len(precisions) > 1:
            raise UsageError(f"{' and '.join(f'--{precision}' for precision in precisions)}: choose one")
        if not precisions:
            return None
        from iqa_calibration.jobs.forms import Form

        return Form.choose(
            precisions[0],
            target=self.target,
            method=self.method,
            keep_float=self.keep_float,
            attention=self.attention,
            search=not self.no_search,
        )

    def check_unused(self) -> None:
        """Refuse options that mean nothing without a precision."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                option = f"{'no-' if value is False else ''}{field.name.replace('_', '-')}"
                raise UsageError(f"--{option} goes with --fp16, --bf16, --int8 or --int8-weights; add one of them")


def find_photographs(sources: Sequence[str]) -> list[Source]:
    """List the photographs that arguments name; those of the package where there are none.

    Parameters
    ----------
    sources
        Folders, lists, images or quoted globs.

    Raises
    ------
    UsageError
        If a pattern, a folder or a list names none.
    FileError
        If a folder or a list cannot be read.
    """
    from iqa_calibration.images.sets import read_images
    from iqa_calibration.photographs import packaged_photographs
    from iqa_runtime.files.inputs import expand_inputs

    if not sources:
        return list(packaged_photographs())
    paths: list[Path] = []
    for source in sources:
        if glob.has_magic(source) and not Path(source).exists():
            paths += map(Path, expand_inputs([source], BytesIO()))
        else:
            paths += read_images(Path(source))
    return list(dict.fromkeys(paths))


def without_form(arguments: Sequence[str]) -> list[str]:
    """Return a command line without what a `Form` says, so that another form can be put at its end."""
    kept: list[str] = []
    values = iter(arguments)
    for argument in values:
        if argument in _VALUED:
            next(values, None)
        elif argument not in _FLAGS and argument.partition("=")[0] not in _VALUED:
            kept.append(argument)
    return kept
