"""The synthetic set of three small photographs, made once and read often."""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from unittest.mock import Mock

import cv2
import msgspec
import numpy as np
import pytest

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_training.datasets import synthetic
from iqa_training.datasets.synthetic import build_synthetic, find_photographs, set_digest
from iqa_training.datasets.synthetic_shards import SyntheticConfig
from iqa_training.distortions import GROUPS
from iqa_training.metrics import METRICS
from iqa_training.metrics.ensemble import QuantileScale

TILE = 96
CONFIG = SyntheticConfig(tile=TILE, tiles=3, versions=6, shortest=(100, 150), metrics=("gmsd",), validation=0.3, seed=1)
PHOTOGRAPHS = Path(__file__).parents[3] / "calibration" / "iqa_calibration" / "photographs"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    for name, where in (("dogs", folder), ("fig", folder), ("meadow", folder / "more")):
        picture = cv2.imread(str(PHOTOGRAPHS / f"{name}.jpg"))
        cv2.imwrite(str(where / f"{name}.png"), cv2.resize(picture, (260, 200), interpolation=cv2.INTER_AREA))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sets(photographs, cache):
    return build_synthetic(photographs, CONFIG, cache)


def items(synthetic) -> list:
    return [synthetic.item(index) for index in range(len(synthetic))]


def equal(first, second) -> bool:
    return all(
        np.array_equal(a.distorted, b.distorted)
        and np.array_equal(a.reference, b.reference)
        and (a.label, a.content, a.distortion) == (b.label, b.content, b.distortion)
        for a, b in zip(items(first), items(second), strict=True)
    )


def test_sizes_and_forms(sets):
    train, validation = sets
    assert (len(train), len(validation)) == (2 * 3 * 7, 3 * 7)
    for item in items(train) + items(validation):
        assert item.distorted.shape == item.reference.shape == (TILE, TILE, 3)
        assert item.distorted.dtype == item.reference.dtype == np.uint8


def test_photographs_are_in_one_part_each(sets):
    names = [{item.content.partition(":")[0] for item in items(part)} for part in sets]
    assert [len(part) for part in names] == [2, 1]
    assert names[0] | names[1] == {"dogs.png", "fig.png", "meadow.png"}


def test_labels(sets):
    for part in sets:
        for item, label in zip(items(part), part.labels, strict=True):
            assert item.label == label
            assert 0 <= label <= 1
        assert np.median(part.labels) < 0.8
        pristine = [item for item in items(part) if item.distortion is None]
        assert len(pristine) == len(part) / 7
        assert all(item.label == 1 and np.array_equal(item.distorted, item.reference) for item in pristine)


def test_distortions_are_named(sets):
    known = {None, "composed", *(name for names in GROUPS.values() for name in names)}
    found = {item.distortion for item in items(sets[0])}
    assert found <= known
    assert len(found) > 5


def test_a_set_is_the_same_wherever_it_is_made(photographs, sets, tmp_path):
    for made, again in zip(sets, build_synthetic(photographs, CONFIG, tmp_path, workers=2), strict=True):
        assert equal(made, again)


def test_what_is_cached_is_not_made_again(photographs, sets, cache):
    files = {file: file.stat().st_mtime_ns for file in cache.rglob("*") if file.is_file()}
    assert len(files) == 3 * 3
    reports = []
    again = build_synthetic(photographs, CONFIG, cache, progress=lambda *done: reports.append(done))
    assert all(equal(first, second) for first, second in zip(sets, again, strict=True))
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*") if file.is_file()} == files
    assert reports == [(3, 3)]


def test_an_interrupted_set_is_completed(photographs, sets, cache, tmp_path):
    shutil.copytree(cache, tmp_path / "cache")
    lost = sorted(tmp_path.rglob("*.json"))[0]
    lost.unlink()
    reports = []
    again = build_synthetic(photographs, CONFIG, tmp_path / "cache", progress=lambda *done: reports.append(done))
    assert reports == [(2, 3), (3, 3)]
    assert all(equal(first, second) for first, second in zip(sets, again, strict=True))


def test_renaming_a_photograph_changes_no_picture(photographs, sets, cache, tmp_path):
    renamed = tmp_path / "renamed"
    shutil.copytree(photographs, renamed)
    (renamed / "dogs.png").rename(renamed / "zebras.png")
    again = build_synthetic(renamed, CONFIG, cache)
    for made, other in zip(sets, again, strict=True):
        digests = [sorted((item.distorted.tobytes(), item.label) for item in items(part)) for part in (made, other)]
        assert digests[0] == digests[1]


@pytest.mark.parametrize("change", [{"seed": 2}, {"tiles": 2}, {"composed": 0.3}, {"emphasis": {"jpeg": 2.0}}])
def test_other_settings_are_another_set(change):
    digest = set_digest(["a", "b"], CONFIG)
    assert set_digest(["b", "a"], CONFIG) == digest
    assert set_digest(["a", "c"], CONFIG) != digest
    assert set_digest(["a", "b"], msgspec.structs.replace(CONFIG, **change)) != digest


def test_labels_fall_with_severity(sets, cache):
    """By the record of what was done: the mildest third against the strongest third."""

    class Version(msgspec.Struct):
        tile: int
        steps: list[tuple[str, float]]
        metrics: dict[str, float]

    class Record(msgspec.Struct):
        file: str
        versions: list[Version]

    severities = {}
    for file in cache.rglob("*.json"):
        record = msgspec.json.decode(file.read_bytes(), type=Record)
        severities[record.file] = [sum(severity for _, severity in version.steps) for version in record.versions]
    pairs = []
    for part in sets:
        positions = {}
        for item in items(part):
            photograph = item.content.partition(":")[0]
            positions[photograph] = positions.get(photograph, -1) + 1
            pairs.append((severities[photograph][positions[photograph]], item.label))
    table = np.array(sorted(pair for pair in pairs if pair[0] > 0))
    third = len(table) // 3
    assert table[:third, 1].mean() > table[-third:, 1].mean() + 0.2


def test_emphasis_decides_what_is_drawn(photographs, tmp_path):
    everything = {name: 0.0 for names in GROUPS.values() for name in names}
    config = msgspec.structs.replace(CONFIG, tiles=1, composed=0.0, emphasis=everything | {"jpeg": 1.0})
    train, _ = build_synthetic(photographs, config, tmp_path)
    assert {item.distortion for item in items(train)} == {None, "jpeg"}


def test_a_type_can_have_teachers_of_its_own(photographs, tmp_path):
    """Only for pictures with that distortion alone; ranks are among all pictures, whatever was done to them."""
    drawn = {name: 0.0 for names in GROUPS.values() for name in names} | {"jpeg": 1.0, "contrast_scaling": 1.0}
    config = msgspec.structs.replace(CONFIG, tiles=2, versions=8, composed=0.3, emphasis=drawn)
    other = msgspec.structs.replace(config, metrics_of={"contrast_scaling": ("vif",)})
    plain, special = (build_synthetic(photographs, each, tmp_path)[0] for each in (config, other))
    vif = [METRICS["vif"].function(item.reference, item.distorted) for item in items(special)]
    own = np.array([item.distortion == "contrast_scaling" for item in items(special)])
    assert {item.distortion for item in items(special)} == {None, "composed", "jpeg", "contrast_scaling"}
    assert np.array_equal(special.labels[~own], plain.labels[~own])
    degraded = [value for value, item in zip(vif, items(special), strict=True) if item.distortion]
    expected = QuantileScale.fit(np.array(degraded), higher_is_better=True).transform(np.array(vif)[own])
    np.testing.assert_array_equal(special.labels[own], expected)


def test_a_photograph_that_is_there_twice_counts_once(photographs, sets, cache, tmp_path):
    doubled = tmp_path / "doubled"
    shutil.copytree(photographs, doubled)
    first = sorted(doubled.iterdir())[0]
    shutil.copy(first, doubled / f"again_{first.name}")
    again = build_synthetic(doubled, CONFIG, cache)
    assert [len(part) for part in again] == [len(part) for part in sets]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ("ssim", "brisque")}, "metrics: brisque; there is"),
        ({"metrics": ()}, "metrics: none; there is"),
        ({"metrics_of": {"jpeg": ("brisque",)}}, "metrics: brisque; there is"),
        ({"metrics_of": {"jpeg": ()}}, "metrics: none; there is"),
        ({"metrics_of": {"snow": ("vif",)}}, "metrics_of: no distortion snow; there is gaussian_blur"),
        ({"emphasis": {"snow": 2.0}}, "emphasis: no distortion snow; there is gaussian_blur"),
        ({"emphasis": {"jpeg": -1.0}}, "emphasis: weights are numbers from 0 on"),
        ({"emphasis": {"jpeg": float("inf")}}, "emphasis: weights are numbers from 0 on"),
        ({"shortest": (150, 100)}, "shortest: .* smaller first"),
        ({"shortest": (90, 100)}, r"shortest: .* from 96 \(the tile\) on"),
        ({"severity": (0.0, 5.0)}, "severity: .* above 0"),
        ({"severity": (1.0, 6.0)}, "severity: .* up to 5"),
        ({"severity": (3.0, 2.0)}, "severity: .* smaller first"),
    ],
)
def test_settings_that_cannot_be(photographs, tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        build_synthetic(photographs, msgspec.structs.replace(CONFIG, **change), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_emphasis_at_zero_is_refused(photographs, tmp_path):
    nothing = {name: 0.0 for names in GROUPS.values() for name in names}
    with pytest.raises(UsageError, match="emphasis"):
        build_synthetic(photographs, msgspec.structs.replace(CONFIG, emphasis=nothing), tmp_path)


def test_one_photograph_is_too_few(photographs, tmp_path):
    with pytest.raises(FileError, match=r"more: 1 photographs there; training and validation need one each"):
        build_synthetic(photographs / "more", CONFIG, tmp_path)
    with pytest.raises(FileError, match="none: 0 photographs there"):
        find_photographs(tmp_path / "none", CONFIG.tile)


def test_a_photograph_smaller_than_a_tile(photographs, tmp_path):
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    cv2.imwrite(str(folder / "icon.png"), np.zeros((64, 300, 3), np.uint8))
    with pytest.raises(UsageError, match=r"photographs smaller than the crop of 96 pixels: \S*icon.png \(300 x 64\);"):
        build_synthetic(folder, CONFIG, tmp_path / "cache")


def test_a_file_that_is_no_photograph(photographs, tmp_path):
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    (folder / "text.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"text.jpg: this is no image of a known format"):
        build_synthetic(folder, CONFIG, tmp_path / "cache")


@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        *((suffix, content) for suffix in (".json", ".tiles.npy", ".degraded.npy") for content in (b"", b"damaged")),
        (".tiles.npy", None),
        (".degraded.npy", None),
    ],
)
def test_a_damaged_cache(photographs, cache, tmp_path, suffix, content):
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    file = sorted(copy.rglob(f"*{suffix}"))[0]
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(FileError, match=r"a damaged part of the cache .*; delete it and run again"):
        build_synthetic(photographs, CONFIG, copy)


@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize("kind", ["tiles", "degraded"])
def test_a_cache_that_is_shorter_than_its_record(photographs, cache, tmp_path, kind):
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    file = sorted(copy.rglob(f"*.{kind}.npy"))[0]
    np.save(file, np.load(file)[:-1])
    with pytest.raises(FileError, match="a damaged part of the cache"):
        build_synthetic(photographs, CONFIG, copy)


def test_a_cache_folder_that_cannot_be(photographs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="choose another cache folder"):
        build_synthetic(photographs, CONFIG, tmp_path / "file")


class Threads(ThreadPoolExecutor):
    """Instead of processes, which would not see what a test has changed."""

    def __init__(self, workers, mp_context):
        super().__init__(workers)


def test_a_process_that_was_ended_is_one_clear_error(photographs, tmp_path, monkeypatch):
    class Ended(Threads):
        def submit(self, *task):
            future = Future()
            future.set_exception(BrokenProcessPool("A process in the process pool was terminated abruptly"))
            return future

    monkeypatch.setattr(synthetic, "ProcessPoolExecutor", Ended)
    with pytest.raises(FileError, match=r"a process that degrades photographs was ended.*; use fewer threads"):
        build_synthetic(photographs, CONFIG, tmp_path)


def test_a_full_disk_is_one_clear_error(photographs, tmp_path, monkeypatch):
    full = OSError("9437184 requested and 0 written")  # as NumPy has it, without a number
    monkeypatch.setattr(synthetic.np, "save", Mock(side_effect=full))
    monkeypatch.setattr(synthetic, "ProcessPoolExecutor", Threads)
    complaint = r"cannot be written \(9437184 requested and 0 written\); check folder and disk"
    with pytest.raises(FileError, match=complaint):
        build_synthetic(photographs, CONFIG, tmp_path)
