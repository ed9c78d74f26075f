"""Contract files: each complaint has the path of what is wrong, what that is, and what to do."""

import re

import pytest

from iqa_export.systems.contract_file import read_contract_file
from iqa_export.systems.contract_template import TEMPLATE
from iqa_export.systems.described import described_system
from iqa_runtime.contract import Quantiles, Resize
from iqa_runtime.errors import FileError, UsageError

SOUND = """
name = "tiny"
licence = "CC0-1.0"
task = "nr"
[input]
crop = 32
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[patch_plan]
kind = "center"
[score]
direction = "higher"
low = 1
high = 10
scale = "MOS"
"""


@pytest.fixture
def read(tmp_path):
    """Make a system of the text of a contract file."""

    def make(text: str | bytes):
        path = tmp_path / "tiny.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return described_system(path, read_contract_file(path), None)

    return make


def test_what_is_left_out_has_its_default(read):
    system = read(SOUND)
    assert system.tasks == {"default": ("nr",)}
    assert (system.pooling, system.color, system.color_space, system.crops_per_item) == ("mean", "RGB", "sRGB", 1)
    assert system.score.bounded is False
    assert (system.title, system.map_outputs, system.extra_outputs) == ("tiny", (), ())


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ("0..1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("0..255", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("-1..1", (-0.03, -0.088, -0.188), (0.458, 0.448, 0.45)),
    ],
)
def test_means_are_those_of_the_range_that_the_file_says(read, values, mean, std):
    """A pixel of 0, 51 or 255 becomes what the training pipeline made of it."""
    text = SOUND.replace("[0.5, 0.5, 0.5]", str(list(mean)), 1).replace("[0.5, 0.5, 0.5]", str(list(std)))
    tensor = read(text.replace("crop = 32", f'crop = 32\nvalues = "{values}"')).crop_input("image")
    assert tensor.mean is not None
    assert tensor.std is not None
    for pixel in (0, 51, 255):
        there = {"0..1": pixel / 255, "0..255": float(pixel), "-1..1": pixel / 127.5 - 1}[values]
        for channel in range(3):
            ours = (pixel / 255 - tensor.mean[channel]) / tensor.std[channel]
            assert ours == pytest.approx((there - mean[channel]) / std[channel], abs=1e-12)


def test_an_end_that_is_left_out_is_none(read):
    score = read(SOUND.replace("high = 10\n", "")).score
    assert score.range == (1, None)
    assert str(score) == "1 or more, higher is better"
    assert read(SOUND.replace("low = 1\nhigh = 10\n", "")).score.range == (None, None)


def test_all_that_a_contract_holds_can_be_written(read):
    text = SOUND.replace(
        "[input]",
        'pooling = "p05"\nvariant = "small"\ntrained_on = "KADID-10k"\n[input]\ncolor = "BGR"\ncolor_space = "stored"',
    )
    text = text.replace('kind = "center"', 'kind = "uniform"\ncount = 25')
    text += """
output = "mos"
[score.quantiles]
population = "photographs"
images = 3
scores = [1, 2, 3]
[resize]
to = "shorter"
size = 512
filter = "lanczos"
when = "shrink"
[head]
distribution = [1, 2, 3]
values = "probabilities"
[[maps]]
name = "quality_map"
output = 1
rows = 4
columns = 4
[[extras]]
name = "kinds of noise"
output = "noise"
shape = [2]
labels = ["white", "pink"]
"""
    system = read(text)
    assert system.resize == Resize(to="shorter", size=512, filter="lanczos", when="shrink")
    assert (system.patch_plan.kind, system.patch_plan.count, system.pooling) == ("uniform", 25, "p05")
    assert (system.color, system.color_space, system.trained_on) == ("BGR", "stored", "KADID-10k")
    assert system.score.quantiles == Quantiles(population="photographs", images=3, scores=(1, 2, 3))
    assert system.map_outputs[0].rows == 4
    assert (system.extra_outputs[0].name, system.extra_outputs[0].labels) == ("kinds of noise", ("white", "pink"))


def test_the_template_is_a_sound_contract_also_where_every_example_is_taken(read):
    read(TEMPLATE)
    taken = re.sub(r"^# (\[|[a-z_]+ = )", r"\1", TEMPLATE, flags=re.MULTILINE)
    taken = taken.replace('kind = "five"', 'kind = "uniform"').replace("stride = 112\n", "").replace("seed = 0\n", "")
    taken = taken.replace("crops_per_item = 10 ", "crops_per_item = 5 ")
    description = read(taken).description
    assert description.network == {"width": 64}
    assert description.extras[0].labels == ("noise", "blur", "JPEG", "JPEG 2000")


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("scale =", "scael =", r"score\.scael: no such key; the nearest is scale"),
        ('scale = "MOS"', "", r"score\.scale: is missing; it is a text"),
        ("low = 1", 'low = "one"', r"score\.low: expected a number, got a text"),
        ("low = 1", "low = nan", r"score\.low: nan is no number"),
        ("high = 10", "high = inf", r"score\.high: inf .*leave an end of a range out where there is none"),
        ("low = 1", "low = 11", r"score: low is 11\.0 and high 10\.0"),
        ("low = 1", "low = 1979-05-27", r"score\.low: expected a number"),
        ("high = 10\n", "bounded = true\n", r"score\.bounded: a score without both ends"),
        ('"higher"', '"hihger"', r"score\.direction: 'hihger' is none of higher, lower"),
        ('"higher"', "true", r"score\.direction: expected a text in quotes, got true or false"),
        ("[0.5, 0.5, 0.5]", "[0.5, 0.5]", r"input\.mean: expected a list of length 3, got 2"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5, 0, 0.5]", r"input\.std: .*above 0"),
        ("mean = [0.5, 0.5, 0.5]", "", r"input\.mean: is missing; it is a list of 3 numbers"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [5000, 0, 0]", r"input\.mean: .*means within 1000 of 0"),
        ("crop = 32", "crop = 32.5", r"input\.crop: expected a whole number"),
        ("crop = 32", "crop = -32", r"input\.crop: -32: it has to be 1 to 65536"),
        ("crop = 32", "crop = 32\ncrops_per_item = 0", r"input\.crops_per_item: 0: it has to be 1"),
        ("crop = 32", "crop = 32\ncrops_per_item = 10", r"patch_plan: gives 1 crops, and an item .* takes 10"),
        ("crop = 32\n", "", r"input\.crop: give the side of crops in pixels"),
        (
            "crop = 32",
            'crop = 32\npooling = "median"',
            r"input\.pooling: no such key; it belongs to the top",
        ),
        ("crop = 32", 'crop = 32\nvalues = "0..2"', r"input\.values: '0\.\.2' is none of"),
        ('kind = "center"', 'kind = "grid"', r"patch_plan: .*stride is missing"),
        ('kind = "center"', 'kind = "grid"\nstride = 64', r"patch_plan: .*stride is 64; it must be 1 to 32"),
        ('kind = "center"', 'kind = "centre"', r"patch_plan\.kind: 'centre' is none of"),
        ('name = "tiny"', 'name = "a b"', r"name: 'a b': letters"),
        ('name = "tiny"', 'name = "a\\u001b"', r"name: a text of one line without control characters"),
        ('name = "tiny"', 'name = "yoto"', r"name: 'yoto' is a system of this package"),
        ('name = "tiny"', "", r"name: is missing"),
        ('task = "nr"', 'task = "video"', r"task: 'video' is none of"),
        ('task = "nr"', 'task = "nr"\nhead = "distribution"', r"head: 'distribution' is none of value"),
        ('task = "nr"', 'task = "nr"\nhead = {distribution = [1]}', r"head\.distribution: .*two grades or more"),
        ('task = "nr"', 'task = "nr"\nhead = {distribution = 10}', r"head\.distribution: expected a list"),
        ("[input]", "[inputs]", r"inputs: no such key; the nearest is input"),
        ("[score]", "[resize]\nto = 'shorter'\nfilter = 'box'\nsize = [1, 2]\n[score]", r"resize\.size: .*one number"),
        (
            "[score]",
            "[resize]\nto = 'shorter'\nfiltre = 'box'\nsize = 8\n[score]",
            r"resize\.filtre: .*is filter",
        ),
        ("[score]", "[[maps]]\nname = 'map'\noutput = 1\n[score]", r"maps\[0\]\.name: 'map' is none of"),
        (
            "[score]",
            "[[extras]]\nname = 'e'\noutput = 1\nshape = [3]\nlabels = ['a']\n[score]",
            r"extras\[0\]\.labels: 1 names for 3 values",
        ),
        ("[score]", "[[extras]]\nname = 'e'\noutput = -1\nshape = [3]\n[score]", r"extras\[0\]\.output: -1: places"),
        ("[score]", "[[extras]]\nname = 'score'\noutput = 1\nshape = [3]\n[score]", "outputs need names of their own"),
        ("[score]", "[[extras]]\nname = 'image'\noutput = 1\nshape = [3]\n[score]", "other than those of inputs"),
        ("low = 1", "low = " + "9" * 400, r"score\.low: number out of range"),
        ("low = 1", "low = " + "9" * 5000, "no TOML: .*digits"),
        ("mean = [0.5", "mean = [nan", r"input\.mean\[0\]: nan is no number"),
        ("crop = 32", "crop = 99999999", r"input\.crop: 99999999: it has to be 1 to 65536"),
        ("[score]", "[score]\noutput = 1.5", r"score\.output: expected a whole number or a text"),
        ("[score]", "[score", "no TOML: .*line"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(read, was, becomes, said):
    assert was in SOUND
    with pytest.raises(UsageError, match=said):
        read(SOUND.replace(was, becomes, 1))


def test_a_reference_of_any_content_is_not_taken_whole_at_its_own_size(read):
    text = SOUND.replace('"nr"', '"nar"').replace("crop = 32\n", "").replace("center", "whole")
    with pytest.raises(UsageError, match="input: pictures of a pair that differ in size"):
        read(text)
    assert read(text.replace('"nar"', '"fr"')).crop_input("image").shape == ("batch", 3, "height", "width")


def test_faults_are_told_together(read):
    text = SOUND.replace('"higher"', '"up"').replace("crop =", "corp =")
    with pytest.raises(UsageError, match=r"input\.corp: .*score\.direction: 'up' is none"):
        read(text)


def test_files_that_are_no_text(read, tmp_path):
    with pytest.raises(UsageError, match=r"tiny\.toml: not UTF-8"):
        read(SOUND.encode("utf-16"))
    assert read(b"\xef\xbb\xbf" + SOUND.replace("\n", "\r\n").encode()).name == "tiny"
    with pytest.raises(UsageError, match="no TOML"):
        read("a = " + "[" * 100_000)
    with pytest.raises(FileError, match=r"absent\.toml: cannot read the contract"):
        read_contract_file(tmp_path / "absent.toml")
    with pytest.raises(FileError, match="cannot read the contract"):
        read_contract_file(tmp_path)
