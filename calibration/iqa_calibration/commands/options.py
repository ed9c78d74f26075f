"""The options of precision, which ``iqa-calibrate`` and ``iqa-export`` share; light, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from iqa_runtime.errors import UsageError, needing

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form, ReducedPrecision

_SWITCHES = (
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
"""What a `Form` says, as arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionOptions:
    """What an artefact shall become, and how; the defaults stand for what was not given."""

    PANEL: ClassVar[str] = "Precision"

    fp16: Annotated[
        bool, typer.Option("--fp16", help="Compute in half precision where a measured range check allows it.")
    ] = False
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16, with --target openvino or tensorrt.")] = (
        False
    )
    int8: Annotated[bool, typer.Option("--int8", help="Compute in 8-bit integers, by calibration.")] = False
    int8_weights: Annotated[
        bool, typer.Option("--int8-weights", help="Store weights as 8-bit integers, compute in float32: small files.")
    ] = False
    target: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who runs the graph: onnxruntime, openvino or tensorrt. Default: the first."),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How --int8 chooses ranges: mse, minmax, percentile or entropy. Default: mse."
        ),
    ] = None
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Node, layer or block to leave in float; may be repeated."),
    ] = None
    attention: Annotated[
        bool | None,
        typer.Option(
            "--attention/--no-attention",
            help="Let --int8 take long products of two activations, too. Default: with --target openvino, if the gate "
            "accepts.",
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most photographs that calibrate. Default: 64.")
    ] = None
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the statistics of --int8 here.")] = None
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Write it unjudged; the contract says so.")] = False
    no_search: Annotated[bool, typer.Option("--no-search", help="Return nothing to float32 to pass the gate.")] = False
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of all that is drawn. Default: 0.")] = None
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="CPU threads. Default: as many as the cores this process may use."),
    ] = None

    @property
    def precision(self) -> ReducedPrecision | None:
        """The precision asked for; None for float32.

        Raises
        ------
        UsageError
            If there are two.
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
        return precisions[0] if precisions else None

    def form(self) -> Form | None:
        """Return what is asked for; None if no precision is.

        Raises
        ------
        UsageError
            If options don't go together.
        DependencyError
            If a library is missing that calibration needs.
        """
        if self.precision is None:
            return None
        with needing("what calibration needs", extras="cpu,calibration"):
            from iqa_calibration.jobs.forms import Form
        return Form.choose(
            self.precision,
            target=self.target,
            method=self.method,
            keep_float=tuple(self.keep_float or ()),
            attention=self.attention,
            search=not self.no_search,
        )

    def arguments(self) -> dict[str, Any]:
        """Return them as `iqa_calibration.calibrate` takes them."""
        return {
            "precision": self.precision,
            "target": self.target,
            "method": self.method,
            "keep_float": tuple(self.keep_float or ()),
            "attention": self.attention,
            "search": not self.no_search,
            "gate": not self.no_gate,
            "seed": self.seed or 0,
            "limit": self.limit,
            "cache": self.cache,
            "threads": self.threads,
        }

    def typed(self) -> list[str]:
        """Return what was given, as it is typed."""
        typed: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            option = f"--{'no-' if value is False else ''}{field.name.replace('_', '-')}"
            if value == field.default:
                continue
            if isinstance(value, bool):
                typed.append(option)
            else:
                for each in value if isinstance(value, list) else [value]:
                    typed += [option, str(each)]
        return typed

    def check_unused(self) -> None:
        """Refuse options that mean nothing without a precision."""
        for option in self.typed():
            raise UsageError(f"{option} goes with --fp16, --bf16, --int8 or --int8-weights; add one of them")


def without_form(arguments: Sequence[str]) -> list[str]:
    """Return a command line without what a `Form` says, so that another form can be put at its end."""
    kept: list[str] = []
    values = iter(arguments)
    for argument in values:
        if argument in _VALUED:
            next(values, None)
        elif argument not in _SWITCHES and argument.partition("=")[0] not in _VALUED:
            kept.append(argument)
    return kept
