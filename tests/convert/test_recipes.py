"""A recipe says where its file loads, and it loads there and nowhere else."""

import pytest

from convert.recipes import RECIPES, Recipe
from hematovision.errors import ModelFileError
from hematovision.runtime import PACKAGES, available_runtimes, load_interpreter


@pytest.mark.parametrize("runtime", PACKAGES)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_file_loads_on_the_runtimes_that_its_recipe_states_and_on_no_other(
    recipe: Recipe, runtime: str, flatbuffers: dict[str, bytes]
) -> None:
    if runtime not in available_runtimes():
        pytest.skip(f"{runtime} is not installed")
    if runtime in recipe.runtimes:
        assert load_interpreter(flatbuffers[recipe.name], runtime).runtime == runtime
    else:
        with pytest.raises(ModelFileError, match=runtime):
            load_interpreter(flatbuffers[recipe.name], runtime)


def test_the_device_s_recipe_is_stated_to_load_on_every_runtime() -> None:
    assert set(RECIPES["int8"].runtimes) == set(PACKAGES)


def test_every_stated_runtime_is_one_that_the_device_knows() -> None:
    for recipe in RECIPES.values():
        assert set(recipe.runtimes) <= set(PACKAGES)
        assert recipe.runtimes


def test_names_are_those_of_the_command_line() -> None:
    assert list(RECIPES) == ["float32", "float16", "dynamic", "int8", "int16x8"]
    assert all(name == recipe.name for name, recipe in RECIPES.items())
