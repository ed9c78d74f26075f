from dataclasses import replace

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from iqa_calibration.gate.agreement import order_agreement, pearson, spearman
from iqa_calibration.gate.gate import LIMITS, Extreme, GateLimits, compare
from iqa_calibration.gate.gate_set import GateSet, Rendition
from iqa_calibration.gate.scoring import item_milliseconds, opened, score
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.half.casting import emulated
from iqa_calibration.half.conversion import to_half
from iqa_calibration.images.distinct import pixel_digest
from iqa_runtime.contract import Contract, PatchPlan
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.scorer import Scorer
from tiny_contract import tiny_contract

SIDE = 24
LOOSE = GateLimits(largest=0.05, mean=0.05, srcc=0.99, extreme=0.05)

ROUNDING = 1e-12
"""Relative, of float64 sums of some dozens of terms."""


def contract(task="nr", *, trained=True) -> Contract:
    return tiny_contract(SIDE, task, trained=trained)


def activity(weights_scale=1.0, *, output="score"):
    """A network that scores how much neighbouring pixels differ: it sees blur, noise and blocks."""
    edges = np.zeros((8, 3, 3, 3), np.float32)
    for channel in range(8):
        edges[channel, channel % 3, 1, 1] = 1
        edges[channel, channel % 3, channel % 3, (channel // 3) % 3] -= 1
    nodes = [
        helper.make_node("Conv", ["image", "edges"], ["differences"], name="edges"),
        helper.make_node("Abs", ["differences"], ["magnitudes"], name="magnitudes"),
        helper.make_node("GlobalAveragePool", ["magnitudes"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="flatten"),
        helper.make_node("MatMul", ["features", "weights"], ["column"], name="weigh"),
        helper.make_node("Squeeze", ["column", "axis"], [output], name="squeeze"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, SIDE, SIDE))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("batch",))],
        [
            numpy_helper.from_array(edges * np.float32(weights_scale), "edges"),
            numpy_helper.from_array(np.linspace(0.5, 1.5, 8, dtype=np.float32)[:, None], "weights"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def scores_of(model, gate_set, **options):
    with opened(model, gate_set.contract, "onnxruntime", threads=2) as backend:
        return score(backend, gate_set, **options)


@pytest.fixture(scope="module")
def photographs():
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.normal(0, 4, (2, 40, 50, 3)), axis=2) + 128
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in smooth]


@pytest.fixture(scope="module")
def gate_set(photographs):
    return GateSet.build(contract(), photographs)


@pytest.fixture(scope="module")
def expected(gate_set):
    return scores_of(activity(), gate_set)


def test_images_are_photographs_and_their_ladders(gate_set):
    assert len(gate_set.renditions) == 2 * (1 + 4 * 4)
    assert gate_set.renditions[0] == Rendition(0, "none", 0)
    assert gate_set.renditions[17] == Rendition(1, "none", 0)
    assert len(gate_set.ladders) == 2 * 4
    for ladder in gate_set.ladders:
        images = [gate_set.renditions[index] for index in ladder]
        assert [image.level for image in images] == [0, 1, 2, 3, 4]
        assert len({image.photograph for image in images}) == 1
        assert len({image.kind for image in images[1:]}) == 1


def test_copies_of_a_picture_judge_once(photographs, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photographs[0][..., ::-1])
    copies = GateSet.build(contract(), [photographs[0], path, path.read_bytes(), photographs[1], photographs[0].copy()])
    assert len(copies.photographs) == 2
    assert copies.digests == {pixel_digest(photograph) for photograph in photographs[:2]}
    assert len(copies.renditions) == 2 * 17
    with pytest.raises(UsageError, match="at least 4"):
        GateSet.build(contract("nar"), [photographs[0], path])


def test_scores_are_those_of_the_runtime(photographs, expected, tmp_path):
    model = activity()
    embed_contract(model, contract())
    save(model, tmp_path / "activity.onnx")
    with Scorer(tmp_path / "activity.onnx", backend="onnxruntime", threads=1) as scorer:
        assert scorer.score(photographs[0]).value == expected[0]
        assert scorer.score(photographs[1]).value == expected[17]


def test_a_graph_passes_against_itself(gate_set, expected):
    told = []
    scores = scores_of(activity(), gate_set, progress=lambda *each: told.append(each))
    result = compare(expected, scores, gate_set, LIMITS["fp16"])
    assert result.passed
    assert result.reasons == ()
    assert (result.largest, result.mean, result.order_agreement) == (0, 0, 1)
    assert result.srcc == pytest.approx(1, rel=ROUNDING)
    assert result.fp32_scores == tuple(expected)
    assert told == [(done, 34) for done in range(1, 35)]


def test_half_precision_is_judged_with_its_roundings_and_passes(gate_set, expected):
    half, _ = to_half(activity(), lambda: next(iter(gate_set.images())))
    result = compare(expected, scores_of(emulated(half), gate_set), gate_set, LIMITS["fp16"])
    assert result.passed
    assert result.largest > 0
    brain, _ = to_half(activity(), lambda: next(iter(gate_set.images())), kind="bf16")
    coarse = compare(expected, scores_of(emulated(brain), gate_set), gate_set, LIMITS["bf16"])
    assert coarse.largest > result.largest


def test_broken_scale_is_refused(gate_set, expected):
    result = compare(expected, scores_of(activity(weights_scale=1.3), gate_set), gate_set, LIMITS["int8"])
    assert not result.passed
    assert any("largest difference" in reason for reason in result.reasons)
    assert any("mean difference" in reason for reason in result.reasons)
    assert result.srcc == pytest.approx(1, abs=1e-3)


def test_numbers_are_those_of_the_definition(gate_set, expected):
    random = np.random.default_rng(1)
    changed = expected + random.normal(0, 0.02 * np.ptp(expected), len(expected))
    result = compare(expected, changed, gate_set, LOOSE)
    ordered = np.sort(expected)
    places = np.array([0.05, 0.95]) * (len(ordered) - 1)
    low, high = (ordered[int(place)] + place % 1 * (ordered[int(place) + 1] - ordered[int(place)]) for place in places)
    assert result.spread == pytest.approx(high - low, rel=ROUNDING)
    assert result.largest == pytest.approx(np.abs(changed - expected).max() / (high - low), rel=ROUNDING)
    assert result.mean == pytest.approx(np.abs(changed - expected).mean() / (high - low), rel=ROUNDING)
    assert result.srcc == pytest.approx(stats.spearmanr(expected, changed).statistic, rel=ROUNDING)
    assert result.plcc == pytest.approx(stats.pearsonr(expected, changed).statistic, rel=ROUNDING)
    worst = gate_set.renditions[int(np.abs(changed - expected).argmax())]
    assert result.worst.startswith(f"photograph {worst.photograph + 1}")
    assert worst.level == 0 or result.worst.endswith(f"{worst.kind} {worst.level}")


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (GateLimits(largest=0.01, mean=1, srcc=-1, extreme=1), "largest"),
        (GateLimits(largest=1, mean=0.001, srcc=-1, extreme=1), "mean"),
        (GateLimits(largest=1, mean=1, srcc=1, extreme=1), "SRCC"),
    ],
)
def test_every_limit_refuses_alone(gate_set, expected, limits, word):
    changed = expected + np.random.default_rng(1).normal(0, 0.02 * np.ptp(expected), len(expected))
    result = compare(expected, changed, gate_set, limits)
    assert [word in reason for reason in result.reasons] == [True]


def test_reversed_ladders_have_no_agreement(gate_set, expected):
    result = compare(expected, -expected, gate_set, LOOSE)
    assert result.order_agreement < 0.01
    assert result.srcc == pytest.approx(-1, rel=ROUNDING)


def test_score_that_is_not_finite(gate_set, expected):
    broken = expected.copy()
    broken[3] = np.nan
    result = compare(expected, broken, gate_set, LOOSE)
    assert not result.passed
    assert "photograph 1, blur 3 is not finite" in result.reasons[0]
    assert result.largest is None
    with pytest.raises(ArtefactError, match="photograph 1, blur 3 is not finite"):
        compare(broken, expected, gate_set, LOOSE)


def extreme(picture, fp32, candidate):
    return Extreme(picture=picture, fp32=fp32, candidate=candidate)


def test_pictures_at_the_limits_have_a_limit_of_their_own(gate_set, expected):
    spread = compare(expected, expected, gate_set, LOOSE).spread
    within, beyond = 0.04 * spread, -0.06 * spread  # of 5 % that are allowed
    passed = compare(expected, expected, gate_set, LOOSE, [extreme("white", 1.0, 1 + within)])
    assert passed.passed
    assert passed.extreme == pytest.approx(0.04, rel=1e-6)
    pictures = [extreme("black", 0.0, 0.0), extreme("white", 1.0, 1 + beyond), extreme("gray", 1.0, 1 + within)]
    refused = compare(expected, expected, gate_set, LOOSE, pictures)
    assert refused.reasons == ("the score of white differs by 6.00% of the spread, 5.00% is allowed",)
    assert refused.extreme_picture == "white"
    assert refused.extremes == tuple(pictures)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pictures_at_the_limits_are_compared_where_float32_is_finite(gate_set, expected, bad):
    lost = compare(expected, expected, gate_set, LOOSE, [extreme("black", 0.25, bad), extreme("white", 1.0, 1.0)])
    assert lost.reasons == ("the score of black is not finite, in float32 it is 0.25",)
    assert (lost.extreme, lost.extreme_picture) == (0, "white")
    for candidate in (bad, 0.5):
        unknown = compare(expected, expected, gate_set, LOOSE, [extreme("black", bad, candidate)])
        assert unknown.passed
        assert unknown.extreme is None


def test_constant_scores_cannot_pass(gate_set, expected):
    constant = np.ones(len(expected))
    assert "don't spread" in compare(constant, constant, gate_set, LOOSE).reasons[0]
    assert "SRCC undefined" in compare(expected, constant, gate_set, LOOSE).reasons[-1]


def test_verdict_says_whether_weights_are_trained(gate_set, expected):
    assert compare(expected, expected, gate_set, LOOSE).trained
    untrained = GateSet.build(contract(trained=False), gate_set.photographs)
    assert not compare(expected, expected, untrained, LOOSE).trained


def test_clock_asks_all_in_turns_and_leaves_out_the_first_runs(gate_set):
    asked = []

    class Counted:
        def __init__(self, name):
            self.name = name

        def infer(self, item, outputs):
            asked.append((self.name, outputs))

    times = item_milliseconds([Counted("a"), Counted("b")], next(next(gate_set.images())), "score")
    assert [name for name, _ in asked] == ["a", "b"] * 17
    assert {tuple(outputs) for _, outputs in asked} == {("score",)}
    assert len(times) == 2


def test_images_with_many_crops_are_scored_a_few_at_a_time(photographs):
    """As at run time, whatever the number of threads."""
    many = GateSet.build(replace(contract(), patch_plan=PatchPlan(kind="grid", size=SIDE, stride=4)), photographs[:1])
    handed = []

    class Watched:
        def __init__(self, backend):
            self.items_per_run, self.concurrent_runs, self._backend = 1, backend.concurrent_runs, backend
            self.spec = backend.spec

        def infer(self, batch, outputs):
            handed.append(len(batch["image"]))
            return self._backend.infer(batch, outputs)

    scores = []
    for threads in (1, 3):
        with opened(activity(), many.contract, "onnxruntime", threads=threads) as backend:
            scores.append(score(Watched(backend), many))
        assert max(handed) == threads
    np.testing.assert_array_equal(scores[0], scores[1])
    assert sum(handed) == 2 * 17 * 5 * 8  # crops of a photograph of 40 x 50


def test_misfits_are_refused(gate_set, expected, photographs):
    with pytest.raises(ArtefactError, match=r"outputs \['other'\], its contract says \['score'\]"):
        scores_of(activity(output="other"), gate_set)
    with pytest.raises(UsageError, match="34 images"):
        compare(expected[1:], expected[1:], gate_set, LOOSE)
    with pytest.raises(UsageError, match="at least one"):
        GateSet.build(contract(), [])
    with pytest.raises(UsageError, match="at least 4"):
        GateSet.build(contract("nar"), photographs[:1])
    with pytest.raises(UsageError, match="largest, mean and extreme"):
        GateLimits(largest=-0.1, mean=0, srcc=0, extreme=1)


def test_aligned_reference_is_the_undamaged_photograph(photographs):
    fr = GateSet.build(contract("fr"), photographs[:1])
    images = [next(items) for items in fr.images()]
    np.testing.assert_array_equal(images[0]["image"], images[0]["reference"])
    for item in images[1:]:
        np.testing.assert_array_equal(item["reference"], images[0]["reference"])
        assert not np.array_equal(item["image"], item["reference"])


def test_correlations_agree_with_scipy_with_ties_too():
    random = np.random.default_rng(2)
    for levels in (3, 10, 1000):
        left, right = random.integers(0, levels, 50).astype(float), random.integers(0, levels, 50).astype(float)
        assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic, abs=ROUNDING)
        assert pearson(left, right) == pytest.approx(stats.pearsonr(left, right).statistic, abs=ROUNDING)
    assert pearson(np.ones(3), np.arange(3.0)) is None


def test_order_agreement_counts_pairs_within_ladders():
    left, right = np.array([4.0, 3, 2, 9]), np.array([4.0, 2, 3, 0])
    assert order_agreement(left, right, [[0, 1, 2]]) == pytest.approx(2 / 3)
    assert order_agreement(left, right, [[0, 1, 2], [0, 3]]) == pytest.approx(2 / 4)
    assert order_agreement(left, right, []) is None
