"""The recipes by name; a new one is a module here with a subclass of `Recipe`, listed below."""

from __future__ import annotations

import difflib
from pathlib import Path

from iqa_runtime.errors import UsageError
from iqa_training.configuration import convert_settings
from iqa_training.recipes.base import Recipe
from iqa_training.recipes.cvrkd import CvrkdStudentRecipe, CvrkdTeacherRecipe
from iqa_training.recipes.dri import DriQualityRecipe, DriRestorationRecipe
from iqa_training.recipes.dri_representation import DriRepresentationRecipe
from iqa_training.recipes.mfe import MfeContrastiveRecipe, MfeQualityRecipe
from iqa_training.recipes.yoto import YotoRecipe

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        YotoRecipe,
        CvrkdTeacherRecipe,
        CvrkdStudentRecipe,
        DriRepresentationRecipe,
        DriRestorationRecipe,
        DriQualityRecipe,
        MfeContrastiveRecipe,
        MfeQualityRecipe,
    )
}


def find_recipe(name: str) -> type[Recipe]:
    """Return a recipe by its name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; there is {', '.join(RECIPES)}"
        raise UsageError(f"no recipe {name!r}{hint}")
    return RECIPES[name]


def build_recipe(name: str, settings: dict[str, object], weights: dict[str, Path]) -> Recipe:
    """Build a recipe with its settings and the checkpoints it starts from.

    Parameters
    ----------
    name
        One of `RECIPES`.
    settings
        Of its ``settings`` type, as YAML gives them.
    weights
        Checkpoints by the role they play, such as ``encoder``.

    Raises
    ------
    UsageError
        If name, settings or roles are unknown.
    FileError, CheckpointError
        If a checkpoint cannot be used.
    """
    recipe = find_recipe(name)
    unknown = sorted(set(weights) - set(recipe.roles))
    if unknown:
        raise UsageError(
            f"recipe {name}: no weights {', '.join(unknown)} are of use; there is {', '.join(recipe.roles)}"
        )
    return recipe(convert_settings(settings, recipe.settings, name), weights)
