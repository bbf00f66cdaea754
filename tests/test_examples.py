"""The example adapters in the repository match their recipes, and have prompts that new users can paste."""

from pathlib import Path

import pytest

from headmix_adapters.artifact import verify_artifact
from headmix_adapters.train.recipe.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
ARTIFACTS = sorted(EXAMPLES.glob("adapters*/*.safetensors"))


def test_every_recipe_has_its_artifact() -> None:
    assert [path.stem for path in sorted(EXAMPLES.glob("*.toml"))] == sorted(path.stem for path in ARTIFACTS)


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.stem)
def test_an_example_adapter_is_sound_and_brings_its_recipes_prompts(path: Path) -> None:
    recipe = load_recipe(EXAMPLES / f"{path.stem}.toml")
    config = verify_artifact(path, base=None).config
    assert config.examples == recipe.examples
    assert len(config.examples) >= 2
    assert all(example.expect for example in config.examples)
    assert all(example.chat == (config.task == "generation") for example in config.examples)
