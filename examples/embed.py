"""Score frames that are already in memory, as an application with a camera or a video would.

python examples/embed.py ARTEFACT IMAGE...
"""

import sys

import cv2

from iqa_runtime import Scorer


def frames(paths):
    for path in paths:
        frame = cv2.imread(path)  # stands for a camera: uint8, height x width x 3, BGR as OpenCV has it
        if frame is None:
            sys.exit(f"{path}: OpenCV cannot read it")
        yield frame[..., ::-1]  # the scorer takes RGB


artefact, *paths = sys.argv[1:] or sys.exit(__doc__)
with Scorer(artefact) as scorer:
    low, high = scorer.contract.score.low, scorer.contract.score.high
    trained = "" if scorer.contract.weights.trained else ", untrained"
    for path, result in zip(paths, scorer.score_many(frames(paths)), strict=True):
        print(f"{path}: {result.error or result.value} ({low:g} to {high:g}, {result.direction} is better{trained})")
