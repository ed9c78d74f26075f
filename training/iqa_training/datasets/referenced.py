"""Data sets of distorted copies of pristine images: LIVE, CSIQ, TID2013, KADID-10k, PIPAL."""

from __future__ import annotations

import re
from pathlib import Path

from iqa_runtime.errors import FileError
from iqa_training.datasets.base import LabelScale
from iqa_training.datasets.reading import (
    Folder,
    Label,
    PublishedDataset,
    observed_scale,
    read_mat_numbers,
    read_mat_texts,
    read_table,
    require_file,
    to_number,
)
from iqa_training.distortions import TYPES

# In the order of the vectors in LIVE's .mat files: folder, number of images in it, distortion type.
_LIVE_FOLDERS = (
    ("jp2k", 227, "jpeg2000"),
    ("jpeg", 233, "jpeg"),
    ("wn", 174, "white_noise"),
    ("gblur", 174, "gaussian_blur"),
    ("fastfading", 174, "fast_fading"),
)

# Type in CSIQ's table: folder below dst_imgs, which also stands in the file name, and distortion type.
_CSIQ_TYPES = {
    "noise": ("awgn", "white_noise"),
    "jpeg": ("jpeg", "jpeg"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
    "fnoise": ("fnoise", "pink_noise"),
    "blur": ("blur", "gaussian_blur"),
    "contrast": ("contrast", "contrast_decrements"),
}

_TID2013_TYPES = (
    "additive_gaussian_noise",
    "color_component_noise",
    "spatially_correlated_noise",
    "masked_noise",
    "high_frequency_noise",
    "impulse_noise",
    "quantization_noise",
    "gaussian_blur",
    "denoise",
    "jpeg",
    "jpeg2000",
    "jpeg_transmission_errors",
    "jpeg2000_transmission_errors",
    "non_eccentricity_pattern",
    "local_blocks",
    "mean_shift",
    "contrast_change",
    "color_saturation_change",
    "multiplicative_noise",
    "comfort_noise",
    "compression_of_noisy_images",
    "color_quantization_with_dither",
    "chromatic_aberrations",
    "sparse_sampling",
)


def _live(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read LIVE release 2 with its realigned DMOS; the range is the observed one, rounded outwards."""
    scores, names = root / "dmos_realigned.mat", root / "refnames_all.mat"
    dmos = read_mat_numbers(scores, "dmos_new")
    undistorted = read_mat_numbers(scores, "orgs").astype(bool)
    references = read_mat_texts(names, "refnames_all")
    images = [(folder, f"img{k + 1}.bmp", kind) for folder, count, kind in _LIVE_FOLDERS for k in range(count)]
    if not len(dmos) == len(undistorted) == len(references) == len(images):
        raise FileError(
            f"{scores} and {names} hold {len(dmos)} scores, {len(undistorted)} flags and {len(references)} names; "
            f"LIVE has {len(images)} of each"
        )
    folders = {folder: Folder(root / folder) for folder, _, _ in _LIVE_FOLDERS}
    pristine = Folder(root / "refimgs")
    labels = [
        Label(folders[folder].find(image), pristine.find(reference), float(score), Path(reference).stem, kind)
        for (folder, image, kind), reference, score, skip in zip(images, references, dmos, undistorted, strict=True)
        if not skip
    ]
    return LabelScale("DMOS", -2.65, 111.78), labels


def _csiq(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read CSIQ; the range of its DMOS is published as 0 to 1."""
    path = root / "csiq.DMOS.xlsx"
    folders = {folder: Folder(root / "dst_imgs" / folder) for folder, _ in _CSIQ_TYPES.values()}
    pristine = Folder(root / "src_imgs")
    labels = []
    for row in read_table(path, ("image", "dst_type", "dst_lev", "dmos"), sheet="all_by_image"):
        image, kind = row["image"], row["dst_type"]
        if kind not in _CSIQ_TYPES:
            raise FileError(f"{path}: the distortion type {kind!r} of image {image!r} is none of {list(_CSIQ_TYPES)}")
        folder, distortion = _CSIQ_TYPES[kind]
        name = f"{image}.{folder}.{row['dst_lev']}.png"
        raw = to_number(row["dmos"], path, name)
        labels.append(Label(folders[folder].find(name), pristine.find(f"{image}.png"), raw, image, distortion))
    return LabelScale("DMOS", 0.0, 1.0), labels


def _tid2013(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read TID2013; the range of its MOS is published as 0 to 9."""
    path = root / "mos_with_names.txt"
    distorted, pristine = Folder(root / "distorted_images"), Folder(root / "reference_images")
    labels = []
    for line in _lines(path):
        text, _, name = line.partition(" ")
        name = name.strip()
        match = re.fullmatch(r"(i\d\d)_(\d\d)_\d\.bmp", name, re.IGNORECASE)
        if match is None or not 1 <= int(match[2]) <= len(_TID2013_TYPES):
            raise FileError(f"{path}: the line {line!r} is no score with a name such as 'I01_01_1.bmp'")
        reference = match[1].upper()
        labels.append(
            Label(
                distorted.find(name),
                pristine.find(f"{reference}.BMP"),
                to_number(text, path, name),
                reference,
                _TID2013_TYPES[int(match[2]) - 1],
            )
        )
    return LabelScale("MOS", 0.0, 9.0), labels


def _kadid10k(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read KADID-10k; its column ``dmos`` is a MOS, higher is better, published as 1 to 5."""
    path = root / "dmos.csv"
    images = Folder(root / "images")
    labels = []
    for row in read_table(path, ("dist_img", "ref_img", "dmos")):
        name, reference = row["dist_img"], row["ref_img"]
        match = re.fullmatch(r"(I\d\d)_(\d\d)_\d\d\.png", name, re.IGNORECASE)
        if match is None or not 1 <= int(match[2]) <= len(TYPES):
            raise FileError(f"{path}: {name!r} is no name such as 'I01_01_01.png'")
        if Path(reference).stem.upper() != match[1].upper():
            raise FileError(f"{path}: {name} has the reference {reference!r}; its own name says {match[1]}.png")
        raw = to_number(row["dmos"], path, name)
        kind = TYPES[int(match[2]) - 1]
        labels.append(Label(images.find(name), images.find(reference), raw, match[1].upper(), kind))
    return LabelScale("MOS", 1.0, 5.0), labels


def _pipal(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read the training part of PIPAL, the one with public labels.

    The labels are Elo scores, without a published range: the observed one is taken. Types keep PIPAL's numbers.
    """
    folder = root / "Train_Label"
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileError(f"the folder {folder} has no label file *.txt")
    folders = [path for name in ("Train_Dist*", "Distortion_*", "Train_Dist*/Distortion_*") for path in root.glob(name)]
    distorted = Folder(*sorted(folders) if folders else [root / "Train_Dist"])
    pristine = Folder(root / "Train_Ref")
    labels = []
    for path in files:
        for line in _lines(path):
            name, _, text = line.partition(",")
            match = re.fullmatch(r"(A\d+)_(\d+)_\d+\.bmp", name, re.IGNORECASE)
            if match is None:
                raise FileError(f"{path}: the line {line!r} is no name and score such as 'A0001_00_00.bmp,1520.0648'")
            labels.append(
                Label(
                    distorted.find(name),
                    pristine.find(f"{match[1]}.bmp"),
                    to_number(text, path, name),
                    match[1].upper(),
                    f"type_{match[2]}",
                )
            )
    return observed_scale(labels, folder), labels


def _lines(path: Path) -> list[str]:
    """Read the lines of a text file that are not empty, stripped."""
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read as text: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


LIVE = PublishedDataset(
    name="live",
    title="LIVE",
    url="https://live.ece.utexas.edu/research/quality/subjective.htm",
    paper="Sheikh et al., A statistical evaluation of recent full reference image quality assessment algorithms, "
    "IEEE TIP 2006",
    terms="free of charge; its copyright notice must be kept and the source acknowledged",
    layout="dmos_realigned.mat, refnames_all.mat, refimgs/bikes.bmp, "
    "jp2k/img1.bmp, jpeg/img1.bmp, wn/img1.bmp, gblur/img1.bmp, fastfading/img1.bmp",
    labels=_live,
)

CSIQ = PublishedDataset(
    name="csiq",
    title="CSIQ",
    url="https://s2.smu.edu/~eclarson/csiq.html",
    paper="Larson and Chandler, Most apparent distortion, Journal of Electronic Imaging 2010",
    terms="no licence is stated; ask its authors for anything but research",
    layout="csiq.DMOS.xlsx, src_imgs/1600.png, dst_imgs/awgn/1600.AWGN.1.png, dst_imgs/blur/1600.BLUR.1.png",
    labels=_csiq,
)

TID2013 = PublishedDataset(
    name="tid2013",
    title="TID2013",
    url="https://www.ponomarenko.info/tid2013.htm",
    paper="Ponomarenko et al., Image database TID2013, Signal Processing: Image Communication 2015",
    terms="for research; see the readme in it",
    layout="mos_with_names.txt, reference_images/I01.BMP, distorted_images/i01_01_1.bmp",
    labels=_tid2013,
)

KADID10K = PublishedDataset(
    name="kadid10k",
    title="KADID-10k",
    url="https://database.mmsp-kn.de/kadid-10k-database.html",
    paper="Lin, Hosu and Saupe, KADID-10k: A large-scale artificially distorted IQA database, QoMEX 2019",
    terms="see its page; the pristine images come from Pixabay",
    layout="dmos.csv, images/I01.png, images/I01_01_01.png",
    labels=_kadid10k,
)

PIPAL = PublishedDataset(
    name="pipal",
    title="PIPAL",
    url="https://www.jasongt.com/projectpages/pipal.html",
    paper="Gu et al., PIPAL: a large-scale image quality assessment dataset for perceptual image restoration, "
    "ECCV 2020",
    terms="for research; see its page",
    layout="Train_Label/A0001.txt, Train_Ref/A0001.bmp, Train_Dist/A0001_00_00.bmp; "
    "the distorted images may lie in Distortion_1 to Distortion_4 instead",
    labels=_pipal,
)
