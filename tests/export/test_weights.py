"""Weights from a file or a seed, and the variant they are for."""

import pytest

from iqa_export.checkpoints import CheckpointError
from iqa_export.systems import find_system
from iqa_export.weights import choose_variant, load_checkpoint
from iqa_runtime.errors import UsageError


@pytest.mark.parametrize("weights", ["random:", "random:-1", "random:x", f"random:{2**32}"])
def test_seeds_that_are_none(weights):
    with pytest.raises(UsageError, match="SEED"):
        load_checkpoint(find_system("yoto"), weights, None)


def test_variant_is_told_by_keys_or_task():
    yoto, cvrkd = find_system("yoto"), find_system("cvrkd")
    assert choose_variant(yoto, {"encoder.patch_embed.proj.weight"}, None) == "swin_t"
    assert choose_variant(yoto, {"encoder.conv1.weight"}, "fr") == "resnet50"
    keys = {"feature_extractor.conv1.weight"}
    assert choose_variant(cvrkd, keys, None) == "student"
    assert choose_variant(cvrkd, keys, "fr") == "teacher"
    with pytest.raises(UsageError, match="``task=nr``"):
        choose_variant(cvrkd, keys, "nr")
    for system in (yoto, cvrkd):
        with pytest.raises(CheckpointError, match=f"none of {system.title}'s"):
            choose_variant(system, {"other.weight"}, None)
