"""Splits by content, parts by name."""

from dataclasses import replace

import pytest

from iqa_runtime.errors import UsageError
from iqa_training.datasets import official_parts, read_dataset, select, split
from published_datasets import copies, koniq10k, picture, text


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
