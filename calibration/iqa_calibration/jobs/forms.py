"""What can be asked for: a precision, for whom, and how it is come by. A form is also a piece of a command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal, get_args

from iqa_calibration.int8.observers import OBSERVERS
from iqa_calibration.int8.placement import Target
from iqa_runtime.errors import UsageError

ReducedPrecision = Literal["fp16", "bf16", "int8", "int8-weights"]

DEFAULT_METHOD = "mse"
"""Least error of the tensors themselves, and no parameter to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One precision for one target.

    Attributes
    ----------
    precision
        ``fp16``, ``bf16``, ``int8``, or ``int8-weights``: weights stored as int8, arithmetic in float32.
    target
        For whom; ``any`` for a float16 graph that nobody asked a target for.
    method
        ``int8``: the observer that chooses ranges, one of `OBSERVERS`; else None.
    keep_float
        Nodes, layers or blocks that stay float; not with ``int8-weights``, whose arithmetic is float32, nor with
        ``bf16`` for OpenVINO, which computes all in one precision.
    attention
        ``int8``: whether long products of two activations are quantised too; None if the gate decides: where it
        refuses, they are the first to go back to float32.
    search
        Whether parts of the graph may return to float32 until the gate accepts.
    """

    precision: ReducedPrecision
    target: Target | Literal["any"]
    method: str | None = None
    keep_float: tuple[str, ...] = ()
    attention: bool | None = False
    search: bool = True

    @classmethod
    def choose(
        cls,
        precision: ReducedPrecision,
        *,
        target: str | None = None,
        method: str | None = None,
        keep_float: tuple[str, ...] = (),
        attention: bool | None = None,
        search: bool = True,
    ) -> Form:
        """Fill in what was left open, as a user leaves out options.

        Attention left open is up to the gate for OpenVINO, where integers in it nearly halve the time of YOTO, and
        float32 elsewhere: on ONNX Runtime they are no quicker, and for TensorRT nobody has measured that they are.

        Raises
        ------
        UsageError
            If a choice is unknown, or does not go with another.
        """
        if precision not in get_args(ReducedPrecision):
            raise UsageError(f"``precision={precision}``: choose one of {', '.join(get_args(ReducedPrecision))}")
        if target is not None and target not in get_args(Target):
            raise UsageError(f"``target={target}``: choose one of {', '.join(get_args(Target))}")
        if precision != "int8":
            given = {"method": method is not None, f"attention={attention}": attention is not None}
            for parameter, is_given in given.items():
                if is_given:
                    raise UsageError(
                        f"``{parameter}`` goes with ``precision=int8``; leave it out with ``precision={precision}``"
                    )
        elif method is not None and method not in OBSERVERS:
            raise UsageError(f"``method={method}``: choose one of {', '.join(OBSERVERS)}")
        chosen: Target | Literal["any"] = next(
            (known for known in get_args(Target) if known == target), "any" if precision == "fp16" else "onnxruntime"
        )
        if chosen == "onnxruntime" and precision == "bf16":
            raise UsageError(
                "``precision=bf16``: ONNX Runtime has no bfloat16 on processors; choose ``target=openvino`` or "
                "``target=tensorrt``, or ``precision=fp16``"
            )
        if chosen == "onnxruntime" and attention:
            raise UsageError(
                "``attention``: ONNX Runtime has no quick integer product of two activations; choose "
                "``target=openvino`` or ``target=tensorrt``"
            )
        if keep_float and precision == "int8-weights":
            raise UsageError(
                "``keep_float``: with ``precision=int8-weights`` all arithmetic is float32 already; leave it out"
            )
        form = cls(
            precision=precision,
            target=chosen,
            method=(method or DEFAULT_METHOD) if precision == "int8" else None,
            keep_float=keep_float,
            attention=attention,
            search=search,
        )
        if keep_float and form.as_it_is:
            raise UsageError(
                "``keep_float``: with ``precision=bf16`` OpenVINO computes all in bfloat16; leave it out, or choose "
                "``precision=fp16`` or ``precision=int8``"
            )
        return form if form._gains_by_attention else replace(form, attention=bool(attention))

    @property
    def _gains_by_attention(self) -> bool:
        return (self.precision, self.target) == ("int8", "openvino")

    @property
    def suffix(self) -> str:
        """End of the name of an artefact, in place of ``.onnx``."""
        whom = "" if self.target in ("any", "onnxruntime") else f".{self.target}"
        return f".{self.precision}{whom}.onnx"

    @property
    def as_it_is(self) -> bool:
        """Whether the graph stays float32 and only the contract tells the backend to compute in bfloat16."""
        return (self.precision, self.target) == ("bf16", "openvino")

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments that ask for it."""
        chosen = [f"--{self.precision}"]
        if self.target not in ("any", "onnxruntime"):
            chosen += ["--target", self.target]
        if self.method not in (None, DEFAULT_METHOD):
            chosen += ["--method", str(self.method)]
        for name in self.keep_float:
            chosen += ["--keep-float", name]
        if self.attention or (self.attention is False and self._gains_by_attention):
            chosen.append("--attention" if self.attention else "--no-attention")
        return chosen + ["--no-search"] * (not self.search)

    def alternatives(self) -> list[Form]:
        """List what else to try where a gate refuses, the nearest first.

        The same with a search; without products of two activations where they were insisted on; int8 with other
        ranges, everything quantised, which is what a search tries first; then the other precisions that the target has,
        those that make small files first.
        """
        forms = [replace(self, search=True)] if not self.search and not self.as_it_is else []
        if self.attention:
            forms.append(replace(self, attention=False, search=True))
        if self.precision == "int8":
            forms += [replace(self, method=method, search=True) for method in OBSERVERS if method != self.method]
        others: list[ReducedPrecision] = ["int8-weights", "fp16"]
        if self.target == "tensorrt" or (self.target == "openvino" and find_spec("openvino") is not None):
            others.insert(1, "bf16")
        target = None if self.target in ("any", "onnxruntime") else self.target
        return forms + [Form.choose(other, target=target) for other in others if other != self.precision]
