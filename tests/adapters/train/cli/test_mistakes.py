"""`headmix train`: every mistake gives one clear line and an exit status."""

from pathlib import Path

import pytest

from headmix_adapters.artifact import open_artifact
from headmix_adapters.train import command
from tests.adapters.train.cli.conftest import FINAL, invoke, refused


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs", "epoch", "unknown field `epoch`"),
        ('"down"', '"sideways"', "'down' is not among classifier.labels"),
        ("classification.train", "nothing", "nothing.jsonl: No such file"),
        ('base = "', 'base = "/no/such', "no base"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(recipe_path: Path, old: str, new: str, message: str) -> None:
    recipe_path.write_text(recipe_path.read_text().replace(old, new, 1))
    assert message in refused(recipe_path)
    assert not (recipe_path.parent / "adapters").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a recipe, or --data with --base and --name"),
        (("tiny.toml", "--data", "x.jsonl"), "give a recipe or --data, not both"),
        (("tiny.toml", "--preset", "lite-qv"), "--preset goes with --data"),
        (("tiny.toml", "--init"), "--init goes with --data"),
        (("--data", "x.jsonl", "--base", "b"), "--data needs --name too"),
        (("--data", "x.jsonl", "--base", "b", "--name", "n"), "x.jsonl: No such file"),
        (("tiny.toml", "--push"), "--push is for the headmix command"),
        *(
            (("tiny.toml", "--eval-only", *words), f"{words[0]} is for training, and --eval-only trains nothing")
            for words in (
                ("--push",),
                ("--resume",),
                ("--force",),
                ("--events", "e.jsonl"),
                ("--plot", "svg"),
                ("--checkpoint-seconds", "0"),
                ("--epochs", "2"),
                ("--batch-size", "2"),
                ("--learning-rate", "0.1"),
                ("--max-steps", "2"),
            )
        ),
        *(
            (
                ("--data", "x.jsonl", "--base", "b", "--name", "n", "--init", *words),
                f"--init writes a recipe and nothing else: {words[0]} has no effect",
            )
            for words in (("--sweep",), ("--output", "a"), ("--checkpoint-seconds", "0"), ("--plot", "svg"))
        ),
        (("tiny.toml", "--sweep", "--eval-only"), "--eval-only is for one adapter, and --sweep trains several"),
        (("tiny.toml", "--sweep", "--resume"), "there is no sweep to resume"),
        (("tiny.toml", "--events", "tiny.toml"), "tiny.toml holds something other than a run's events"),
        (("tiny.toml", "--epochs", "0"), "epochs"),
        (("tiny.toml", "--learning-rate", "nan"), "learning_rate"),
        (("tiny.toml", "--output", "/"), "/ is a folder; --output names the artifact's file"),
        (("tiny.toml", "--output", ""), ". is a folder; --output names the artifact's file"),
        (("gone.toml",), "gone.toml: No such file"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(recipe_path.parent)
    assert message in refused(*arguments)


def test_a_sweep_refuses_a_learning_rate_that_none_of_its_runs_would_have(recipe_path: Path) -> None:
    recipe_path.write_text(recipe_path.read_text() + "\n[sweep]\nlearning_rate = [0.001, 0.002]\n")
    message = refused(recipe_path, "--sweep", "--learning-rate", "0.5")
    assert message == "--learning-rate has no effect on a sweep whose [sweep] has learning_rate"
    assert not (recipe_path.parent / "adapters").exists()


def test_nothing_to_score_is_an_error_too(recipe_path: Path) -> None:
    code, _, err = invoke(recipe_path, "--eval-only")
    assert code == command.FAILED
    assert FINAL in err.splitlines()[-1]


def test_a_broken_base_is_one_line(recipe_path: Path, tiny_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "tokenizer.json").write_text('{"model": 7}')
    recipe_path.write_text(recipe_path.read_text().replace(str(tiny_folder), str(broken)))
    assert "broken/tokenizer.json cannot be read: " in refused(recipe_path)


def test_an_artifact_is_replaced_with_force_alone_and_before_any_work(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe_path.parent / "adapters" / FINAL
    path.parent.mkdir()
    path.write_bytes(b"a good adapter")
    with monkeypatch.context() as patch:
        patch.setattr("headmix_adapters.train.prepare.load_material", lambda *_: pytest.fail("it began to work"))
        assert refused(recipe_path) == f"{path} exists; --force replaces it, --output writes elsewhere"
        assert "is a folder" in refused(recipe_path, "--output", path.parent)
        assert "nothing to resume" in refused(recipe_path, "--resume", "--output", path.with_name("other.safetensors"))
        (recipe_path.parent / "file").touch()
        assert "is not a writable folder" in refused(
            recipe_path, "--output", recipe_path.parent / "file" / "a.safetensors"
        )
    assert path.read_bytes() == b"a good adapter"
    assert invoke(recipe_path, "--force", "--max-steps", "1")[0] == 0
    assert open_artifact(path).config.training["steps"] == 1
