"""`headmix train` as tests run it: its recipe, its exit status, and a Ctrl-C in its middle."""

import signal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headmix_adapters.artifact import digest_file
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.train import cli, command
from headmix_adapters.train import run as run_module
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.recipe.recipe_file import recipe_text
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.score import score_model
from tests.adapters.train.conftest import RecipeMaker

FINAL = "tiny-classification.safetensors"


@pytest.fixture
def recipe_path(recipe: RecipeMaker, data_folder: Path, tmp_path: Path) -> Path:
    """A classification recipe on disk, its data next to it."""
    made = recipe("classification", epochs=2)
    for name in ("classification.train.jsonl", "classification.eval.jsonl"):
        (tmp_path / name).write_bytes((data_folder / name).read_bytes())
    path = tmp_path / "tiny.toml"
    path.write_text(recipe_text(made))
    assert load_recipe(path) == made
    return path


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once, while the held-out file is scored after the first epoch."""

    def interrupt(material: Material, model: AdaptedModel) -> Evaluation:
        monkeypatch.setattr(run_module, "score_model", score_model)
        signal.raise_signal(signal.SIGINT)
        return score_model(material, model)

    monkeypatch.setattr(run_module, "score_model", interrupt)


class FakePublisher:
    """Remembers what was pushed; `down` ends the command as an unreachable server does."""

    def __init__(self, down: str = "") -> None:
        self.calls: list[str] = []
        self.down = down

    def check_access(self) -> None:
        self._called("check")

    def push_adapter(self, name: str, file: Path) -> str:
        self._called("push")
        return f"{name}@1 {digest_file(file)}"

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.down == what:
            typer.echo("error: no server", err=True)
            raise typer.Exit(1)


def invoke(*arguments: str | Path, publisher: FakePublisher | None = None) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(cli.train)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], obj=publisher)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments: str | Path) -> str:
    """Return the message for a mistake: one line, with exit status 2."""
    code, out, err = invoke(*arguments)
    line = err.splitlines()[-1]
    assert (code, out) == (command.REFUSED, "")
    assert line.startswith("error: ")
    assert "Traceback" not in err
    return line.removeprefix("error: ")
