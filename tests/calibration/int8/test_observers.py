import math

import numpy as np
import pytest

from iqa_calibration.int8.observers import BINS, OBSERVERS, Observation, entropy, min_max, mse, observe, percentile
from iqa_runtime.errors import ArtefactError

SAMPLES = 10**9  # of an exact distribution: no bin that matters rounds to nothing
FLAT_OPTIMUM = 0.02  # published optima have three digits, and the error is flat there: 2 % beside it costs under 0.1 %


def distribution(cumulative, peak, one_sided=False) -> Observation:
    """Observe an exact symmetric distribution, given P(|x| <= t), up to a peak."""
    limit = math.ldexp(1.0, math.frexp(peak)[1])
    edges = np.minimum(np.arange(BINS + 1) * limit / BINS, peak)
    side = np.rint(SAMPLES * np.diff([cumulative(edge) for edge in edges])).astype(np.int64)
    counts = np.concatenate([np.zeros_like(side) if one_sided else side[::-1], side])
    return Observation(0.0 if one_sided else -peak, peak, limit, counts)


def normal(t):
    return math.erf(t / math.sqrt(2))


def laplace(t):
    return 1 - math.exp(-t)


def with_zeros(observation) -> Observation:
    counts = observation.counts.copy()
    counts[BINS] += 100 * SAMPLES
    return Observation(observation.low, observation.high, observation.limit, counts)


def test_observation_counts_as_numpy_does():
    values = np.random.default_rng(0).normal(size=(3, 50, 7)).astype(np.float32)
    seen = observe(values)
    expected, _ = np.histogram(values.astype(np.float64), 2 * BINS, (-seen.limit, seen.limit))
    assert (seen.low, seen.high) == (values.min(), values.max())
    assert seen.limit / 2 <= seen.peak < seen.limit
    assert (seen.counts == expected).all()


@pytest.mark.parametrize("factors", [(1, 3, 1000), (1000, 1, 3), (1, 1e9, 1)])
def test_batches_in_any_order_make_one_histogram(factors):
    batches = [np.random.default_rng(seed).normal(size=500).astype(np.float32) * f for seed, f in enumerate(factors)]
    at_once = observe(np.concatenate(batches))
    seen = None
    for batch in batches:
        seen = observe(batch, seen)
    assert (seen.low, seen.high, seen.limit) == (at_once.low, at_once.high, at_once.limit)
    assert (seen.counts == at_once.counts).all()


def test_a_power_of_two_at_the_limit_is_counted():
    seen = observe(np.array([-4, 4], np.float32))
    assert seen.counts.sum() == 2
    assert seen.limit == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(bad):
    with pytest.raises(ArtefactError, match="not finite"):
        observe(np.array([1, bad], np.float32))


@pytest.mark.parametrize("observer", OBSERVERS.values())
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_tensor_of_zeros_has_an_empty_range(observer, symmetric):
    chosen = observer(observe(np.zeros(5, np.float32)), symmetric=symmetric)
    assert (chosen.low, chosen.high) == (0, 0)


@pytest.mark.parametrize("observer", OBSERVERS.values())
def test_a_tensor_of_one_value_keeps_it(observer):
    chosen = observer(observe(np.full(50, 2.5, np.float32)))
    assert (chosen.low, chosen.high) == (2.5, 2.5)


@pytest.mark.parametrize("observer", OBSERVERS.values())
def test_no_range_is_wider_than_what_was_seen(observer):
    seen = observe(np.array([-1, 0.5, 7.9], np.float32))
    chosen = observer(seen, symmetric=False)
    assert seen.low <= chosen.low <= chosen.high <= seen.high


def test_min_max_covers_everything():
    chosen = min_max(observe(np.array([-0.25, 3, 8], np.float32)))
    assert (chosen.low, chosen.high) == (-0.25, 8)


def test_percentile_leaves_out_the_rarest():
    magnitudes = np.arange(1, 10001, dtype=np.float32)  # one in ten thousand is above 9999
    seen = observe(magnitudes)
    assert percentile(seen).high == pytest.approx(9999, abs=seen.bin_width)
    assert percentile(seen, percent=50).high == pytest.approx(5000, abs=seen.bin_width)
    assert percentile(seen, percent=100).high == 10000


def test_percentile_cuts_the_longer_tail_only():
    seen = observe(np.append(np.linspace(-1, 1, 10**6), 100).astype(np.float32))
    chosen = percentile(seen)
    assert chosen.low == pytest.approx(-1, abs=seen.bin_width)
    assert chosen.high == pytest.approx(1, abs=seen.bin_width)


@pytest.mark.parametrize(
    ("cumulative", "peak", "published"),
    [
        pytest.param(normal, 8, 3.92, id="normal"),
        pytest.param(laplace, 30, 9.89, id="laplace"),
    ],
)
def test_mse_finds_the_published_optimum_for_8_bits(cumulative, peak, published):
    # Banner et al., 2019: the clipping values of their code for 8 bits.
    assert mse(distribution(cumulative, peak)).high == pytest.approx(published, rel=FLAT_OPTIMUM)


def test_mse_gives_a_one_sided_asymmetric_range_the_finer_steps():
    # 256 steps on one side are the 9 bits of a symmetric range: Banner et al. give 11.16 for Laplace and 9 bits.
    seen = distribution(laplace, 30, one_sided=True)
    assert seen.levels(symmetric=False) == 256
    assert mse(seen, symmetric=False).high > 1.1 * mse(seen, symmetric=True).high


def test_mse_minimises_the_error_of_real_rounding():
    values = np.random.default_rng(0).laplace(size=10**6).astype(np.float32)

    def error(threshold):
        step = threshold / 127
        return np.mean((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2)

    chosen = mse(observe(values)).high
    assert error(chosen) <= 1.001 * min(error(chosen * factor) for factor in np.linspace(0.7, 1.3, 31))


def test_entropy_clips_nothing_of_a_uniform_distribution():
    assert entropy(distribution(lambda t: t / 4, 4)).high == 4


def test_entropy_clips_a_lone_far_value():
    counts = distribution(normal, 4.0).counts
    body = np.zeros(2 * BINS, np.int64)
    body[BINS - BINS // 8 : BINS + BINS // 8] = counts.reshape(-1, 8).sum(1)
    body[-1] = 1
    seen = Observation(-4.0, 63.99, 64.0, body)
    assert 2 < entropy(seen).high < 16


@pytest.mark.parametrize("observer", [entropy, mse])
def test_the_zeros_of_a_relu_draw_no_range_to_zero(observer):
    seen = distribution(laplace, 12, one_sided=True)
    assert observer(with_zeros(seen)) == observer(seen)


def test_entropy_survives_many_equal_values():
    # A flat part of the image: a third of all values in one bin far below the peak.
    seen = distribution(normal, 4)
    counts = seen.counts.copy()
    counts[BINS + 200] += SAMPLES
    spiked = Observation(seen.low, seen.high, seen.limit, counts)
    clipped = 1 - normal(entropy(spiked).high)
    assert clipped < 2e-3  # a thousandth of the values, which are twice as many


def test_entropy_is_the_least_divergence():
    rng = np.random.default_rng(0)
    seen = observe(np.append(rng.normal(size=200_000), [-8, 11, 15]).astype(np.float32))
    counts = seen.magnitudes().astype(float)
    counts[0] = counts[1]

    def divergence(end):
        """Compute the divergence as Migacz describes it, bin by bin."""
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        quantised = np.zeros(end)
        for level in range(128):
            members = [bin for bin in range(end) if bin * 128 // end == level and counts[bin] > 0]
            for member in members:
                quantised[member] = counts[members].sum() / len(members)
        reference, quantised = reference / reference.sum(), quantised / quantised.sum()
        return sum(p * math.log(p / max(q, 1e-10)) for p, q in zip(reference, quantised, strict=True) if p > 0)

    chosen = round(entropy(seen).high / seen.bin_width)
    assert chosen < len(counts)
    others = range(chosen - 200, chosen + 200, 25)
    # The search takes steps; between two of them the divergence differs by less than a twentieth.
    assert divergence(chosen) <= 1.05 * min(map(divergence, others))
