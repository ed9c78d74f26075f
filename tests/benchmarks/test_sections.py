"""What the sections are made of, in tiny sizes: rows come out, and contenders compute the same. No times are judged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from speed import colors, decoding, edge, growth, jobs, lpips, networks, patches, phone, products, resizing
from speed.commands import command
from speed.document import SAME_SCORE
from speed.packages import FOLDER, import_rival
from speed.photographs import link_photographs, make_photographs, make_pixels
from speed.turns import Contender, Limits, prepare, take_turns

from eventually import eventually
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.images.loading import load_with_color

ONCE = Limits(rounds=1, turn=0, load=60, call=60)
SIDES = (480, 640)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_photographs(tmp_path_factory.mktemp("photographs"), 4, SIDES)


@pytest.mark.parametrize(
    "case", [patches.Case(height=240, width=300, crops=2, dtype=d) for d in ("float32", "float16")]
)
@pytest.mark.parametrize("function", ["opencv", "numpy_usual", "numpy_in_place"])
def test_rivals_cut_the_same_crops(case: patches.Case, function: str) -> None:
    options = asdict(case)
    ours, rival = patches.kernel(options), getattr(patches, function)(options)
    assert len(ours.check) >= 64
    np.testing.assert_allclose(rival.check, ours.check, rtol=0, atol=patches.TOLERANCE)


@pytest.mark.slow  # PyTorch is loaded
def test_torch_operators_cut_the_same_crops() -> None:
    pytest.importorskip("torch")
    options = asdict(patches.Case(height=240, width=300, crops=2))
    # In a process of its own, for it sets PyTorch's threads.
    outcome = prepare(Contender(name="", role="rival", make="speed.patches:torch_operators", options=options), 60)
    np.testing.assert_allclose(outcome.check, patches.kernel(options).check, rtol=0, atol=patches.TOLERANCE)


def test_out_of_cache_every_call_has_another_image() -> None:
    options = asdict(patches.Case(height=224, width=224, crops=1, cold=True))
    scene = patches.Scene(options)
    touched = 3 * 224 * 224 * (1 + 4)  # read and written by a crop
    assert len(scene.images) == len(scene.outs) >= 256 * 2**20 / touched
    assert len({image.ctypes.data for image in scene.images}) == len(scene.images)


def test_photographs_have_their_sizes_and_come_out_the_same(tmp_path: Path, photographs: list[Path]) -> None:
    again = make_photographs(tmp_path, 4, SIDES)
    assert [path.name for path in again] == ["0000_480.png", "0001_640.jpg", "0002_480.jpg", "0003_640.png"]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in photographs]
    for path, side in zip(again, SIDES * 2, strict=True):
        picture = cv2.imread(str(path))
        assert picture is not None
        assert max(picture.shape) == side


def test_links_are_many_names_of_few_photographs(tmp_path: Path, photographs: list[Path]) -> None:
    links = link_photographs(tmp_path / "many", photographs, 10)
    assert len(set(links)) == 10
    assert links[5].samefile(photographs[1])


@pytest.mark.parametrize("filter", ["box", "bicubic"])
def test_pillow_resizes_to_the_same_picture(filter: str) -> None:
    options = asdict(resizing.Case(filter=filter, side=900))
    ours = resizing.kernel(options).check
    assert len(set(ours)) > 100
    assert resizing.pillow(options).check == ours


def test_colours_are_those_of_littlecms_and_change() -> None:
    options = {"side": 300}
    ours, rival = colors.kernel(options).check, colors.littlecms(options).check
    np.testing.assert_allclose(rival, ours, rtol=0, atol=1)
    stored = make_pixels(300).reshape(-1)
    assert not np.array_equal(ours, stored[:: stored.size // 499][:499])


def test_who_decodes_can_decode(photographs: list[Path]) -> None:
    jpeg = next(path for path in photographs if path.suffix == ".jpg")
    outcomes = take_turns([*decoding.crop_contenders(jpeg), *decoding.size_contenders(jpeg)], ONCE)
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    assert all(outcome.peak_megabytes for outcome in outcomes)


def test_phone_photographs_are_in_display_p3(tmp_path: Path) -> None:
    tagged = phone.phone_photographs(tmp_path, 3, 640)
    assert [path.name for path in tagged] == ["0001_640.jpg", "0002_640.jpg"]  # of plain ones the first is a PNG
    assert load_with_color(tagged[0]).color == "Display P3 -> sRGB"


def test_our_job_scores_blocks_in_turn(photographs: list[Path]) -> None:
    artefact = find_artefact("edge-nr")
    ours, *_ = jobs.blocks("edge-nr", artefact, photographs, 2, threads=1)
    whole, decoding, model = jobs.parts(artefact, photographs, threads=1)
    outcomes = take_turns([ours, whole, decoding, model], ONCE)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert outcomes[0].facts == {"images": 2}
    assert outcomes[0].check == outcomes[1].check
    assert len(set(outcomes[0].check)) == jobs.CHECKED


@pytest.mark.slow  # an export, and PyTorch twice
def test_scripts_give_our_scores(photographs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    exporter = networks.makers("edge-nr", str(tmp_path), 1)[1]
    assert prepare(exporter, 200).error is None
    outcomes = take_turns(jobs.blocks("edge-nr", tmp_path / "edge-nr.onnx", photographs, 4, threads=1), ONCE)
    for outcome in outcomes:
        assert outcome.error is None
        np.testing.assert_allclose(outcome.check, outcomes[0].check, rtol=0, atol=SAME_SCORE)


def test_a_command_tells_its_memory_and_its_failure() -> None:
    fine, broken = take_turns([command("true", "ours", ["true"]), command("false", "rival", ["false"])], ONCE)
    assert fine.error is None
    assert fine.peak_megabytes is not None
    assert fine.peak_megabytes > 0
    assert broken.error is not None
    assert "false ended with 1" in broken.error


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"if [ -e {tmp_path}/warm ]; then echo $$ > {begun}; exec sleep 600; fi; touch {tmp_path}/warm"
    (outcome,) = take_turns([command("slow", "rival", ["sh", "-c", script])], Limits(rounds=1, turn=0, call=4))
    assert outcome.error is not None
    assert "no answer within 4 s" in outcome.error
    status = Path(f"/proc/{int(begun.read_text())}/status")

    def has_ended() -> bool:
        try:
            return "State:\tZ" in status.read_text()  # whoever has adopted it may not have noticed its end
        except OSError:
            return True

    eventually(has_ended)


def test_starts_score_with_what_is_installed() -> None:
    first = next(start for start in edge.starts() if start.name == edge.COLD_START)
    (outcome,) = take_turns([first], ONCE)
    assert outcome.error is None


@pytest.mark.parametrize("name", ["NumPy float32 product", "ONNX Runtime float32 product", "ONNX Runtime int8 product"])
def test_matrix_products_count_their_operations(name: str) -> None:
    pytest.importorskip("onnxruntime")
    product = next(one for one in products.contenders(1) if one.name == name)
    outcome = take_turns([product], ONCE)[0]
    assert outcome.error is None
    assert outcome.facts == {"gflop": pytest.approx(7.25, abs=0.01)}  # 2 x 1536^3 / 10^9


@pytest.mark.slow  # an export and PyTorch
def test_forms_of_a_network_compute_the_same(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    makers = {maker.name: maker for maker in networks.makers("edge-nr", str(tmp_path), 1)}
    made = [prepare(makers[name], 200) for name in (networks.PLAIN, networks.DEPLOYED)]
    assert [outcome.error for outcome in made] == [None, None]
    assert made[0].facts["gmac"] > made[1].facts["gmac"] > 0.4
    wanted = {networks.EAGER, "plain export, ONNX Runtime", "deploy form, fp32, ONNX Runtime"}
    ready = [one for one in networks.contenders("edge-nr", str(tmp_path), 1) if one.name in wanted]
    outcomes = take_turns(ready, ONCE)
    assert {outcome.name for outcome in outcomes} == wanted
    for outcome in outcomes:
        assert outcome.error is None
        np.testing.assert_allclose(outcome.check, outcomes[0].check, rtol=0, atol=SAME_SCORE)


def test_memory_and_cost_are_watched_to_the_end(tmp_path: Path, photographs: list[Path]) -> None:
    many = link_photographs(tmp_path / "many", photographs, 20)
    memory, cost = growth.watch(find_artefact("edge-nr"), many, tmp_path / "rows.jsonl", threads=1)
    assert memory[-1][0] <= 20
    assert [done for done, _ in memory] == [done for done, _ in cost] == sorted({done for done, _ in memory})
    assert growth.at(memory, 1) == memory[0][1] > 10
    assert growth.at(memory, 21) is None


def test_watching_a_run_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="iqa-run ended with 1 on 1 photographs"):
        growth.watch(find_artefact("edge-nr"), [tmp_path / "missing.jpg"], tmp_path / "rows.jsonl", threads=1)


def test_curves_are_drawn_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    series = {"memory: iqa-run": [(1.0, 100.0), (10.0, 110.0)], "threads: ours": [(1.0, 2.0)]}
    for name in ("a.svg", "b.svg"):
        growth.draw(series, tmp_path / name)
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    growth.draw(series | {"threads: ours": [(1.0, 3.0), (2.0, 4.0)]}, tmp_path / "c.svg")
    assert drawn != (tmp_path / "c.svg").read_bytes()


def test_a_rival_that_is_missing_says_how_to_install_it() -> None:
    with pytest.raises(ModuleNotFoundError, match="pip install --target build/packages -r "):
        import_rival("no_such_library")


def test_lpips_scores_its_pairs_and_weighs_what_it_needs() -> None:
    pytest.importorskip("onnxruntime")
    work, other = (
        lpips.ours({"threads": 1, "backend": "onnxruntime", "one_by_one": one_by_one}) for one_by_one in (False, True)
    )
    assert work.check == other.check
    assert len(work.check) == len(lpips.PAIRS)
    assert all(value > 0 for value in work.check)
    assert work.facts[lpips.SIZE] > lpips.installed_megabytes(["numpy"]) > 10


@pytest.mark.slow  # PyTorch is loaded
def test_the_authors_package_gives_our_distances() -> None:
    pytest.importorskip("torch")
    if not (FOLDER / "lpips").is_dir():
        pytest.skip("the package of the authors is not there; make bench installs it")
    outcomes = take_turns([one for one in lpips.contenders(1) if one.name in (lpips.OURS, lpips.RIVAL)], ONCE)
    assert [outcome.error for outcome in outcomes] == [None, None]
    np.testing.assert_allclose(outcomes[0].check, outcomes[1].check, rtol=0, atol=lpips.SAME_DISTANCE)
