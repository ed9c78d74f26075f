"""How many workers there is room for."""

import pytest

from iqa_runtime import UsageError
from iqa_serving.ray_data.cluster import Workers


@pytest.mark.parametrize(
    ("workers", "resources", "number"),
    [
        (Workers(), {"CPU": 16.0}, 13),
        (Workers(cpus=4), {"CPU": 16.0}, 3),
        (Workers(count=2), {"CPU": 5.0}, 2),
        (Workers(cpus=4, gpus=0.5), {"CPU": 32.0, "GPU": 2.0}, 4),
    ],
)
def test_there_is_room_beside_reading_and_writing(workers, resources, number):
    assert workers.number(resources) == number


@pytest.mark.parametrize("workers", [Workers(count=2), Workers(cpus=4), Workers(gpus=1.0)])
def test_where_there_is_none_nothing_waits_for_ever(workers):
    with pytest.raises(UsageError, match="there is room for"):
        workers.number({"CPU": 4.0})
