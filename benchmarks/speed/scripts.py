"""What people write today: photographs to scores with PyTorch, the network as its authors wrote it.

`script` is a straightforward script: OpenCV reads, NumPy cuts and normalises, the crops of an image are one batch.
Where our artefact resizes, both resize with Pillow, after decoding all of the picture.
`pyiqa` works in the way of the pyiqa package, which has none of these networks: one image at a time, Pillow to a float
tensor of the whole image, then crops, normalisation and network, all in PyTorch. Both give the scores that ours gives.

    python -m speed.scripts STYLE SYSTEM VARIANT TASK THREADS OUTPUT.jsonl PHOTOGRAPH...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqa_export.checkpoints import load_into, random_checkpoint, read_checkpoint
from iqa_export.systems import GraphChoice, System, find_system
from iqa_runtime.contract import Resize, Task
from iqa_runtime.scoring.patch_plans import positions
from iqa_runtime.scoring.resizing import resized_size


class Script:
    """A network ready to score, and one of the two ways to feed it."""

    def __init__(self, style: str, system: str, variant: str, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        self._system = find_system(system)
        network, keys = self._system.build(variant).requires_grad_(False), self._system.key_map(variant)
        bundled = self._system.bundled.get(variant)
        load_into(network, random_checkpoint(network, 0, keys) if bundled is None else read_checkpoint(bundled), keys)
        choice = GraphChoice(variant=variant, task=task)
        self._network = self._system.as_written(network, choice).eval()
        self._how = self._system.resize_of(choice)
        self._read = {"script": read_with_opencv, "pyiqa": read_with_pillow}[style]

    def score(self, photographs: list[str], rows: TextIO) -> list[float]:
        """Score photographs one after the other and write a row for each."""
        scores = []
        with torch.inference_mode():
            for path in photographs:
                score = float(self._network(self._read(self._system, self._how, path))[0].double().mean())
                rows.write(json.dumps({"path": path, "score": score}) + "\n")
                scores.append(score)
        return scores


def resized(picture: Image.Image, how: Resize | None) -> Image.Image:
    if how is None:
        return picture
    height, width = resized_size(how, picture.height, picture.width)
    return picture.resize((width, height), Image.Resampling[how.filter.upper()])


def read_with_opencv(system: System, how: Resize | None, path: str) -> Tensor:
    import cv2

    read = cv2.imread(path)
    if read is None:
        raise ValueError(f"{path}: OpenCV cannot read it")
    image = np.asarray(resized(Image.fromarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB)), how))
    side = system.crop
    crops = [
        image[top : top + side, left : left + side] for top, left in positions(system.patch_plan, *image.shape[:2])
    ]
    mean, std = np.array(system.mean, np.float32), np.array(system.std, np.float32)
    normalised = (np.stack(crops).astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))


def read_with_pillow(system: System, how: Resize | None, path: str) -> Tensor:
    with Image.open(path) as opened:
        image = (
            torch.from_numpy(np.array(resized(opened.convert("RGB"), how)))
            .permute(2, 0, 1)
            .contiguous()
            .float()
            .div(255)
        )
    side = system.crop
    corners = positions(system.patch_plan, *image.shape[1:]).tolist()
    crops = [image[:, top : top + side, left : left + side] for top, left in corners]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (system.mean, system.std))
    return (torch.stack(crops) - mean) / std


def main() -> None:
    style, system, variant, task, threads, output, *photographs = sys.argv[1:]
    with Path(output).open("w", encoding="utf-8") as rows:
        Script(style, system, variant, cast(Task, task), int(threads)).score(photographs, rows)


if __name__ == "__main__":
    main()
