"""A copy with other examples is the same adapter with another digest."""

from pathlib import Path

import msgspec
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from harness.adapters.artifacts import classifier_config, random_artifact, tiny_base_shape
from headmix_adapters.artifact import ArtifactError, digest_file, open_artifact, verify_artifact
from headmix_adapters.artifact.edit import with_examples
from headmix_adapters.config import ExamplePrompt
from headmix_adapters.edit_cli import edit

EXAMPLES = (ExamplePrompt(prompt="WIN! \U0001f389", expect="spam"), ExamplePrompt(prompt="See you\nat lunch?"))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    random_artifact(path, tiny_base_shape(), classifier=classifier_config("ham", "spam"), training={"steps": 3})
    return path


def test_only_the_examples_change(artifact: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out.safetensors", artifact.read_bytes()
    digest = with_examples(artifact, out, EXAMPLES)
    assert artifact.read_bytes() == before
    assert digest == digest_file(out) != digest_file(artifact)
    edited = verify_artifact(out, base=tiny_base_shape())
    assert edited.config.examples == EXAMPLES
    assert msgspec.structs.replace(edited.config, examples=()) == open_artifact(artifact).config
    old, new = load_file(artifact), load_file(out)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_without_examples_again_it_says_what_it_said_before(artifact: Path, tmp_path: Path) -> None:
    with_examples(artifact, tmp_path / "more", EXAMPLES)
    with_examples(tmp_path / "more", tmp_path / "none", ())
    assert open_artifact(tmp_path / "none").config == open_artifact(artifact).config
    assert b"examples" not in (tmp_path / "none").read_bytes()[:4096]


def test_examples_that_break_a_rule_write_nothing(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not one of the labels ham, spam"):
        with_examples(artifact, tmp_path / "out", (ExamplePrompt(prompt="x", expect="eggs"),))
    assert not (tmp_path / "out").exists()


def run(*arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(edit)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_takes_the_examples_of_a_recipe_and_overwrites_only_when_told(
    artifact: Path, tmp_path: Path
) -> None:
    page, out = tmp_path / "recipe.toml", tmp_path / "out.safetensors"
    page.write_text('name = "spam"\n[[examples]]\nprompt = "WIN!"\nexpect = "spam"\n', encoding="utf-8")
    assert run(artifact, out, "--examples", page) == (0, f"{out}: {digest_file(out)}\n", "")
    assert open_artifact(out).config.examples == (ExamplePrompt(prompt="WIN!", expect="spam"),)
    assert run(artifact, out, "--examples", page)[2] == f"{out} exists; --force replaces it\n"
    assert run(artifact, artifact, "--examples", page, "--force")[0] == 0
    assert artifact.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("", "missing required field `examples`"),
        ('[[examples]]\nprompt = "x"\nexpects = "spam"\n', "unknown field `expects`"),
        (
            '[[examples]]\nprompt = "x"\nexpect = "eggs"\n',
            "examples[0].expect: eggs is not one of the labels ham, spam",
        ),
        ("[[", "Invalid"),
    ],
)
def test_an_unusable_page_is_reported(page: str, told: str, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "page.toml").write_text(page, encoding="utf-8")
    code, _, err = run(artifact, tmp_path / "out", "--examples", tmp_path / "page.toml")
    assert code == 1
    assert told in err
    assert not (tmp_path / "out").exists()
