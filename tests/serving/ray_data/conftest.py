"""Ray on this machine, for the tests of a process."""

import os
from pathlib import Path

import pytest

from iqa_serving.ray_data.cluster import Workers, connect, prepare
from lethal_backend import MARK

FAKES = Path(__file__).parents[2] / "fakes"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Start Ray with two workers, which find the stand-ins of the tests."""
    folder = tmp_path_factory.mktemp("ray")
    prepare(None)
    # Workers take the environment of the process that starts Ray.
    os.environ[MARK] = str(folder / "mark")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (before, str(FAKES))))
    import ray

    connect(None, Workers(count=2))
    yield
    ray.shutdown()
    del os.environ[MARK]
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
