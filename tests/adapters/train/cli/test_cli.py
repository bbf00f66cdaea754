"""`headmix train`: what it writes and prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.machine.cpus import CpuBudget
from headmix_adapters.train import command
from headmix_adapters.train import run as run_module
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.scoring.evaluate import Evaluation
from tests.adapters.train.cli.conftest import FINAL, FakePublisher, invoke, refused

pytestmark = pytest.mark.slow


def test_it_writes_beside_the_recipe_and_says_what_it_did(recipe_path: Path) -> None:
    code, out, err = invoke(recipe_path)
    assert code == 0
    path = recipe_path.parent / "adapters" / FINAL
    assert open_artifact(path).config.task == "classification"
    for words in ("train: 30 examples", "0 cut to 160 tokens", "base alone: accuracy", "epoch 2 of 2: loss "):
        assert words in err
    for words in ("held out: 12 texts of classification.eval.jsonl", "linear classifier", "F1 of up", f"wrote {path}"):
        assert words in out
    assert not any(mark in out + err for mark in ("{'", "it/s", "Warning", "[transformers]", "\x1b"))


def test_training_computes_on_the_cores_it_may_keep_busy(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read_cpu_budget", lambda: CpuBudget(affinity=8, quota=1.5))
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        _, _, err = invoke(recipe_path, "--max-steps", "1")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert ", 2 threads\n" in err


def test_other_packages_are_quiet_and_our_own_lines_are_plain_in_a_pipe(recipe_path: Path) -> None:
    # In its own process, because the notices appear at import.
    program = [sys.executable, "-m", "headmix_adapters.train", str(recipe_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=110, env=os.environ | {"COLUMNS": "40"})
    assert done.returncode == 0
    ours = (
        "the artifact will show",
        "tiny-",
        "loading",
        "train:",
        "eval:",
        "scoring",
        "base alone",
        "fitting",
        "linear",
        "the 1 layers",
        "step",
        "drew",
    )
    assert [line for line in done.stderr.splitlines() if not line.startswith((*ours, "epoch"))] == []
    assert "\x1b" not in done.stdout
    assert f"wrote {recipe_path.parent}" in done.stdout


def test_eval_only_scores_the_file_and_writes_nothing(recipe_path: Path) -> None:
    path = recipe_path.parent / "made.safetensors"
    assert invoke(recipe_path, "--output", path, "--max-steps", "2", "--seed", "5")[0] == 0
    before = path.read_bytes()
    recorded = open_artifact(path).config.training["metrics"]["adapter"]["accuracy"]
    code, out, _ = invoke(recipe_path, "--output", path, "--eval-only")
    assert code == 0
    (row,) = (line.split() for line in out.splitlines() if line.strip().startswith("accuracy"))
    assert row[-1] == f"{recorded:.3f}"
    assert path.read_bytes() == before


def test_eval_only_refuses_another_split_of_the_file_the_adapter_learned_from(recipe_path: Path) -> None:
    recipe_path.write_text(
        recipe_path.read_text().replace('eval = "classification.eval.jsonl"', "eval_share = 0.3"), encoding="utf-8"
    )
    assert invoke(recipe_path, "--max-steps", "2")[0] == 0
    code, out, _ = invoke(recipe_path, "--eval-only")
    assert (code, "held out: 9 texts" in out, "warning" in out) == (0, True, False)
    assert "so it may have learned them" in refused(recipe_path, "--eval-only", "--seed", "11")
    recipe_path.write_text(recipe_path.read_text().replace("eval_share = 0.3", "eval_share = 0.2"))
    assert "so it may have learned them" in refused(recipe_path, "--eval-only")
    recipe_path.write_text(recipe_path.read_text().replace("eval_share = 0.2", 'eval = "classification.train.jsonl"'))
    code, out, _ = invoke(recipe_path, "--eval-only")
    assert code == 0
    assert "warning: these texts are of the file that the adapter was trained on" in out


def test_eval_only_says_if_a_file_is_not_the_one_of_the_recorded_scores(recipe_path: Path) -> None:
    assert invoke(recipe_path, "--max-steps", "2")[0] == 0
    path = recipe_path.parent / "classification.eval.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    code, out, _ = invoke(recipe_path, "--eval-only")
    assert code == 0
    assert "note: the scores in the adapter's header are on other held-out texts" in out


def test_the_events_of_a_run_can_be_read_by_a_program(recipe_path: Path) -> None:
    path, artifact = recipe_path.parent / "events.jsonl", recipe_path.parent / "adapters" / FINAL
    assert invoke(recipe_path, "--events", path)[0] == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "step"] == [
        "started",
        *(["scored", "checkpoint"] * 2),
        "done",
    ]
    assert [line["step"] for line in lines if line["event"] == "step"] == [*range(1, 17)]
    done = lines[-1]
    assert (done["artifact"], done["digest"], done["steps"]) == (str(artifact), digest_file(artifact), 16)
    assert done["scores"]["accuracy"] == lines[-3]["score"]


@pytest.mark.parametrize(
    ("options", "data", "event", "status"),
    [
        (("--learning-rate", "1e9", "--epochs", "9"), "", "diverged", command.DIVERGED),
        ((), "no data", "failed", command.REFUSED),
    ],
)
def test_the_last_event_of_a_run_that_fails_says_why(
    recipe_path: Path, options: tuple[str, ...], data: str, event: str, status: int
) -> None:
    path = recipe_path.parent / "events.jsonl"
    if data:
        (recipe_path.parent / "classification.train.jsonl").write_text(data)
    code, out, err = invoke(recipe_path, "--events", path, *options)
    assert (code, out) == (status, "")
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["event"], last["status"]) == (event, status)
    assert err.splitlines()[-1] == f"error: {last['message']}"
    assert not list(recipe_path.parent.glob("adapters/*"))


@pytest.mark.usefixtures("interrupted")
def test_the_events_of_a_sweep_name_their_run_and_its_resumption_continues_the_file(recipe_path: Path) -> None:
    recipe_path.write_text(recipe_path.read_text() + "[sweep]\nlearning_rate = [0.005, 1e9]\n")
    path, artifact = recipe_path.parent / "events.jsonl", recipe_path.parent / "adapters" / FINAL
    assert invoke(recipe_path, "--sweep", "--events", path)[0] == command.INTERRUPTED
    assert invoke(recipe_path, "--sweep", "--resume", "--events", path)[0] == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = [line for line in lines if line.get("run") == "01-0.005"]
    assert [line["step"] for line in first if line["event"] == "step"] == [*range(1, 17)]
    ends = [line for line in lines if line["event"] in ("interrupted", "resumed", "diverged", "done")]
    assert [(line["event"], line.get("run")) for line in ends] == [
        ("interrupted", None),
        ("resumed", "01-0.005"),
        ("done", "01-0.005"),
        ("diverged", "02-1e+09"),
        ("done", None),
    ]
    assert ends[3]["status"] is None
    assert (ends[4]["artifact"], ends[4]["digest"]) == (str(artifact), digest_file(artifact))
    assert ends[4]["scores"] == ends[2]["scores"]
    history = (artifact.parent / "tiny-classification.history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in history] == [
        {key: value for key, value in line.items() if key != "run"}
        for line in first
        if line["event"] in ("started", "step", "scored")
    ]


def test_a_run_draws_its_pictures_in_the_format_asked_for(recipe_path: Path) -> None:
    folder = recipe_path.parent / "adapters"
    for options, kinds in (((), [".svg"]), (("--plot", "png"), [".png"]), (("--plot", "none"), [])):
        code, _, err = invoke(recipe_path, "--max-steps", "2", "--force", *options)
        assert code == 0
        drawn = sorted(path.name for path in folder.iterdir() if path.suffix not in (".safetensors", ".jsonl"))
        assert drawn == [f"tiny-classification.{what}{kind}" for kind in kinds for what in ("curves", "heads")]
        assert ("drew " in err) == bool(kinds)


def test_a_run_without_a_recipe_is_the_run_of_the_recipe_that_init_writes(
    recipe_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_path.parent)
    words = ("--data", "classification.train.jsonl", "--base", tiny_folder, "--name", "quick", "--max-steps", "2")
    code, out, _ = invoke(*words, "--init")
    assert (code, out) == (0, "wrote quick.toml; train with: headmix train quick.toml\n")
    assert refused(*words, "--init") == "quick.toml exists; --force replaces it"
    recipe = load_recipe(Path("quick.toml"))
    assert recipe.classifier is not None
    assert (recipe.task, recipe.classifier.labels, recipe.classifier.pooling) == (
        "classification",
        ("down", "up"),
        "last",
    )
    code, out, err = invoke(*words)
    assert code == 0
    assert "train: 28 examples" in err
    first = Path("adapters/quick.safetensors").read_bytes()
    code, out, _ = invoke("quick.toml", "--force")
    assert code == 0

    def tensors(data: bytes) -> bytes:
        return data[8 + int.from_bytes(data[:8], "little") :]

    assert tensors(Path("adapters/quick.safetensors").read_bytes()) == tensors(first)


def test_a_push_is_tried_before_the_work_and_done_after_it(recipe_path: Path) -> None:
    publisher = FakePublisher()
    code, out, _ = invoke(recipe_path, "--push", "--epochs", "8", publisher=publisher)
    path = recipe_path.parent / "adapters" / FINAL
    assert (code, publisher.calls) == (0, ["check", "push"])
    assert out.splitlines()[-1] == f"pushed tiny-classification@1 {digest_file(path)}"
    code, _, err = invoke(recipe_path, "--push", "--force", publisher=FakePublisher(down="check"))
    assert (code, err) == (1, "error: no server\n")
    code, _, err = invoke(recipe_path, "--push", "--force", "--epochs", "8", publisher=FakePublisher(down="push"))
    assert code == 1
    assert err.splitlines()[-1].endswith(f"to try again: headmix adapters push tiny-classification {path}")


def test_an_adapter_below_its_base_is_remarked_on_and_not_pushed(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "score_base", lambda _: Evaluation({"accuracy": 1.0, "macro_f1": 1.0}))
    publisher = FakePublisher()
    code, out, err = invoke(recipe_path, "--push", "--max-steps", "1", "--seed", "1", publisher=publisher)
    assert (code, publisher.calls) == (command.NOT_PUSHED, ["check"])
    assert "warning: the adapter scores below its base: accuracy " in out
    path = recipe_path.parent / "adapters" / FINAL
    assert f"to push it anyway: headmix adapters push tiny-classification {path}" in err
    training = open_artifact(path).config.training
    assert training["warnings"][0].startswith("the adapter scores below its base: accuracy ")
    assert invoke(recipe_path, "--force", "--max-steps", "1", "--seed", "1")[0] == 0


def test_held_out_texts_that_are_also_trained_on_are_remarked_on(recipe_path: Path) -> None:
    recipe_path.write_text(recipe_path.read_text().replace("classification.eval", "classification.train"))
    code, out, _ = invoke(recipe_path, "--max-steps", "1")
    assert code == 0
    assert "warning: 30 of 30 held-out texts are also training texts" in out


def test_the_header_names_no_folder_of_this_machine(recipe_path: Path, tmp_path: Path) -> None:
    recipe_path.write_text(recipe_path.read_text().replace('"classification.', f'"{tmp_path}/classification.'))
    assert invoke(recipe_path, "--max-steps", "1")[0] == 0
    training = open_artifact(recipe_path.parent / "adapters" / FINAL).config.training
    assert training["recipe"]["data"]["train"] == "classification.train.jsonl"
    assert str(tmp_path) not in json.dumps(training)
