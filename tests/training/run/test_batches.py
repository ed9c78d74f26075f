"""The order of pictures in an epoch."""

from dataclasses import dataclass

import numpy as np

from iqa_training.run.batches import shuffled


@dataclass
class Entry:
    content: str


class Contents:
    """Ten pictures of one content, seven of another, one of a third, in turns."""

    def __init__(self):
        names = ["a"] * 10 + ["b"] * 7 + ["c"]
        self.entries = [Entry(names[index]) for index in np.random.default_rng(5).permutation(len(names))]

    def __len__(self):
        return len(self.entries)


def test_every_picture_comes_once():
    for together in (1, 4):
        assert sorted(shuffled(Contents(), together, np.random.default_rng(0))) == list(range(18))


def test_an_order_without_regard_to_content_is_a_plain_permutation():
    expected = np.random.default_rng([0, 3]).permutation(18).tolist()
    assert shuffled(Contents(), 1, np.random.default_rng([0, 3])) == expected


def test_pictures_of_one_content_follow_one_another():
    source = Contents()
    orders = [shuffled(source, 4, np.random.default_rng(seed)) for seed in range(2)]
    assert orders[0] != orders[1]
    for order in orders:
        runs = "".join(source.entries[index].content for index in order)
        groups = runs.replace("aaaa", "A").replace("bbbb", "B").replace("aa", "x").replace("bbb", "y").replace("c", "z")
        assert sorted(groups) == sorted("AAxByz")
