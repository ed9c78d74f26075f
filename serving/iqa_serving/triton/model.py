"""The model that Triton's Python backend runs: encoded images in, what `iqa-run` says of them out.

``iqa-triton`` copies this file into a repository as it is. All that it needs beside the runtime lies in its folder and
in the parameters of its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from iqa_runtime import ImageError, Score, Scorer
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.cpu import available_cpus
from iqa_runtime.errors import ArtefactError
from iqa_runtime.images.loading import Source
from iqa_runtime.images.named import NamedImage
from iqa_serving.commands.triton import in_words

_NOTHING = float("nan")
"""A score or a percentile that is not there."""


class _TooLong(NamedImage):
    """An image of more bytes than are decoded."""

    def __init__(self, name: str, size: int, limit: int) -> None:
        super().__init__(name)
        self._message = f"{name}: {size} bytes, more than the {limit} of ``byte_limit``; send a smaller file"

    def read(self) -> bytes:
        raise ImageError(self._message)


class TritonPythonModel:
    """What the Python backend looks for by this name; each instance has a process and a scorer of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the artefact.

        Parameters
        ----------
        args
            What the server says: the configuration as JSON, where the model lies, and what the instance runs on.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._byte_limit = int(parameters["byte_limit"])
        scoring = json.loads(parameters["scoring"])
        if args["model_instance_kind"] == "GPU":
            scoring["device"] = f"cuda:{args['model_instance_device_id']}"
        if scoring["threads"] is None:
            scoring["threads"] = max(1, available_cpus() // config["instance_group"][0]["count"])
        path = Path(args["model_repository"], args["model_version"], parameters["artefact"])
        artefact = open_artefact(path)
        if artefact.graph.sha256 != parameters["sha256"]:
            raise ArtefactError(f"{path}: another file than its configuration describes; run iqa-triton again")
        self._scorer = Scorer(artefact, **scoring)
        if not artefact.contract.weights.trained:
            pb_utils.Logger.log_warn(f"{path}: untrained (random weights): its scores mean nothing")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Score the images of several requests as one stream; what is wrong with one is said in its row alone.

        Parameters
        ----------
        requests
            `InferenceRequest` of the backend, each with a batch of images.

        Returns
        -------
        list
            An `InferenceResponse` for each.
        """
        images = [self._sources(request, "image") for request in requests]
        together = [source for sources in images for source in sources]
        references = None
        if self._scorer.contract.needs_reference:
            references = [source for request in requests for source in self._sources(request, "reference")]
        scores = self._scorer.score_many(together, references)
        return [
            _response(request, list(islice(scores, len(sources))))
            for request, sources in zip(requests, images, strict=True)
        ]

    def finalize(self) -> None:
        """Free the model."""
        self._scorer.close()

    def _sources(self, request: Any, name: str) -> list[Source]:
        contents = pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()
        return [
            content if len(content) <= self._byte_limit else _TooLong(name, len(content), self._byte_limit)
            for content in contents
        ]


def _response(request: Any, results: Sequence[Score]) -> Any:
    rows = [_row(result) for result in results]
    values: dict[str, tuple[type, list[Any]]] = {
        "score": (np.float64, [_NOTHING if row["score"] is None else row["score"] for row in rows]),
        "percentile": (np.float64, [_NOTHING if row["percentile"] is None else row["percentile"] for row in rows]),
        "error": (np.object_, [(row["error"] or "").encode() for row in rows]),
        "row": (np.object_, [json.dumps(row, ensure_ascii=False).encode() for row in rows]),
    }
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor(name, np.array(column, kind).reshape(-1, 1))
            for name, (kind, column) in values.items()
            if name in request.requested_output_names()
        ]
    )


def _row(result: Score) -> dict[str, Any]:
    """Return the row that ``iqa-run`` writes, of an image without a path."""
    error = None if result.error is None else in_words(str(result.error))
    return result.row() | {"path": None, "error": error}
