"""iqa-run --check and --info: what an installation can run, and what an artefact says of itself."""

import dataclasses

import pytest

from iqa_run import run
from iqa_runtime import Scorer, read_contract
from iqa_runtime.artefacts.contract_json import contract_to_json


@pytest.mark.parametrize("kind", ["mean", "difference", "packed", "cached", "baked", "mapped", "untrained"])
def test_check_passes_for_every_kind_of_artefact(artefacts, kind):
    result = run(getattr(artefacts, kind)(), "--check")
    assert (result.exit_code, "FAIL" in result.stdout) == (0, False)
    assert "CPUExecutionProvider" in result.stdout
    assert ("untrained" in result.stdout) == (kind == "untrained")


@pytest.mark.parametrize(("available", "says"), [(True, "their rows alone"), (False, "whole pictures are decoded")])
def test_check_says_how_crops_of_a_jpeg_are_decoded(artefacts, monkeypatch, available, says):
    if available:
        pytest.importorskip("iqa_runtime._jpeg_bands")
    monkeypatch.setattr("iqa_runtime.images.jpeg._has_bands", available)
    assert f"JPEG crops {says}" in " ".join(run(artefacts.mean(), "--check").output.split())


def test_check_names_what_is_wrong(artefacts):
    model = artefacts.cached()
    model.with_name("cached.reference.onnx").unlink()
    result = run(model, "--check")
    assert result.exit_code == 1
    assert "cached.reference.onnx" in result.stdout.split("FAIL")[1]


def test_check_notices_scores_that_differ(artefacts, monkeypatch):
    values = iter([0.25, 0.75])
    original = Scorer.score

    def unsteady(self, *arguments):
        return dataclasses.replace(original(self, *arguments), value=next(values, 0.5))

    monkeypatch.setattr(Scorer, "score", unsteady)
    result = run(artefacts.mean(), "--check")
    assert result.exit_code == 1
    assert "FAIL  score" in result.stdout


def test_info_shows_the_contract(artefacts):
    model = artefacts.cached()
    assert run(model, "--info", "--format", "json").stdout == contract_to_json(read_contract(model)) + "\n"
    shown = dict(line.split(maxsplit=1) for line in run(model, "--info").stdout.splitlines())
    assert (shown["model"], shown["patch_plan.kind"], shown["score.higher_is_better"]) == ("tiny", "five", "False")
    assert shown["inputs.1.name"] == "reference_features"
    assert shown["reference_encoder.file"] == "cached.reference.onnx"
