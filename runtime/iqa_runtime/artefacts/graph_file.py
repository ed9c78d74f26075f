"""A file that a backend runs: the bytes that were verified are the bytes that run."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from iqa_runtime.artefacts.files import read_file
from iqa_runtime.errors import ArtefactError

if TYPE_CHECKING:
    # Only engines have descriptions, and scorers of ONNX files don't load what they never need.
    from iqa_runtime.artefacts.engine_file import EngineFile


class GraphFile:
    """A file that a backend runs: its bytes were verified when it was opened.

    Parameters
    ----------
    path
        Where it lies; for messages, and to read it again.
    content
        Its bytes.
    engine
        What is said of it, if it is an engine.
    """

    def __init__(self, path: Path, content: bytes, engine: EngineFile | None = None) -> None:
        self.path = path
        # A plan was held to the digest in its description.
        self.sha256 = sha256(content).hexdigest() if engine is None else engine.plan.sha256.lower()
        self.size = len(content)
        self.engine = engine
        self._content: bytes | None = content

    def take(self) -> bytes:
        """Return the bytes, and let go of them: a backend that is done with them shall not hold them twice.

        Raises
        ------
        FileError, ArtefactError
            If they were taken before, and the file cannot be read again or is another one now.
        """
        content, self._content = self._content, None
        if content is None:
            content = read_file(self.path, "the graph again")
            if sha256(content).hexdigest() != self.sha256:
                raise ArtefactError(f"{self.path}: exchanged for another file since it was opened; open it again")
        return content
