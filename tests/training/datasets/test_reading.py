"""Each reader on a tiny tree in the published layout; expected values are worked out by hand."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.io

from iqa_runtime.errors import FileError, UsageError
from iqa_training.datasets import DATASETS, LabelScale, official_parts, read_dataset
from published_datasets import (
    EXPECTED,
    KONIQ_COUNTS,
    TREES,
    cells,
    csiq,
    koniq10k,
    live,
    live_challenge,
    live_fb,
    picture,
    plain,
    text,
    tid2013,
)

ROUNDING = 1e-12
"""Normalising is a difference and a quotient in float64: a few units in the last place of numbers near 1."""


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
    with pytest.raises(UsageError, match="``dataset=tid2008``: no such data set; give one of live, csiq, tid2013"):
        read_dataset("tid2008", tmp_path)


def test_reading_imports_no_torch():
    script = "import sys, iqa_training.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0
