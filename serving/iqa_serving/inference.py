"""The Open Inference Protocol, version 2: health, metadata and inference.

Images go in as encoded files, so that a client gets the pixels, crops and scores of ``iqa-run``.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from iqa_runtime import __version__
from iqa_serving.batcher import Batcher
from iqa_serving.problems import ProblemError
from iqa_serving.scoring import batcher_of, check_scored, received, row_of, scores_of, service_of
from iqa_serving.tensors import HEADER, SHOWN, InferenceRequest, Wanted, read_request, write_response
from iqa_serving.uploads import Upload, with_references

_VERSION = "1"
_OUTPUTS = {"score": "FP64", "row": "BYTES"}
"""Outputs and their types: the score, NaN if there is none; the row of ``iqa-run`` as JSON."""


async def live(request: Request) -> Response:
    """Say whether the process is to be kept."""
    if service_of(request).is_stuck:
        raise ProblemError(503, "decoders stand still that nothing can end; restart the server")
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Say whether requests are taken: artefacts are open from before the first one."""
    if service_of(request).is_stuck:
        raise ProblemError(503, "decoders stand still that nothing can end; restart the server")
    return JSONResponse({"ready": True})


async def server_metadata(_: Request) -> Response:
    """Say what this server is."""
    return JSONResponse({"name": "iqa-serve", "version": __version__, "extensions": ["binary_tensor_data"]})


async def model_ready(request: Request) -> Response:
    """Say whether an artefact is served."""
    name, _ = _model(request)
    return JSONResponse({"name": name, "ready": True})


async def model_metadata(request: Request) -> Response:
    """Say what an artefact takes and gives."""
    name, batcher = _model(request)
    scorer = batcher.scorer
    score = scorer.contract.score
    return JSONResponse(
        {
            "name": name,
            "versions": [_VERSION],
            "platform": f"iqa-deploy_{scorer.backend_name}",
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in _inputs(batcher)],
            "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in _OUTPUTS.items()],
            "parameters": {
                "artefact": scorer.artefact_key,
                "sha256": scorer.file.sha256,
                "direction": "higher" if score.higher_is_better else "lower",
                "trained": scorer.contract.weights.trained,
            },
        }
    )


async def infer(request: Request) -> Response:
    """Score the images of a request."""
    service = service_of(request)
    name, _ = _model(request)
    async with received(request) as body:
        batcher = service.batchers[name]  # artefacts may have been opened anew while the body came
        asked, tensors = read_request(body.take(), request.headers.get(HEADER), most=service.settings.batch_limit)
        wanted = _wanted(asked)
        uploads = _uploads(tensors, _inputs(batcher), service.settings.batch_limit)
        shape = next(tensor.shape for tensor in asked.inputs if tensor.name == "image")
        asked.inputs, tensors = [], {}  # what is scored is in `uploads`
        results = await scores_of(request, name, batcher, uploads)
    rows = [row_of(service, result) for result in results]
    if len(rows) == 1:
        check_scored(rows[0], results[0])
    values = {"score": [row["score"] for row in rows], "row": [json.dumps(row, ensure_ascii=False) for row in rows]}
    head = {"model_name": name, "model_version": _VERSION} | ({} if asked.id is None else {"id": asked.id})
    by_default = asked.parameters.get("binary_data_output", False) is True
    content, headers = write_response(
        head,
        [(output.name, _OUTPUTS[output.name], shape, values[output.name]) for output in wanted],
        [output.parameters.get("binary_data", by_default) is True for output in wanted],
    )
    return Response(content, headers=headers)


def _model(request: Request) -> tuple[str, Batcher]:
    version = request.path_params.get("version", _VERSION)
    if version != _VERSION:
        raise ProblemError(404, f"there is no version {version!r}, only {_VERSION}")
    return batcher_of(service_of(request), request.path_params["model"])


def _inputs(batcher: Batcher) -> list[str]:
    return ["image", "reference"] if batcher.scorer.contract.needs_reference else ["image"]


def _wanted(asked: InferenceRequest) -> list[Wanted]:
    wanted = asked.outputs or [Wanted(name) for name in _OUTPUTS]
    unknown = [output.name for output in wanted if output.name not in _OUTPUTS]
    if unknown:
        raise ProblemError(400, f"there is no output {unknown[0][:SHOWN]!r}, but {', '.join(_OUTPUTS)}")
    if len({output.name for output in wanted}) < len(wanted):
        raise ProblemError(400, "an output is asked for twice; ask for each once")
    return wanted


def _uploads(tensors: dict[str, list[bytes]], inputs: list[str], most: int) -> list[Upload]:
    if set(tensors) != set(inputs):
        raise ProblemError(
            400, f"inputs are {', '.join(tensors) or 'none'}, and this artefact takes {', '.join(inputs)}"
        )
    return with_references(tensors["image"], tensors.get("reference"), most=most)


ROUTES = [
    Route("/v2", server_metadata),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    *(
        route
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        for route in (
            Route(model, model_metadata),
            Route(f"{model}/ready", model_ready),
            Route(f"{model}/infer", infer, methods=["POST"]),
        )
    ),
]
