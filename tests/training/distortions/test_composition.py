"""Several distortions one after the other, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest

from flat_pictures import seeded
from iqa_runtime.errors import UsageError
from iqa_training.distortions import (
    GROUPS,
    MAX_STEPS,
    TYPES,
    Step,
    compose,
    distort,
    draw,
)


def test_a_composition_is_its_steps_in_order(photograph):
    steps = (Step("gaussian_blur", 4), Step("white_noise", 3.5), Step("jpeg", 4))
    rng = seeded(5)
    expected = photograph
    for step in steps:
        expected = distort(expected, step.name, step.severity, rng)
    assert np.array_equal(compose(photograph, steps, seeded(5)), expected)
    assert not np.array_equal(compose(photograph, steps[::-1], seeded(5)), expected)


@pytest.mark.parametrize("count", [0, 5])
def test_a_composition_has_one_to_four_steps(photograph, count):
    steps = [Step(names[0], 1) for names in GROUPS.values()][:count]
    with pytest.raises(UsageError, match=f"{count} steps: a composition has 1 to {MAX_STEPS}"):
        compose(photograph, steps, seeded())


def test_a_composition_takes_one_type_of_a_group(photograph):
    with pytest.raises(UsageError, match="jpeg2000 and jpeg are both of group compression: keep one"):
        compose(photograph, [Step("jpeg2000", 1), Step("brighten", 1), Step("jpeg", 2)], seeded())


def test_a_draw_is_repeatable_and_composes(photograph):
    assert draw(seeded(3)) == draw(seeded(3))
    assert compose(photograph, draw(seeded(3)), seeded(4)).shape == photograph.shape


def test_draws_follow_the_distribution():
    rng = seeded(11)
    draws = [draw(rng) for _ in range(3000)]
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    assert all(len({group_of[step.name] for step in steps}) == len(steps) for steps in draws)
    assert {step.name for steps in draws for step in steps} == set(TYPES)

    lengths = Counter(len(steps) for steps in draws)
    five_deviations = 5 * (3000 * 0.25 * 0.75) ** 0.5
    assert sorted(lengths) == [1, 2, 3, 4]
    assert all(abs(number - 750) < five_deviations for number in lengths.values())

    levels = Counter(step.severity for steps in draws for step in steps)
    # exp(-l**2 / 12.5) for l = 0..4, by their sum.
    probabilities = {1: 0.2929, 2: 0.2704, 3: 0.2127, 4: 0.1426, 5: 0.0814}
    for level, probability in probabilities.items():
        deviation = (levels.total() * probability * (1 - probability)) ** 0.5
        assert abs(levels[level] - levels.total() * probability) < 5 * deviation


@pytest.mark.parametrize("count", range(1, MAX_STEPS + 1))
def test_a_draw_has_the_wanted_number_of_steps(count):
    assert len(draw(seeded(), count)) == count


@pytest.mark.parametrize("count", [0, -1, 5])
def test_a_draw_of_another_number_is_refused(count):
    with pytest.raises(UsageError, match=f"count is {count}: a composition has 1 to 4 steps"):
        draw(seeded(), count)
