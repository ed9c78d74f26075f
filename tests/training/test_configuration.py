from pathlib import Path

import msgspec
import pytest

from iqa_runtime.errors import FileError, UsageError
from iqa_training.configuration import LoopConfig, RunConfig, convert_settings, read_config
from iqa_training.datasets import DATASETS
from iqa_training.recipes import build_recipe, find_recipe
from iqa_training.recipes.yoto import YotoSettings

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        return file

    return write


def test_settings_and_defaults(write):
    config = read_config(write("seed: 7\nloop:\n  batch: 3\n  learning_rate: 2\nrecipe:\n  variant: edge\n"))
    assert config == RunConfig(seed=7, loop=LoopConfig(batch=3, learning_rate=2.0), recipe={"variant": "edge"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_has_the_defaults(write, text):
    assert read_config(write(text)) == RunConfig()


def test_what_is_written_back_is_read_again(write):
    config = RunConfig(seed=3, loop=LoopConfig(clip=0.5))
    assert read_config(write(msgspec.yaml.encode(config).decode())) == config


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.mkdir ["FOLDER"]',
        '!!python/object/new:os.mkdir ["FOLDER"]',
        "!!python/object:pathlib.Path {}",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
    ],
)
def test_a_file_makes_no_object_and_runs_nothing(write, tmp_path, value):
    made = tmp_path / "made"
    config = write(f"recipe:\n  variant: {value.replace('FOLDER', str(made))}\n")
    with pytest.raises(UsageError, match="could not determine a constructor for the tag"):
        read_config(config)
    assert not made.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "unknown field `sed`"),
        ("loop:\n  batchsize: 4", r"unknown field `batchsize` - at `\$.loop`"),
        ("synthetic:\n  tile_size: 4", r"unknown field `tile_size` - at `\$.synthetic`"),
        ("seed: one", r"Expected `int`, got `str` - at `\$.seed`"),
        ("loop:\n  batch: 2.5", r"Expected `int`, got `float` - at `\$.loop.batch`"),
        ("loop:\n  freeze_normalisation: 1", r"Expected `bool`, got `int`"),
        ("loop: 3", r"Expected `object`, got `int` - at `\$.loop`"),
        ("- 1", r"Expected `object.*`, got `array`"),
        ("loop:\n  batch: 0", r">= 1 - at `\$.loop.batch`"),
        ("loop:\n  learning_rate: 0", r"> 0.0 - at `\$.loop.learning_rate`"),
        ("loop:\n  warmup: 1", r"< 1.0 - at `\$.loop.warmup`"),
        ("loop:\n  precision: float64", r"Invalid enum value 'float64' - at `\$.loop.precision`"),
        ("validation: 1.0", r"< 1.0 - at `\$.validation`"),
        ("loop:\n  drop_after: [0]", r">= 1 - at `\$.loop.drop_after"),
        ("loop:\n  drop_after: 22", r"Expected `array`, got `int` - at `\$.loop.drop_after"),
        ("loop:\n  cosine_epochs: -1", r">= 0 - at `\$.loop.cosine_epochs`"),
        (
            "loop:\n  drop_after: [22]\n  cosine_epochs: 50",
            r"drop_after and cosine_epochs are schedules of the learning rate: give one of them - at `\$.loop`",
        ),
        ("loop:\n  compound_drops: true", r"compound_drops is of use with drop_every alone.* - at `\$.loop`"),
        ("synthetic:\n  tile: 32", r">= 64 - at `\$.synthetic.tile`"),
        ("seed: -1", r">= 0 - at `\$.seed`"),
        ("loop: [", "run.yaml: "),
        ("\x00", "run.yaml: "),
    ],
)
def test_settings_that_cannot_be(write, text, message):
    file = write(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config(file)
    assert str(caught.value).startswith(str(file))


def test_bytes_that_are_no_text(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match=r"run\.yaml"):
        read_config(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"none.yaml: cannot be read \(No such file.*check ``config``"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("number", [".nan", ".inf"])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "clip", "warmup"])
def test_numbers_that_are_none(write, name, number):
    with pytest.raises(UsageError, match=rf"at `\$.loop.{name}`"):
        read_config(write(f"loop:\n  {name}: {number}\n"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "recipe yoto: Object contains unknown field `size`"),
        ({"variant": "swin_b"}, r"recipe yoto: Invalid enum value 'swin_b' - at `\$.variant`"),
        ({"decorrelation": "much"}, r"recipe yoto: Expected `float`, got `str` - at `\$.decorrelation`"),
    ],
)
def test_settings_of_a_recipe(settings, message):
    with pytest.raises(UsageError, match=message):
        convert_settings(settings, YotoSettings, "yoto")


@pytest.mark.parametrize(
    ("name", "message"), [("yotto", "did you mean yoto"), ("musiq", "there is yoto"), ("", "there is yoto")]
)
def test_recipes_that_there_are_not(name, message):
    with pytest.raises(UsageError, match=f"no recipe '{name}'.*{message}"):
        build_recipe(name, {}, {})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_example_configurations_fit_their_recipes(file):
    """The command that they begin with names the recipe."""
    command = next(line.split() for line in file.read_text().splitlines() if "iqa-train" in line)
    recipe = find_recipe(command[command.index("iqa-train") + 1])
    assert file.as_posix().endswith(command[command.index("--config") + 1])
    config = read_config(file)
    convert_settings(config.recipe, recipe.settings, recipe.name)
    assert config.dataset in {"synthetic", *DATASETS}
    roles = {
        argument.split("=")[0] for argument, flag in zip(command[1:], command, strict=False) if flag == "--weights"
    }
    assert roles <= set(recipe.roles)
