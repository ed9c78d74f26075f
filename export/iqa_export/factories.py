"""Networks from somebody else's module: ``package.module:factory``, imported as ``python -m`` would."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from iqa_runtime.errors import IqaError, UsageError, first_line

_SPELLING = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")


@dataclass(frozen=True)
class Factory:
    """What builds a network.

    Attributes
    ----------
    module
        ``package.module:factory``; the factory may be a class, or an attribute of one.
    arguments
        Keyword arguments that it is called with.
    """

    module: str
    arguments: Mapping[str, Any]

    @property
    def said(self) -> str:
        """The parameter that tells it, for messages."""
        return f"``module={self.module}``"

    def build(self) -> nn.Module:
        """Return a new network, in evaluation mode.

        Raises
        ------
        UsageError
            If the module cannot be imported, has no such factory, or this fails or builds something else; the message
            has what the user's own code says, and its line.
        """
        match = _SPELLING.fullmatch(self.module)
        if match is None or match["module"].endswith(".py"):
            raise UsageError(f"{self.said}: {_remedy(self.module)}")
        with _from_current_folder():
            function = self._attribute(self._imported(match["module"]), match["name"])
            with self._blamed("fails"):
                network = function(**self.arguments)
        if not isinstance(network, nn.Module):
            raise UsageError(f"{self.said}: gives {type(network).__name__}; return the network, a torch.nn.Module")
        return network.eval()

    def _imported(self, name: str) -> ModuleType:
        try:
            with self._blamed("cannot be imported"):
                return importlib.import_module(name)
        except UsageError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
                raise UsageError(
                    f"{self.said}: there is no module {cause.name!r}, neither in {Path.cwd()} nor "
                    "installed; run where it lies, or install its package"
                ) from cause
            raise

    def _attribute(self, module: ModuleType, path: str) -> Any:
        found: Any = module
        for name in path.split("."):
            if not hasattr(found, name):
                near = get_close_matches(name, [each for each in vars(found) if not each.startswith("_")], n=3)
                raise UsageError(
                    f"{self.said}: {getattr(module, '__file__', None) or module.__name__} has no {path!r}"
                    + (f"; there is {', '.join(near)}" if near else "; name a function or class of it")
                )
            found = getattr(found, name)
        if isinstance(found, nn.Module) or not callable(found):
            raise UsageError(
                f"{self.said}: {path!r} is of type {type(found).__name__}; name the class, or a function "
                "that builds the network"
            )
        return found

    @contextmanager
    def _blamed(self, verb: str) -> Iterator[None]:
        """Say of what the user's code raises what it says itself, and where."""
        try:
            yield
        except (IqaError, KeyboardInterrupt):
            raise
        except BaseException as error:  # somebody else's code may raise anything, sys.exit() among it
            given = ", ".join(self.arguments)
            what = f" with the keywords of [network] ({given})" if given and verb == "fails" else ""
            raise UsageError(f"{self.said}: {verb}{what}: {first_line(error)}{_place(error)}; mend it there") from error


@contextmanager
def _from_current_folder() -> Iterator[None]:
    """Let modules be found in the current folder first, while somebody else's code is imported or runs."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:  # somebody else's code may have changed it
            sys.path.remove(folder)


def _remedy(module: str) -> str:
    file = re.fullmatch(r"(.+)\.py:(\w+)", module)
    if file is not None:
        name = ".".join(part for part in Path(file[1]).parts if part.isidentifier())
        top = name.partition(".")[0]
        return f"a file where a module belongs; write {name}:{file[2]}, in the folder that {top} lies in"
    if ":" not in module:
        return "a module without what builds the network in it; write package.module:factory"
    return "write package.module:factory"


def _place(error: BaseException) -> str:
    """Name the line of somebody else's code that an error comes from; nothing where it has none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
