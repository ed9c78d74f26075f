"""What PyTorch's exporter says in a hundred lines, in one: the operator, where in the network, what to change."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iqa_export.outputs import BATCH_HINT, ExportError
from iqa_runtime.errors import first_line

_LINE = re.compile(r'File "([^"\n]+)", line (\d+), in \S+\n\s+(.+)')


def explained(
    error: Exception, module: nn.Module, examples: Sequence[Tensor], shapes: Sequence[Any], said: str
) -> ExportError:
    """Return the one line, with the exporter's own words as details.

    Parameters
    ----------
    error
        What `torch.onnx.export` raised.
    module, examples, shapes
        What it was given.
    said
        What it printed.
    """
    text = str(error)
    cause = _innermost(error)
    if isinstance(cause, ExportError):
        return cause
    details = f"{''.join(traceback.format_exception(error))}\n{said}"
    operator = re.search(r"translating node %(\S+) : .*?target=torch\.ops\.([\w.]+)", text)
    if operator is not None:
        reason = first_line(cause).removeprefix(f"{type(cause).__name__}: ")
        where = _module_of(operator[1], operator[2], module, examples, shapes)
        message = f"the operator {operator[2]}{where} cannot become ONNX: {reason}; write it with others"
    elif "Constraints violated" in text or "ConstraintViolationError" in text:
        message = f"the network cannot be traced for any batch size: {BATCH_HINT}"
    elif "data-dependent" in text or "DataDependent" in text:
        message = (
            f"the network decides by the values of its input{_code(text)}, and a graph has one way through; "
            "use torch.where"
        )
    elif scripted := [name for name, inner in module.named_modules() if isinstance(inner, torch.jit.ScriptModule)]:
        where = scripted[0].removeprefix("module").removeprefix(".") or "the network"
        message = f"{where} is a TorchScript program, and the exporter traces Python; build it from its Python module"
    else:
        message = f"the network cannot be traced{_code(text)}: {first_line(cause)}"
    return ExportError(message, details)


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _code(text: str) -> str:
    """Say which line of the network an error is about, if it tells."""
    lines = [line for line in _LINE.findall(text) if Path(line[0]).parent != Path(__file__).parent]
    if not lines:
        return ""
    path, number, code = lines[-1]
    return f" ({Path(path).name}, line {number}: {code.strip()})"


def _module_of(node: str, operator: str, module: nn.Module, examples: Sequence[Tensor], shapes: Sequence[Any]) -> str:
    """Say which module an operator is in, if it can be told: traced again, because the error does not hold it."""
    try:
        program = torch.export.export(module, tuple(examples), dynamic_shapes=tuple(shapes), strict=False)
        nodes = [found for found in program.run_decompositions().graph.nodes if found.op == "call_function"]
    except Exception:  # as what led here
        return ""
    name = operator.split(".")[1]
    found = [each for each in nodes if each.name == node] or [each for each in nodes if name in str(each.target)]
    if not found:
        return ""
    stack = list(found[0].meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    where = ".".join(part for part in path.split(".") if part not in ("", "module", "L['self']"))
    return f" in {where}" if where else _code(found[0].meta.get("stack_trace") or "")
