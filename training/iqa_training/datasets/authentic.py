"""Data sets of photographs as people took them, without references: KonIQ-10k, LIVE Challenge, LIVE-FB, SPAQ."""

from __future__ import annotations

import re
from pathlib import Path

from iqa_runtime.errors import FileError
from iqa_training.datasets.base import LabelScale
from iqa_training.datasets.reading import (
    Folder,
    Label,
    PublishedDataset,
    read_mat_numbers,
    read_mat_texts,
    read_table,
    to_number,
)

_KONIQ_PARTS = {"training": "train", "validation": "val", "test": "test"}

# The files of LIVE-FB's official split, under the names their authors gave and those that archives made of them.
_LIVE_FB_TEST = ("labels>640.csv", "labels640.csv")
_LIVE_FB_VALIDATION = ("labels<=640_padded.csv", "labels=640_padded.csv")


def _koniq10k(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read KonIQ-10k, labels rescaled by its authors to 1 to 100.

    ``koniq10k_distributions_sets.csv`` has them as ``MOS``, with the official split. In
    ``koniq10k_scores_and_distributions.csv`` ``MOS`` is the mean of 1 to 5, and the same labels are ``MOS_zscore``.
    """
    folder = Folder(root / ("1024x768" if (root / "1024x768").is_dir() else "512x384"))
    path, column, split = root / "koniq10k_distributions_sets.csv", "MOS", ["set"]
    if not path.is_file() and (root / "koniq10k_scores_and_distributions.csv").is_file():
        path, column, split = root / "koniq10k_scores_and_distributions.csv", "MOS_zscore", []
    labels = []
    for row in read_table(path, ("image_name", column, *split)):
        name = row["image_name"]
        if split and row["set"] not in _KONIQ_PARTS:
            raise FileError(f"{path}: {name} is in the set {row['set']!r}, which is none of {list(_KONIQ_PARTS)}")
        part = _KONIQ_PARTS[row["set"]] if split else None
        labels.append(Label(folder.find(name), None, to_number(row[column], path, name), name, part=part))
    return LabelScale("MOS", 1.0, 100.0), labels


def _live_challenge(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read LIVE In the Wild; the range of its MOS is published as 0 to 100.

    The images ``t1`` to ``t7`` served to train the observers and are left out, as in the literature: 1162 remain.
    """
    names = read_mat_texts(root / "Data" / "AllImages_release.mat", "AllImages_release")
    scores = read_mat_numbers(root / "Data" / "AllMOS_release.mat", "AllMOS_release")
    if len(names) != len(scores):
        raise FileError(
            f"{root / 'Data'}: {len(names)} image names, but {len(scores)} scores; take both from one release"
        )
    folder = Folder(root / "Images")
    labels = [
        Label(folder.find(name), None, float(score), name)
        for name, score in zip(names, scores, strict=True)
        if not re.fullmatch(r"t\d\.bmp", Path(name).name, re.IGNORECASE)
    ]
    return LabelScale("MOS", 0.0, 100.0), labels


def _live_fb(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read the pictures of LIVE-FB, without its patches; the range of its MOS is 0 to 100.

    Where both files of the official split lie beside the labels: pictures larger than 640 pixels are ``test``, those
    marked ``is_valid`` are ``val``, the others ``train``.
    """
    base = root if (root / "labels_image.csv").is_file() else root / "database"
    path = base / "labels_image.csv"
    rows = read_table(path, ("name", "mos"))
    images = base / "database" if (base / "database").is_dir() else base
    parts: dict[str, str] = {}
    test = next((base / name for name in _LIVE_FB_TEST if (base / name).is_file()), None)
    validation = next((base / name for name in _LIVE_FB_VALIDATION if (base / name).is_file()), None)
    if test is not None and validation is not None:
        parts = {row["name"]: "train" for row in rows}
        for row in read_table(validation, ("name_image", "is_valid")):
            if row["is_valid"].lower() == "true":
                parts[row["name_image"]] = "val"
        parts.update((row["name_image"], "test") for row in read_table(test, ("name_image",)))
    folders: dict[Path, Folder] = {}
    labels = []
    for row in rows:
        name = row["name"]
        where = images / Path(name).parent
        if where not in folders:
            folders[where] = Folder(where)
        found = folders[where].find(Path(name).name)
        labels.append(Label(found, None, to_number(row["mos"], path, name), name, part=parts.get(name)))
    return LabelScale("MOS", 0.0, 100.0), labels


def _spaq(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read SPAQ; the range of its MOS is published as 0 to 100."""
    path = root / "Annotations" / "MOS and Image attribute scores.xlsx"
    folder = Folder(root / "TestImage")
    labels = [
        Label(folder.find(row["Image name"]), None, to_number(row["MOS"], path, row["Image name"]), row["Image name"])
        for row in read_table(path, ("Image name", "MOS"))
    ]
    return LabelScale("MOS", 0.0, 100.0), labels


KONIQ10K = PublishedDataset(
    name="koniq10k",
    title="KonIQ-10k",
    url="https://database.mmsp-kn.de/koniq-10k-database.html",
    paper="Hosu et al., KonIQ-10k: An ecologically valid database for deep learning of blind image quality assessment, "
    "IEEE TIP 2020",
    terms="see its page; the photographs come from YFCC100M, each under its own Creative Commons licence",
    layout="koniq10k_distributions_sets.csv, 1024x768/10004473376.jpg; "
    "or koniq10k_scores_and_distributions.csv, which lacks the split; or 512x384",
    labels=_koniq10k,
)

LIVE_CHALLENGE = PublishedDataset(
    name="live_challenge",
    title="LIVE In the Wild Challenge",
    url="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    paper="Ghadiyaram and Bovik, Massive online crowdsourced study of subjective and objective picture quality, "
    "IEEE TIP 2016",
    terms="free of charge for research; its copyright notice must be kept and the source acknowledged",
    layout="Data/AllImages_release.mat, Data/AllMOS_release.mat, Images/10.bmp",
    labels=_live_challenge,
)

LIVE_FB = PublishedDataset(
    name="live_fb",
    title="LIVE-FB (PaQ-2-PiQ)",
    url="https://github.com/niu-haoran/FLIVE_Database",
    paper="Ying et al., From patches to pictures (PaQ-2-PiQ): Mapping the perceptual space of picture quality, "
    "CVPR 2020",
    terms="see its page; the pictures come from AVA, VOC, EMOTIC and others, on the terms of each",
    layout="labels_image.csv, database/voc_emotic_ava/AVA__149.jpg, database/blur_dataset/motion0044.jpg; "
    "beside the labels, for the official split: labels>640.csv or labels640.csv, and "
    "labels<=640_padded.csv or labels=640_padded.csv",
    labels=_live_fb,
)

SPAQ = PublishedDataset(
    name="spaq",
    title="SPAQ",
    url="https://github.com/h4nwei/SPAQ",
    paper="Fang et al., Perceptual quality assessment of smartphone photography, CVPR 2020",
    terms="for education and research; not for a commercial product without its authors' permission",
    layout="Annotations/MOS and Image attribute scores.xlsx, TestImage/00001.jpg",
    labels=_spaq,
)
