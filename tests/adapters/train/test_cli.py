"""`headmix train`: what it writes and prints, and that every mistake is one clear line and an exit status."""

import signal
from pathlib import Path

import msgspec
import pytest
import torch
import typer
from typer.testing import CliRunner

from headmix_adapters.artifact import open_artifact
from headmix_adapters.cpus import CpuBudget
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.train import cli
from headmix_adapters.train import run as run_module
from headmix_adapters.train.evaluate import Scores
from headmix_adapters.train.material import Material
from headmix_adapters.train.score import score_model
from tests.adapters.train.conftest import RecipeMaker


@pytest.fixture
def recipe_path(recipe: RecipeMaker, data_folder: Path, tmp_path: Path) -> Path:
    """A classification recipe on disk, its data beside it."""
    made = recipe("classification", epochs=2)
    for name in (made.data.train, made.data.eval):
        (tmp_path / name).write_bytes((data_folder / name).read_bytes())
    path = tmp_path / "tiny.toml"
    fields = msgspec.to_builtins(made)
    cleaned = {key: _without_none(value) for key, value in fields.items() if value is not None}
    path.write_bytes(_toml(cleaned))
    return path


def _without_none(value: object) -> object:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def _toml(fields: dict[str, object]) -> bytes:
    plain = [f"{key} = {msgspec.json.encode(item).decode()}" for key, item in fields.items() if not _is_table(item)]
    for name, table in fields.items():
        if isinstance(table, dict):
            plain.append(f"[{name}]")
            plain += [f"{key} = {msgspec.json.encode(item).decode()}" for key, item in table.items()]
    return "\n".join(plain).encode()


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def train(*arguments: str | Path) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(cli.train)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def test_it_writes_beside_the_recipe_and_says_what_it_did(recipe_path: Path) -> None:
    code, err = train(recipe_path)
    assert code == 0
    path = recipe_path.parent / "adapters" / "tiny-classification.safetensors"
    assert open_artifact(path).config.task == "classification"
    for words in (
        "train: 30 examples",
        "0 cut to 160 tokens",
        "base alone: accuracy",
        "adapter: accuracy",
        f"wrote {path}",
    ):
        assert words in err


def test_training_computes_on_the_cores_it_may_keep_busy(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "read_cpu_budget", lambda: CpuBudget(affinity=8, quota=1.5))
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        _, err = train(recipe_path, "--max-steps", "1")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert ", 2 threads" in err.splitlines()[0]


def test_eval_only_scores_the_file_and_writes_nothing(recipe_path: Path) -> None:
    path = recipe_path.parent / "made.safetensors"
    assert train(recipe_path, "--output", path, "--max-steps", "2", "--seed", "5")[0] == 0
    before = path.read_bytes()
    recorded = open_artifact(path).config.training["metrics"]["adapter"]["accuracy"]
    code, err = train(recipe_path, "--output", path, "--eval-only")
    assert code == 0
    assert f"adapter: accuracy {recorded:.4g}" in err
    assert path.read_bytes() == before


def test_ctrl_c_says_how_to_go_on_and_going_on_finishes(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(material: Material, model: AdaptedModel) -> Scores:
        signal.raise_signal(signal.SIGINT)
        return score_model(material, model)

    monkeypatch.setattr(run_module, "score_model", interrupted)
    code, err = train(recipe_path, "--seed", "5")
    assert code == cli.INTERRUPTED_STATUS
    assert f"continue with: headmix train {recipe_path} --resume --seed 5" in err
    monkeypatch.setattr(run_module, "score_model", score_model)
    code, err = train(recipe_path, "--resume", "--seed", "5")
    assert code == 0
    assert "resuming from checkpoint-" in err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs", "epoch", "unknown field `epoch`"),
        ('"down"', '"sideways"', "'down' is not among classifier.labels"),
        ("classification.train", "nothing", "nothing.jsonl: No such file"),
        ('base = "', 'base = "/no/such', "no base"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_1(recipe_path: Path, old: str, new: str, message: str) -> None:
    recipe_path.write_text(recipe_path.read_text().replace(old, new, 1))
    code, err = train(recipe_path)
    assert code == 1
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err


def test_nothing_to_score_is_an_error_too(recipe_path: Path) -> None:
    code, err = train(recipe_path, "--eval-only")
    assert code == 1
    assert "tiny-classification.safetensors" in err.splitlines()[-1]
