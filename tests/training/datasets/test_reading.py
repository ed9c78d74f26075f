"""Each reader on a tiny tree in the published layout; expected values are worked out by hand."""

import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.io

from iqa_runtime.errors import FileError, UsageError
from iqa_training.datasets import DATASETS, LabelScale, official_parts, read_dataset, select, split

ROUNDING = 1e-12
"""Normalising is a difference and a quotient in float64: a few units in the last place of numbers near 1."""


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8, 3), 128, np.uint8))
    return path


def copies(source, paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


def cells(texts):
    """Make a MATLAB cell array of one row."""
    array = np.empty((1, len(texts)), object)
    array[0, :] = texts
    return array


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


LIVE_COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def live(root):
    references = ["bikes.bmp", "caps.bmp"]
    images = [
        root / folder / f"img{number}.bmp" for folder, count in LIVE_COUNTS.items() for number in range(1, count + 1)
    ]
    first = picture(root / "refimgs" / "bikes.bmp")
    copies(first, [*images, root / "refimgs" / "caps.bmp"])
    names = [references[index % 2] for index in range(982)]
    dmos = np.linspace(0, 98.1, 982)  # image number n of all has n / 10
    undistorted = np.zeros(982, np.uint8)
    undistorted[[0, 227]] = 1  # the first of jp2k and of jpeg
    scipy.io.savemat(root / "dmos_realigned.mat", {"dmos_new": dmos[None], "orgs": undistorted[None]})
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells(names)})


def csiq(root):
    files = ["awgn/1600.AWGN.1", "blur/1600.BLUR.2", "jpeg2000/child_swimming.jpeg2000.5", "fnoise/1600.fnoise.1"]
    for name in files:
        picture(root / "dst_imgs" / f"{name}.png")
    for name in ("1600", "child_swimming"):
        picture(root / "src_imgs" / f"{name}.png")
    header = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows = [
        [1600, 1, "noise", 1, 0.061, 0.062],
        [1600, 5, "blur", 2, 0.1, 0.25],
        ["child_swimming", 3, "jpeg 2000", 5, 0.1, 1],
        [1600, 4, "fnoise", 1, 0.1, 0],
    ]
    # As published: three rows above the header, three columns to the left, another sheet in front.
    sheet = [[None] * 9, ["CSIQ"] + [None] * 8, [None] * 9] + [[None] * 3 + row for row in [header, *rows]]
    with pd.ExcelWriter(root / "csiq.DMOS.xlsx") as writer:
        pd.DataFrame([["about"]]).to_excel(writer, sheet_name="about", header=False, index=False)
        pd.DataFrame(sheet).to_excel(writer, sheet_name="all_by_image", header=False, index=False)


def tid2013(root):
    for name in ("I01.BMP", "i25.bmp"):
        picture(root / "reference_images" / name)
    for name in ("i01_01_1.bmp", "i01_08_5.bmp", "I25_24_3.bmp"):
        picture(root / "distorted_images" / name)
    text(root / "mos_with_names.txt", "5.51429 I01_01_1.bmp\r\n2.25 I01_08_5.bmp\r\n9.00000 i25_24_3.bmp\r\n")


def kadid10k(root):
    for name in ("I01", "I81", "I01_01_01", "I01_09_05", "I81_25_03"):
        picture(root / "images" / f"{name}.png")
    lines = ["dist_img,ref_img,dmos,var", "I01_01_01.png,I01.png,4.57,0.496", "I01_09_05.png,I01.png,1,0.3"]
    text(root / "dmos.csv", "\n".join([*lines, "I81_25_03.png,I81.png,2.00,0.9"]) + "\n")


def pipal(root):
    for name in ("Train_Ref/A0001", "Train_Ref/A0200", "Distortion_1/A0001_00_00", "Distortion_4/A0200_06_26"):
        picture(root / f"{name}.bmp")
    text(root / "Train_Label" / "A0001.txt", "A0001_00_00.bmp,1520.0\n")
    text(root / "Train_Label" / "A0200.txt", "A0200_06_26.bmp,1020.0\n")


KONIQ_COUNTS = "0,0,25,73,7,105"


def koniq10k(root):
    rows = [("10004473376.jpg", 100, "training"), ("10007357496.jpg", 50.5, "validation"), ("826373.jpg", 1, "test")]
    for name, _, _ in rows:
        picture(root / "1024x768" / name)
    lines = ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"]
    lines += [f"{name},{KONIQ_COUNTS},{mos},0.5,{part}" for name, mos, part in rows]
    text(root / "koniq10k_distributions_sets.csv", "\n".join(lines) + "\n")


def live_challenge(root):
    names = ["t1.bmp", "t2.bmp", "3.bmp", "1000.JPG"]
    for name in ("trainingImages/t1.bmp", "trainingImages/t2.bmp", "3.bmp", "1000.JPG"):
        picture(root / "Images" / name)
    (root / "Data").mkdir()
    scipy.io.savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells(names).T})
    scipy.io.savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.array([[63.9, 25.3, 30.0, 80.0]])})


def live_fb(root):
    names = ["blur_dataset/motion0044.jpg", "voc_emotic_ava/AVA__149.jpg", "EE371R/rq59.jpg"]
    for name in names:
        picture(root / "database" / name)
    text(root / "labels_image.csv", "name,mos\n" + "".join(f"{name},{75 - 25 * n}\n" for n, name in enumerate(names)))
    text(root / "labels640.csv", f"mos_patch_1,name_image,width_image\n79.4,{names[2]},1200\n")
    text(root / "labels=640_padded.csv", f"name_image,is_valid\n{names[0]},False\n{names[1]},True\n")


def spaq(root):
    for name in ("00001.jpg", "11125.jpg"):
        picture(root / "TestImage" / name)
    (root / "Annotations").mkdir()
    table = pd.DataFrame({"Image name": ["00001.jpg", "11125.jpg"], "MOS": [28.5, 100.0], "Brightness": [47, 50]})
    table.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)


def plain(root):
    for name in ("a.png", "b.png", "c.png", "refs/r.png"):
        picture(root / name)
    lines = ["distorted,reference,mos,type", "a.png,refs/r.png,2,jpeg", "./b.png,./refs/r.png,4,", "c.png,,3,blur"]
    text(root / "mos.csv", "\n".join(lines) + "\n")


TREES = {
    "live": live,
    "csiq": csiq,
    "tid2013": tid2013,
    "kadid10k": kadid10k,
    "koniq10k": koniq10k,
    "live_challenge": live_challenge,
    "live_fb": live_fb,
    "pipal": pipal,
    "spaq": spaq,
    "csv": plain,
}

# Name: kind and ends of the scale, then for each sample distorted, reference, label, content, distortion, part.
EXPECTED = {
    "csiq": (
        ("DMOS", 0, 1),
        [
            ("dst_imgs/awgn/1600.AWGN.1.png", "src_imgs/1600.png", 0.062, 0.938, "1600", "white_noise", None),
            ("dst_imgs/blur/1600.BLUR.2.png", "src_imgs/1600.png", 0.25, 0.75, "1600", "gaussian_blur", None),
            (
                "dst_imgs/jpeg2000/child_swimming.jpeg2000.5.png",
                "src_imgs/child_swimming.png",
                1,
                0,
                "child_swimming",
                "jpeg2000",
                None,
            ),
            ("dst_imgs/fnoise/1600.fnoise.1.png", "src_imgs/1600.png", 0, 1, "1600", "pink_noise", None),
        ],
    ),
    "tid2013": (
        ("MOS", 0, 9),
        [
            (
                "distorted_images/i01_01_1.bmp",
                "reference_images/I01.BMP",
                5.51429,
                5.51429 / 9,
                "I01",
                "additive_gaussian_noise",
                None,
            ),
            ("distorted_images/i01_08_5.bmp", "reference_images/I01.BMP", 2.25, 0.25, "I01", "gaussian_blur", None),
            ("distorted_images/I25_24_3.bmp", "reference_images/i25.bmp", 9, 1, "I25", "sparse_sampling", None),
        ],
    ),
    "kadid10k": (
        ("MOS", 1, 5),
        [
            ("images/I01_01_01.png", "images/I01.png", 4.57, 0.8925, "I01", "gaussian_blur", None),
            ("images/I01_09_05.png", "images/I01.png", 1, 0, "I01", "jpeg2000", None),
            ("images/I81_25_03.png", "images/I81.png", 2, 0.25, "I81", "contrast_change", None),
        ],
    ),
    "pipal": (
        ("MOS", 1020, 1520),
        [
            ("Distortion_1/A0001_00_00.bmp", "Train_Ref/A0001.bmp", 1520, 1, "A0001", "type_00", None),
            ("Distortion_4/A0200_06_26.bmp", "Train_Ref/A0200.bmp", 1020, 0, "A0200", "type_06", None),
        ],
    ),
    "koniq10k": (
        ("MOS", 1, 100),
        [
            ("1024x768/10004473376.jpg", None, 100, 1, "10004473376.jpg", None, "train"),
            ("1024x768/10007357496.jpg", None, 50.5, 0.5, "10007357496.jpg", None, "val"),
            ("1024x768/826373.jpg", None, 1, 0, "826373.jpg", None, "test"),
        ],
    ),
    "live_challenge": (
        ("MOS", 0, 100),
        [
            ("Images/3.bmp", None, 30, 0.3, "3.bmp", None, None),
            ("Images/1000.JPG", None, 80, 0.8, "1000.JPG", None, None),
        ],
    ),
    "live_fb": (
        ("MOS", 0, 100),
        [
            (
                "database/blur_dataset/motion0044.jpg",
                None,
                75,
                0.75,
                "blur_dataset/motion0044.jpg",
                None,
                "train",
            ),
            ("database/voc_emotic_ava/AVA__149.jpg", None, 50, 0.5, "voc_emotic_ava/AVA__149.jpg", None, "val"),
            ("database/EE371R/rq59.jpg", None, 25, 0.25, "EE371R/rq59.jpg", None, "test"),
        ],
    ),
    "spaq": (
        ("MOS", 0, 100),
        [
            ("TestImage/00001.jpg", None, 28.5, 0.285, "00001.jpg", None, None),
            ("TestImage/11125.jpg", None, 100, 1, "11125.jpg", None, None),
        ],
    ),
    "csv": (
        ("MOS", 2, 4),
        [
            ("a.png", "refs/r.png", 2, 0, "refs/r.png", "jpeg", None),
            ("b.png", "refs/r.png", 4, 1, "refs/r.png", None, None),
            ("c.png", None, 3, 0.5, "c.png", "blur", None),
        ],
    ),
}


def test_every_data_set_has_a_tree_here():
    assert set(TREES) == set(DATASETS)
    assert set(EXPECTED) | {"live"} == set(DATASETS)


@pytest.mark.parametrize("name", EXPECTED)
def test_published_layout_is_read(name, tmp_path):
    TREES[name](tmp_path)
    dataset = read_dataset(name, tmp_path)
    (kind, low, high), rows = EXPECTED[name]
    assert dataset.scale == LabelScale(kind, low, high)
    assert len(dataset) == len(rows)
    for sample, (distorted, reference, raw, mos, content, distortion, part) in zip(dataset.samples, rows, strict=True):
        assert sample.distorted == tmp_path / distorted
        assert sample.reference == (None if reference is None else tmp_path / reference)
        assert sample.raw == raw
        assert sample.mos == pytest.approx(mos, abs=ROUNDING)
        assert (sample.content, sample.distortion, sample.part) == (content, distortion, part)
    assert dataset.has_references == all(row[1] is not None for row in rows)
    assert dataset.name == name
    assert dataset.terms


def test_live_leaves_out_undistorted_images_and_keeps_folder_order(tmp_path):
    live(tmp_path)
    dataset = read_dataset("live", tmp_path)
    assert len(dataset) == 980
    assert dataset.scale.kind == "DMOS"
    by_path = {sample.distorted.relative_to(tmp_path).as_posix(): sample for sample in dataset.samples}
    assert not {"jp2k/img1.bmp", "jpeg/img1.bmp"} & set(by_path)
    # The number of the image among all 982 is the label times ten, and its parity tells the reference.
    places = {"jp2k/img2.bmp": 1, "jpeg/img2.bmp": 228, "wn/img1.bmp": 460, "gblur/img1.bmp": 634}
    places |= {"fastfading/img1.bmp": 808, "fastfading/img174.bmp": 981}
    types = ["jpeg2000", "jpeg", "white_noise", "gaussian_blur", "fast_fading", "fast_fading"]
    for (path, place), kind in zip(places.items(), types, strict=True):
        assert by_path[path].raw == pytest.approx(place / 10, abs=1e3 * ROUNDING)  # linspace adds its own
        assert by_path[path].distortion == kind
        assert by_path[path].content == ("caps" if place % 2 else "bikes")
        assert by_path[path].reference == tmp_path / "refimgs" / f"{by_path[path].content}.bmp"
    assert by_path["jp2k/img2.bmp"].mos > by_path["fastfading/img174.bmp"].mos


def test_live_with_another_number_of_scores_is_refused(tmp_path):
    live(tmp_path)
    scipy.io.savemat(tmp_path / "dmos_realigned.mat", {"dmos_new": np.zeros((1, 981)), "orgs": np.zeros((1, 981))})
    with pytest.raises(FileError, match="981 scores, 981 flags and 982 names; LIVE has 982"):
        read_dataset("live", tmp_path)


def test_tid2013_names_its_24_types(tmp_path):
    tid2013(tmp_path)
    lines = [f"4.5 I01_{number:02}_1.bmp" for number in range(1, 25)]
    for number in range(1, 25):
        picture(tmp_path / "distorted_images" / f"i01_{number:02}_1.bmp")
    text(tmp_path / "mos_with_names.txt", "\n".join(lines))
    types = [sample.distortion for sample in read_dataset("tid2013", tmp_path).samples]
    assert len(set(types)) == 24
    known = {0: "additive_gaussian_noise", 6: "quantization_noise", 7: "gaussian_blur", 9: "jpeg", 10: "jpeg2000"}
    known |= {15: "mean_shift", 16: "contrast_change", 22: "chromatic_aberrations"}
    assert {place: types[place] for place in known} == known


def test_koniq10k_without_the_split_takes_the_rescaled_labels(tmp_path):
    koniq10k(tmp_path)
    (tmp_path / "koniq10k_distributions_sets.csv").unlink()
    (tmp_path / "1024x768").rename(tmp_path / "512x384")
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"'
    text(
        tmp_path / "koniq10k_scores_and_distributions.csv",
        f'{header}\n"826373.jpg",{KONIQ_COUNTS},3.829,0.5,77.38\n',
    )
    dataset = read_dataset("koniq10k", tmp_path)
    assert dataset.samples[0].raw == 77.38
    assert dataset.samples[0].distorted == tmp_path / "512x384" / "826373.jpg"
    assert official_parts(dataset) == ()


def test_live_fb_without_both_split_files_has_no_official_split(tmp_path):
    live_fb(tmp_path)
    (tmp_path / "labels640.csv").unlink()
    assert official_parts(read_dataset("live_fb", tmp_path)) == ()


def test_live_fb_labels_may_lie_beside_the_picture_folders(tmp_path):
    live_fb(tmp_path)
    shutil.move(tmp_path / "labels_image.csv", tmp_path / "database" / "labels_image.csv")
    sample = read_dataset("live_fb", tmp_path).samples[0]
    assert sample.distorted == tmp_path / "database" / "blur_dataset" / "motion0044.jpg"


def test_csv_labels_between_0_and_1_are_taken_as_they_are(tmp_path):
    plain(tmp_path)
    text(tmp_path / "own.csv", "\ufeffdistorted,reference,mos\na.png,,0.2\nb.png,,0.6\n")
    dataset = read_dataset("csv", tmp_path / "own.csv")
    assert dataset.scale == LabelScale("MOS", 0, 1)
    assert [sample.mos for sample in dataset.samples] == [0.2, 0.6]
    assert not dataset.has_references


def test_csv_image_that_is_the_reference_of_others_shares_their_content(tmp_path):
    plain(tmp_path)
    text(tmp_path / "mos.csv", "distorted,reference,mos\na.png,refs/../refs/r.png,0.2\nrefs/r.png,,1\n")
    first, second = read_dataset("csv", tmp_path).samples
    assert first.content == second.content == "refs/r.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("distorted,reference,mos\na.png,,nan\n", r"label of a.png is 'nan', not finite"),
        ("distorted,reference,mos\na.png,,\n", r"label of a.png is '', no number"),
        ("distorted,reference,mos\na.png,,good\n", r"label of a.png is 'good', no number"),
        ("distorted,reference,mos\na.png,,1\n./a.png,,2\n", "listed more than once: .*a.png"),
        ("distorted,reference,mos\na.png,,3\nb.png,,3\n", "none or all alike"),
        ("distorted,reference,mos\n,,3\n", "row 1 after the header names no distorted image"),
        ("distorted,reference,mos\n", "none or all alike"),
        ("distorted,mos\na.png,3\n", "no header with the columns distorted, reference, mos"),
        ("distorted,reference,mos,mos\na.png,,3,4\n", "the column 'mos' twice"),
        ("distorted,reference,mos\na.png,,3,4\n", "cannot be read as a table"),
        ("", "cannot be read as a table"),
        ("distorted,reference,mos\na.png,,1\nb.png,gone.png,2\n", "1 of 3 listed images are missing: .*gone.png"),
    ],
)
def test_bad_table_is_one_clear_error(content, message, tmp_path):
    plain(tmp_path)
    text(tmp_path / "mos.csv", content)
    with pytest.raises(FileError, match=message):
        read_dataset("csv", tmp_path)


def test_csv_root_that_is_another_file_is_refused(tmp_path):
    with pytest.raises(FileError, match="no CSV file"):
        read_dataset("csv", picture(tmp_path / "a.png"))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_missing_label_file_tells_layout_and_address(name, tmp_path):
    with pytest.raises(FileError) as caught:
        read_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert DATASETS[name].layout in str(caught.value)
    assert DATASETS[name].url in str(caught.value)


def test_missing_folder_is_said(tmp_path):
    with pytest.raises(FileError, match=r"gone does not exist"):
        read_dataset("tid2013", tmp_path / "gone")


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_missing_images_are_counted_and_the_first_ones_named(name, tmp_path):
    TREES[name](tmp_path)
    sample = read_dataset(name, tmp_path).samples[0]
    sample.distorted.unlink()
    with pytest.raises(FileError, match=r"1 of \d+ listed images are missing") as caught:
        read_dataset(name, tmp_path)
    # The case of the name may be the label file's.
    assert str(sample.distorted).casefold() in str(caught.value).casefold()


def test_many_missing_images_are_not_all_named(tmp_path):
    live(tmp_path)
    shutil.rmtree(tmp_path / "wn")
    with pytest.raises(FileError, match=r"174 of 982 listed images are missing: .* and 171 more"):
        read_dataset("live", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("tid2013", "mos_with_names.txt", "9.00000", "9.00001", "outside 0 to 9"),
        ("tid2013", "mos_with_names.txt", "9.00000", "nan", "not finite"),
        ("tid2013", "mos_with_names.txt", "i25_24_3", "i25_25_3", "is no score with a name"),
        ("tid2013", "mos_with_names.txt", "I01_08_5", "i01_01_1", "listed more than once"),
        ("kadid10k", "dmos.csv", "4.57", "5.57", "outside 1 to 5"),
        ("kadid10k", "dmos.csv", "I81.png", "I01.png", "its own name says I81.png"),
        ("kadid10k", "dmos.csv", "I81_25_03", "I81_26_03", "is no name such as"),
        ("koniq10k", "koniq10k_distributions_sets.csv", ",test", ",holdout", "set 'holdout'"),
        ("koniq10k", "koniq10k_distributions_sets.csv", "826373", "10004473376", "listed more than once"),
        ("live_fb", "labels_image.csv", ",75", ",175", "outside 0 to 100"),
        ("pipal", "Train_Label/A0001.txt", "1520.0", "", "'', no number"),
        ("pipal", "Train_Label/A0001.txt", ".bmp,", ".bmp ", "is no name and score"),
    ],
)
def test_wrong_label_is_refused(name, file, old, new, message, tmp_path):
    TREES[name](tmp_path)
    path = tmp_path / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FileError, match=message):
        read_dataset(name, tmp_path)


def test_csiq_type_that_is_unknown_is_refused(tmp_path):
    csiq(tmp_path)
    table = pd.DataFrame([{"image": 1600, "dst_type": "rain", "dst_lev": 1, "dmos": 0.5}])
    table.to_excel(tmp_path / "csiq.DMOS.xlsx", sheet_name="all_by_image", index=False)
    with pytest.raises(FileError, match="distortion type 'rain'"):
        read_dataset("csiq", tmp_path)


def test_excel_file_that_is_none_is_refused(tmp_path):
    csiq(tmp_path)
    text(tmp_path / "csiq.DMOS.xlsx", "image,dmos")
    with pytest.raises(FileError, match="cannot be read as a table"):
        read_dataset("csiq", tmp_path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"AllMOS_release": np.array([[1.0, 2.0]])}, "4 image names, but 2 scores"),
        ({"AllMOS_release": np.array([[1.0, 2.0, np.nan, 4.0]])}, "outside 0 to 100"),
        ({"AllMOS_release": cells(["a", "b", "c", "d"])}, "does not hold numbers"),
        ({"MOS": np.zeros((1, 4))}, "no variable 'AllMOS_release'"),
        (None, "cannot be read as a MATLAB file"),
    ],
)
def test_bad_matlab_file_is_one_clear_error(contents, message, tmp_path):
    live_challenge(tmp_path)
    path = tmp_path / "Data" / "AllMOS_release.mat"
    if contents is None:
        text(path, "no MATLAB file, but long enough for its header " * 8)
    else:
        scipy.io.savemat(path, contents)
    with pytest.raises(FileError, match=message):
        read_dataset("live_challenge", tmp_path)


def test_unknown_data_set_lists_the_known(tmp_path):
    with pytest.raises(UsageError, match="no data set 'tid2008'; give one of live, csiq, tid2013"):
        read_dataset("tid2008", tmp_path)


@pytest.mark.parametrize(("kind", "best", "worst"), [("MOS", 5, 1), ("DMOS", 1, 5)])
def test_scale_maps_best_to_1_and_back(kind, best, worst):
    scale = LabelScale(kind, 1, 5)
    assert (scale.normalise(best), scale.normalise(worst), scale.normalise(3)) == (1, 0, 0.5)
    assert scale.normalise(best + (best - worst)) == 2  # not clipped
    for raw in (1, 2.2, 5, 7):
        assert scale.denormalise(scale.normalise(raw)) == pytest.approx(raw, abs=10 * ROUNDING)


@pytest.mark.parametrize("ends", [(1, 1), (5, 1), (0, np.inf), (np.nan, 1)])
def test_scale_without_two_ends_is_refused(ends):
    with pytest.raises(UsageError):
        LabelScale("MOS", *ends)


@pytest.fixture
def many(tmp_path):
    """Ten contents, three samples of each."""
    rows = ["distorted,reference,mos"]
    for content in range(10):
        reference = picture(tmp_path / f"r{content}.png")
        for level in range(3):
            name = f"d{content}_{level}.png"
            copies(reference, [tmp_path / name])
            rows.append(f"{name},{reference.name},{level / 2}")
    text(tmp_path / "mos.csv", "\n".join(rows))
    return read_dataset("csv", tmp_path)


def contents(dataset):
    return {sample.content for sample in dataset.samples}


def test_split_shares_contents_out_and_tears_none(many):
    parts = split(many, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=3)
    assert {name: len(contents(part)) for name, part in parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert sum(len(part) for part in parts.values()) == len(many)
    assert set().union(*(contents(part) for part in parts.values())) == contents(many)
    for part in parts.values():
        assert list(part.samples) == [sample for sample in many.samples if sample.content in contents(part)]
        assert (part.scale, part.name) == (many.scale, many.name)


def test_split_depends_on_the_seed_and_not_on_the_order(many):
    reverse = replace(many, samples=many.samples[::-1])
    for seed in range(5):
        assert contents(split(many, seed=seed)["test"]) == contents(split(reverse, seed=seed)["test"])
    assert split(many, seed=5) == split(many, seed=5)
    assert len({frozenset(contents(split(many, seed=seed)["test"])) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("fractions", "seed"),
    [({"train": 0.8}, 0), ({"train": 1.2, "test": -0.2}, 0), ({}, 0), ({"a": 0.99, "b": 0.01}, 0), ({"a": 1.0}, -1)],
)
def test_split_that_cannot_be_is_refused(fractions, seed, many):
    with pytest.raises(UsageError):
        split(many, fractions, seed)


def test_select_finds_parts_by_name(tmp_path, many):
    assert select(many, "all") is many
    assert select(many, "test", seed=7) == split(many, seed=7)["test"]
    koniq10k(tmp_path)
    koniq = read_dataset("koniq10k", tmp_path)
    assert official_parts(koniq) == ("test", "train", "val")
    assert [sample.distorted.name for sample in select(koniq, "official:test").samples] == ["826373.jpg"]
    with pytest.raises(UsageError, match="official:test, official:train, official:val"):
        select(koniq, "official:holdout")
    with pytest.raises(UsageError, match=r"no part 'official:test'; give one of all, train, test$"):
        select(many, "official:test")


def test_reading_imports_no_torch():
    script = "import sys, iqa_training.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0
