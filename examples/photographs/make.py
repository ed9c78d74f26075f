"""Make the photographs of this folder and of the exporter from their sources in the Debian archive.

    apt-get download lomiri-wallpapers-16.04      # 20.04.0-2
    dpkg -x lomiri-wallpapers-16.04_*.deb sources
    python make.py sources/usr/share/backgrounds examples/photographs calibration/iqa_calibration/photographs

Needs Pillow and NumPy. The files in the repository were made with Pillow 13.0; another version may round differently.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

EXAMPLES = {
    "brushes": "Picture_1A_by_freespace.jpg",
    "dandelion": "seeding_by_Clements_Engelhardt.jpg",
    "drum": "Wine_by_Jakkub_Mede.jpg",
    "mountains": "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "stream": "life_by_Aitzol_Berasategi.jpg",
}
PARITY = {
    "dogs": "friends_by_Aitzol_Berasategi.jpg",
    "fig": "Picture_0B_by_freespace.jpg",
    "meadow": "aitzgorri_by_Aitzol_Berasategi.jpg",
    "sunset": "sunset_by_Aitzol_Berasategi.jpg",
}
LONG_SIDE = 680  # pixels
BLUR_SIGMAS = (1.0, 2.0, 4.0)  # pixels
NOISE_SIGMAS = (8.0, 20.0, 45.0)  # levels of 255
JPEG_QUALITIES = (30, 12, 5)


def shrink(path: Path, long_side: int) -> Image.Image:
    image = Image.open(path).convert("RGB")
    scale = long_side / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def save(image: Image.Image, path: Path, quality: int) -> None:
    # 4:4:4 above quality 90, so that a degraded copy shows its own degradation and no loss of chroma
    image.save(path, quality=quality, subsampling="4:4:4" if quality > 90 else "4:2:0")


def main(sources: Path, target: Path, parity: Path) -> None:
    pristine = {name: shrink(sources / file, LONG_SIDE) for name, file in EXAMPLES.items()}
    for name, image in pristine.items():
        save(image, target / f"{name}.jpg", 92)
    clock = shrink(sources / "greentock_by_Peter_Nerlich.jpg", 640)
    save(clock.crop((210, 60, 530, 260)), target / "clock_small.jpg", 92)

    mountains = np.asarray(pristine["mountains"], dtype=np.float64)
    noise = np.random.default_rng(0).standard_normal(mountains.shape)
    for level in range(3):
        blurred = pristine["brushes"].filter(ImageFilter.GaussianBlur(BLUR_SIGMAS[level]))
        save(blurred, target / f"brushes_blur_{level + 1}.jpg", 95)
        noisy = np.clip(np.rint(mountains + NOISE_SIGMAS[level] * noise), 0, 255).astype(np.uint8)
        save(Image.fromarray(noisy), target / f"mountains_noise_{level + 1}.jpg", 92)
        save(pristine["stream"], target / f"stream_jpeg_{level + 1}.jpg", JPEG_QUALITIES[level])

    for name, file in PARITY.items():
        save(shrink(sources / file, 480), parity / f"{name}.jpg", 95)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
