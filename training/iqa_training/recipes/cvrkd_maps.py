"""What a frozen trunk makes of pictures, computed once: CVRKD-IQA's recipes train the mixers, which cost far less."""

from __future__ import annotations

import hashlib
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iqa_export.deploy.batchnorm import fold_mobilenet
from iqa_export.models.cvrkd import GRID, Cvrkd
from iqa_export.models.mobilenet import MobileNetV2Pyramid
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_runtime.errors import FileError
from iqa_training.crops import random_crop
from iqa_training.datasets.items import Source
from iqa_training.recipes.base import normalise, reference_of


class KeptMaps:
    """The trunk's maps of crops at fixed places of each picture, pooled to 7 x 7: 30 kB a crop.

    Where a crop lies, and whether it is flipped left to right, follows from the picture's content and the number of the
    place: pictures of one content, and its original, are cut alike. The first place is not flipped.

    Parameters
    ----------
    trunk
        Looked at when the first maps are asked for, and to stay as it is from then on.
    places
        Of each picture.
    crop
        Side of a crop, pixels.
    folder
        Where maps are kept for runs to come, by the digests of trunk and crop; None for memory alone.
    """

    def __init__(self, trunk: MobileNetV2Pyramid, places: int, crop: int, folder: Path | None = None) -> None:
        self.places = places
        self._given, self._crop, self._folder = trunk, crop, folder
        self._kept: dict[tuple[str, str, int], NDArray[np.float16]] = {}

    def of(self, source: Source, index: int, place: int, *, reference: bool) -> NDArray[np.float32]:
        """Return the maps of a crop of picture `index`, or of its original, one behind the other: (channels, 7, 7).

        Raises
        ------
        FileError
            If the folder cannot be written or read.
        """
        entry = source.entries[index]
        key = ("reference", entry.content, place) if reference else ("image", entry.name, place)
        if key not in self._kept:
            item = source.item(index)
            rng = np.random.default_rng([zlib.crc32(entry.content.encode()), place])
            picture = reference_of(item) if reference else item.distorted
            [crop] = random_crop([picture], self._crop, rng, flip=place > 0)
            self._kept[key] = self._maps(crop) if self._folder is None else self._stored(self._folder, crop)
        return self._kept[key].astype(np.float32)

    def _stored(self, folder: Path, crop: NDArray[np.uint8]) -> NDArray[np.float16]:
        file = folder / self._digest / f"{hashlib.sha256(crop.tobytes()).hexdigest()}.npy"
        try:
            if file.is_file():
                return np.asarray(np.load(file), np.float16)
            file.parent.mkdir(parents=True, exist_ok=True)
            maps = self._maps(crop)
            np.save(file, maps)
        except (OSError, EOFError, ValueError) as error:
            raise FileError(f"{file}: cannot be kept or read ({error}); delete it, or check folder and disk") from error
        return maps

    @torch.no_grad()
    def _maps(self, crop: NDArray[np.uint8]) -> NDArray[np.float16]:
        device = next(self._trunk.parameters()).device
        pixels = normalise(torch.from_numpy(crop[None]).to(device), CvrkdSystem.mean, CvrkdSystem.std)
        # Validation asks with mixed precision around it; maps are of float32 whoever asks first.
        with torch.autocast(device.type, enabled=False):
            pooled = [nn.functional.adaptive_avg_pool2d(stage, GRID) for stage in self._trunk(pixels)]
        return np.asarray(torch.cat(pooled, 1)[0].half().cpu())

    @cached_property
    def _trunk(self) -> MobileNetV2Pyramid:
        return fold_mobilenet(self._given)

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for tensor in self._given.state_dict().values():
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return digest.hexdigest()[:16]


def projected(network: Cvrkd, maps: Tensor) -> Tensor:
    """Return `Cvrkd.features` of kept maps, (B, channels, 7, 7): the mean of a projection is that of the mean.

    In float32 whatever the precision around it: differences from a reference may be small beside what they are of.
    """
    stages = torch.split(maps, list(network.config.channels), 1)
    with torch.autocast(maps.device.type, enabled=False):
        return torch.cat([project(stage) for stage, project in zip(stages, network.project, strict=True)], 1)
