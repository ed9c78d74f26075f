import json
import shlex
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from described_plans import BUILT_FOR_RTX, CONTENT, described, rewrite
from iqa_runtime.artefacts.engine_file import load_engine, read_engine_file
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import ArtefactError, FileError


def test_what_was_written_is_read(plan, artefacts):
    expected = described(artefacts.contract())
    assert read_engine_file(plan) == expected
    assert load_engine(plan) == (expected, CONTENT)
    assert read_contract(plan) == artefacts.contract()
    assert isinstance(expected.contract, Contract)


def test_equal_descriptions_are_equal_bytes(artefacts):
    contract = artefacts.contract()
    assert described(contract).to_json() == described(replace(contract)).to_json()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"\0", b"other bytes of one", b""])
def test_other_bytes_than_described_are_refused(plan, content):
    plan.write_bytes(content)
    with pytest.raises(ArtefactError, match="SHA-256") as caught:
        load_engine(plan)
    message = str(caught.value)
    assert sha256(content).hexdigest() in message
    assert sha256(CONTENT).hexdigest() in message
    assert "iqa-engine build x.onnx --output x.plan" in message


def test_a_missing_file_is_named(plan):
    plan.unlink()
    with pytest.raises(FileError, match=r"x\.plan: cannot read the plan"):
        load_engine(plan)
    description_path(plan).unlink()
    with pytest.raises(FileError, match=r"x\.plan\.json: .*keep the \.plan and its \.plan\.json"):
        load_engine(plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "plan schema 99, this iqa-deploy reads schema 1"),
        ({"plan": {"file": "y.plan", "sha256": "0"}}, "SHA-256 is"),
        ({"host": {"library": "tensorflow"}}, "not the description of a plan"),
        ({"portability": "all"}, "not the description of a plan"),
        ({"batch": {"min": 4, "opt": 2, "max": 8}}, "batch sizes 4, 2, 8 are no range"),
        ({"batch": {"min": 0, "opt": 2, "max": 8}}, "batch sizes 0, 2, 8 are no range"),
        ({"contract": {"schema": 99}}, "contract schema 99"),
        ({"contract": None}, "without a contract"),
        ({"plan": {"file": "folder/x.plan", "sha256": "0"}}, "'folder/x.plan' is not the name of a file"),
        ({"source": {"file": "x\x1b[2J.onnx", "sha256": "0"}}, "is not the name of a file"),
    ],
)
def test_a_wrong_description_is_one_clear_error(plan, changes, message):
    rewrite(plan, changes)
    with pytest.raises(ArtefactError, match=message):
        load_engine(plan)


def test_the_rules_of_the_contract_hold_here_too(plan):
    contract = json.loads(description_path(plan).read_text())["contract"]
    contract["score"]["high"] = contract["score"]["low"]
    rewrite(plan, {"contract": contract})
    with pytest.raises(ArtefactError, match=r"not a range - at `\$\.score`"):
        read_engine_file(plan)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 1000])
def test_what_is_no_description_is_refused(plan, text):
    description_path(plan).write_bytes(text)
    with pytest.raises(ArtefactError, match="not the description of a plan"):
        load_engine(plan)


def test_nesting_without_end_is_an_error_of_ours(plan):
    text = description_path(plan).read_bytes()
    description_path(plan).write_bytes(b'{"strange":' + b"[" * 100_000 + b"]" * 100_000 + b"," + text[1:])
    with pytest.raises(ArtefactError, match="nested too deeply"):
        read_engine_file(plan)


@pytest.mark.parametrize("text", ["9" * 5000, "\x1b[2J", "a\nb", "\x9b2J"])
@pytest.mark.parametrize("field", ["version", "platform", "gpu name", "gpu driver", "layer", "exporter"])
def test_a_version_or_name_is_short_and_can_be_shown(plan, field, text):
    host = json.loads(description_path(plan).read_text())["host"]
    if field in ("version", "platform"):
        changes = {"host": host | {field: text}}
    elif field.startswith("gpu "):
        changes = {"host": host | {"gpu": host["gpu"] | {field.removeprefix("gpu "): text}}}
    else:
        changes = {"layer_tensors": {text: [1]}} if field == "layer" else {field: text}
    rewrite(plan, changes)
    with pytest.raises(ArtefactError, match="is no version and no name; build the plan again") as caught:
        read_engine_file(plan)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_both_files_may_be_renamed_together(plan):
    other = plan.with_name("y.plan")
    description_path(plan).rename(description_path(other))
    assert load_engine(plan.rename(other))[1] == CONTENT


def test_a_reference_encoder_has_no_contract_and_names_its_scorer(tmp_path):
    path = encoder_plan(tmp_path / "x.plan")
    assert path.name == "x.reference.plan"
    digest = FileDigest(file=path.name, sha256=sha256(CONTENT).hexdigest())
    path.write_bytes(CONTENT)
    description_path(path).write_bytes(described(None, plan=digest).to_json())
    assert load_engine(path)[1] == CONTENT
    with pytest.raises(ArtefactError, match=r"the reference encoder of x\.plan"):
        read_contract(path)


def test_the_command_that_rebuilds_repeats_what_was_asked(artefacts):
    contract = artefacts.contract()
    batches = "--min-batch 1 --opt-batch 4 --max-batch 8 --builder-level 3"
    plain = f"iqa-engine build x.onnx --output x.plan --library tensorrt {batches}"
    assert described(contract).rebuild_command == plain
    more = described(contract, version_compatible=True, portability="ampere_or_later", stripped=True)
    assert more.rebuild_command == f"{plain} --version-compatible --hardware-compatible --strip"
    assert described(contract, refittable=True).rebuild_command == f"{plain} --refittable"
    limited = described(contract, workspace=2**28 + 1, stripped=True, refittable=True)
    assert limited.rebuild_command == f"{plain} --workspace 257 --strip --refittable"
    rtx = described(contract, host=BUILT_FOR_RTX, portability="ampere_or_later")
    assert rtx.rebuild_command == plain.replace("--library tensorrt", "--library tensorrt_rtx")


def test_commands_are_safe_in_a_shell_whatever_the_names(artefacts):
    names = {
        "plan": FileDigest(file="$(reboot) x.plan", sha256="0" * 64),
        "source": FileDigest(file="-x; reboot.onnx", sha256="0" * 64),
    }
    hostile = described(artefacts.contract(), **names)
    for command in (hostile.rebuild_command, hostile.marking_command, hostile.refit_command(Path("my x.plan"))):
        words = shlex.split(command)
        assert words[0] == "iqa-engine"
        assert words[2] == "./-x; reboot.onnx"
    assert shlex.split(hostile.rebuild_command)[4] == "$(reboot) x.plan"
    assert "'my x.plan' --output 'my x.full.plan'" in command


def test_commands_for_a_reference_encoder_name_its_scorer():
    encoder = described(
        None,
        plan=FileDigest(file="x.reference.plan", sha256="0" * 64),
        source=FileDigest(file="model.reference.onnx", sha256="0" * 64),
    )
    assert encoder.rebuild_command.startswith("iqa-engine build model.onnx --output x.plan ")
    refit = encoder.refit_command(Path("folder/y.reference.plan"))
    assert refit == "iqa-engine refit model.onnx y.plan --output y.full.plan"
