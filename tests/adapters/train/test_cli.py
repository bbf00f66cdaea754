"""`headmix train`: what it writes and prints, and that every mistake gives one clear line and an exit status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.machine.cpus import CpuBudget
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


def test_a_run_draws_its_pictures_in_the_format_asked_for(recipe_path: Path) -> None:
    folder = recipe_path.parent / "adapters"
    for options, kinds in (((), [".svg"]), (("--plot", "png"), [".png"]), (("--plot", "none"), [])):
        code, _, err = invoke(recipe_path, "--max-steps", "2", "--force", *options)
        assert code == 0
        drawn = sorted(path.name for path in folder.iterdir() if path.suffix not in (".safetensors", ".jsonl"))
        assert drawn == [f"tiny-classification.{what}{kind}" for kind in kinds for what in ("curves", "heads")]
        assert ("drew " in err) == bool(kinds)


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
        (("tiny.toml", "--eval-only", "--push"), "--eval-only trains nothing"),
        (("tiny.toml", "--eval-only", "--events", "e.jsonl"), "--events follows training"),
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
