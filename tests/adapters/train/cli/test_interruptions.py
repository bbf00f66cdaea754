"""`headmix train` is interrupted, and goes on where it stopped."""

import json
from pathlib import Path

import pytest

from headmix_adapters.artifact import open_artifact
from headmix_adapters.train import command
from headmix_adapters.train import run as run_module
from headmix_adapters.train.prepare import Material
from tests.adapters.train.cli.conftest import FINAL, invoke, refused


@pytest.mark.usefixtures("interrupted")
def test_an_interruption_is_an_event_too_and_the_command_that_goes_on_continues_the_file(recipe_path: Path) -> None:
    path = recipe_path.parent / "events.jsonl"
    code, _, err = invoke(recipe_path, "--events", path)
    assert code == command.INTERRUPTED
    assert f"continue with: headmix train {recipe_path} --resume --events {path}" in err
    assert invoke(recipe_path, "--resume", "--events", path)[0] == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "step"] == [*range(1, 17)]
    ends = [line for line in lines if line["event"] in ("interrupted", "resumed", "done")]
    assert [line["event"] for line in ends] == ["interrupted", "resumed", "done"]
    assert ends[0]["message"] == "stopped after step 9 of 16"


@pytest.mark.usefixtures("interrupted")
def test_a_sweep_is_resumed_by_the_command_it_prints_and_ends_with_a_table(recipe_path: Path) -> None:
    recipe_path.write_text(recipe_path.read_text() + "[sweep]\nlearning_rate = [0.005, 0.01]\n")
    code, _, err = invoke(recipe_path, "--sweep")
    assert code == command.INTERRUPTED
    assert err.splitlines()[-1].endswith(f"continue with: headmix train {recipe_path} --resume --sweep")
    code, out, err = invoke(recipe_path, "--sweep", "--resume")
    assert code == 0
    assert "run 2 of 2: learning_rate 0.01" in err
    assert "best: learning_rate 0.0" in out
    assert (recipe_path.parent / "adapters" / "tiny-classification.heads.svg").exists()
    _, _, err = invoke(recipe_path, "--force", "--max-steps", "1")
    assert "without --sweep, [sweep] is not used: learning_rate is 0.02" in err


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_says_how_to_go_on_and_going_on_finishes(recipe_path: Path) -> None:
    code, _, err = invoke(recipe_path, "--seed", "5", "--learning-rate", "0.01")
    assert code == command.INTERRUPTED
    assert f"continue with: headmix train {recipe_path} --resume --seed 5 --learning-rate 0.01" in err
    code, _, err = invoke(recipe_path, "--resume", "--seed", "5", "--learning-rate", "0.01")
    assert code == 0
    assert "resuming from checkpoint-" in err


def test_ctrl_c_before_the_first_step_leaves_nothing_and_says_so(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Material) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "score_base", interrupt)
    code, _, err = invoke(recipe_path)
    assert code == command.INTERRUPTED
    assert err.splitlines()[-1] == "interrupted; there is no checkpoint to resume"
    assert not list((recipe_path.parent / "adapters").iterdir())


@pytest.mark.usefixtures("interrupted")
def test_a_resumed_run_may_replace_what_it_was_begun_over_and_nothing_else(recipe_path: Path) -> None:
    path = recipe_path.parent / "adapters" / FINAL
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    assert invoke(recipe_path, "--force")[0] == command.INTERRUPTED
    path.write_bytes(b"somebody's new one")
    assert "was written after this run began" in refused(recipe_path, "--resume")
    assert path.read_bytes() == b"somebody's new one"
    path.write_bytes(b"the old one")
    assert invoke(recipe_path, "--resume")[0] == 0
    assert open_artifact(path).config.task == "classification"
