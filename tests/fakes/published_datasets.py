"""Tiny trees in the layouts of the published data sets, and what a reader finds there, worked out by hand."""

import shutil

import cv2
import numpy as np
import pandas as pd
import scipy.io


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
