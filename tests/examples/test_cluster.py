"""examples/cluster: the commands in it are commands, and the columns are columns."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset
import pytest
import typer
import yaml

from iqa_runtime import Scorer
from iqa_runtime.tables import arrow_schema
from iqa_serving.commands.ray import app

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"


def parsed(command):
    """Read a command line as the command does; return its options."""
    name, *arguments = shlex.split(command)
    assert name == "iqa-ray"
    return typer.main.get_command(app).make_context(name, arguments).params


def test_the_job_of_kuberay_goes_on_when_it_is_tried_again():
    job = yaml.safe_load((FOLDER / "kuberay-job.yaml").read_text(encoding="utf-8"))
    options = parsed(job["spec"]["entrypoint"])
    assert options["resume"]
    assert options["address"] is None, "a job has RAY_ADDRESS"
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_command_for_machines_of_ones_own():
    text = (FOLDER / "ray-cluster.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["provider"]["type"] == "local"
    assert parsed(re.search(r"'(iqa-ray .*)'", text)[1])["address"] == "auto"


def test_columns_of_the_spark_script_are_those_of_rows():
    tree = ast.parse((FOLDER / "spark_scores.py").read_text(encoding="utf-8"))
    kept = next(node.value.value for node in tree.body if isinstance(node, ast.Assign))
    kinds = {"string": "string", "double": "double", "int": "int32"}
    for column in kept.split(", "):
        name, kind = column.split()
        assert str(arrow_schema([name]).field(name).type) == kinds[kind]


@pytest.mark.slow
def test_the_spark_script_gives_the_scores_of_iqa_run(tmp_path):
    pytest.importorskip("pyspark")
    photographs = FOLDER.parent / "photographs"
    subprocess.run(
        [sys.executable, FOLDER / "spark_scores.py", "edge", photographs, tmp_path / "scores"], check=True, timeout=600
    )
    rows = pyarrow.dataset.dataset(tmp_path / "scores", format="parquet").to_table().to_pylist()
    found = {Path(row["path"]).name: row["score"] for row in rows}
    with Scorer("edge") as scorer:
        for score in scorer.score_many(sorted(photographs.glob("*.jpg"))):
            assert found[Path(score.path).name] == score.value
