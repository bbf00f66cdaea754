"""A run learns, records the file's scores, and can be stopped and resumed with exactly the same result."""

import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import msgspec
import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open

from headmix_adapters.artifact import digest_file, open_artifact, verify_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.sites import tensor_shapes
from headmix_adapters.train import run as run_module
from headmix_adapters.train.checkpoints.run_folder import RunFolder
from headmix_adapters.train.errors import DivergedError, Interrupted, RecipeError, TrainError
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.recipe.recipe import Recipe
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.save import Result
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import score_artifact, score_model

MaterialMaker = Callable[..., Material]


def interrupt_at(score: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C while the held-out file is scored for the nth time."""
    calls = 0

    def scored(material: Material, model: AdaptedModel) -> Evaluation:
        nonlocal calls
        calls += 1
        if calls == score:
            signal.raise_signal(signal.SIGINT)
        return score_model(material, model)

    monkeypatch.setattr(run_module, "score_model", scored)


def test_a_classifier_learns_what_the_base_does_not_know(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path
) -> None:
    loaded = material("classification", epochs=6)
    result = train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.base is not None
    assert result.adapter.scores["accuracy"] == 1.0 > result.base.scores["accuracy"]


def test_a_generator_learns_its_answer(material: MaterialMaker, reporter: Reporter, tmp_path: Path) -> None:
    training = {"epochs": 8, "label_smoothing": 0.1, "gradient_accumulation": 2}
    loaded = material("generation", adapter={"preset": "gpt2-nlg"}, **training)
    result = train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.base is not None
    assert result.adapter.scores["answer_nll"] < 0.75 * result.base.scores["answer_nll"]


def test_the_recorded_score_is_that_of_the_file_and_the_header_tells_its_history(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, data_folder: Path
) -> None:
    loaded = material("generation", max_steps=3)
    path = tmp_path / "made" / "a.safetensors"
    result = train_adapter(loaded, path, resume=False, reporter=reporter)
    assert {file.name for file in path.parent.iterdir()} == {"a.safetensors", "a.history.jsonl"}
    assert result.digest == digest_file(path)
    artifact = verify_artifact(path, base=loaded.base.shape)
    training = artifact.config.training
    assert result.base is not None
    assert training["metrics"] == {"adapter": score_artifact(loaded, path).scores, "base": result.base.scores}
    assert training["data"]["train"]["digest"] == digest_file(data_folder / "generation.train.jsonl")
    assert (training["steps"], training["seed"], training["layers"]) == (3, 3, [1, 2])
    assert training["versions"].keys() == {"torch", "transformers"}
    assert artifact.layers == (1, 2)
    assert [(example.expect, example.chat) for example in artifact.config.examples] == [("a lazy dog", True)] * 2
    assert "examples" not in training["recipe"]
    assert str(tmp_path.parent) not in msgspec.json.encode(training).decode()


@pytest.mark.parametrize(("max_steps", "accumulation", "steps"), [(20, 1, 16), (16, 1, 16), (20, 3, 6), (5, 3, 5)])
def test_max_steps_ends_training_before_its_epochs_and_never_after_them(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, max_steps: int, accumulation: int, steps: int
) -> None:
    loaded = material("classification", epochs=2, max_steps=max_steps, gradient_accumulation=accumulation)
    result = train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.steps == steps


def test_a_run_leaves_the_base_it_was_given_as_it_was(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path
) -> None:
    loaded = material("classification", max_steps=2)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    after = loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(("layers", "epochs", "saves"), [([1, 3], 2, True), ([1, 3], 1, False), ([0, 3], 2, False)])
def test_frozen_layers_are_computed_once_where_that_pays_and_the_run_says_so(
    material: MaterialMaker, tmp_path: Path, layers: list[int], epochs: int, saves: bool
) -> None:
    loaded = material("classification", adapter={"preset": "lite-qv", "layers": layers}, epochs=epochs, max_steps=1)
    console = Console(file=StringIO(), width=200)
    train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=Reporter(console))
    assert isinstance(console.file, StringIO)
    assert ("the 1 layers below the adapter are computed once" in console.file.getvalue()) == saves


@pytest.mark.parametrize("layers", [[0, 3], [1, 3]])
def test_an_interrupted_run_ends_with_the_same_bytes_as_one_that_was_not(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layers: list[int],
) -> None:
    loaded = material("classification", adapter={"preset": "lite-qv", "layers": layers})
    whole = train_adapter(loaded, tmp_path / "whole.safetensors", resume=False, reporter=reporter)
    path = tmp_path / "stopped.safetensors"
    for score, resume in ((1, False), (1, True)):
        interrupt_at(score, monkeypatch)
        with pytest.raises(Interrupted, match="stopped after step"):
            train_adapter(loaded, path, resume=resume, reporter=reporter)
    monkeypatch.setattr(run_module, "score_model", score_model)
    continued = train_adapter(loaded, path, resume=True, reporter=reporter)
    assert continued.digest == whole.digest
    assert not (tmp_path / "stopped.checkpoints").exists()


@pytest.mark.parametrize("patience", [None, 3])
def test_an_interrupted_run_keeps_the_step_it_stopped_at_though_an_earlier_epoch_scored_better(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None
) -> None:
    accuracies = [0.9, 0.5]

    def worse(*_: object) -> Evaluation:
        accuracy = accuracies.pop(0)
        if not accuracies:
            signal.raise_signal(signal.SIGINT)
        return Evaluation({"accuracy": accuracy, "macro_f1": accuracy})

    monkeypatch.setattr(run_module, "score_model", worse)
    path = tmp_path / "a.safetensors"
    with pytest.raises(Interrupted, match="stopped after step 17 of 24"):
        train_adapter(
            material("classification", early_stopping_patience=patience), path, resume=False, reporter=reporter
        )
    last = RunFolder(path).last_checkpoint()
    assert last is not None
    assert last.name == "checkpoint-17"


def test_a_checkpoint_holds_the_adapter_and_not_the_base(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = material("generation")
    interrupt_at(1, monkeypatch)
    path = tmp_path / "a.safetensors"
    with pytest.raises(Interrupted):
        train_adapter(loaded, path, resume=False, reporter=reporter)
    (checkpoint,) = (tmp_path / "a.checkpoints").glob("checkpoint-*")
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(tensor_shapes(loaded.config, loaded.layers))
    assert not path.exists()


def test_a_new_run_does_not_overwrite_an_unfinished_one_nor_resume_another(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(TrainError, match="nothing to resume"):
        train_adapter(material("generation"), path, resume=True, reporter=reporter)
    interrupt_at(1, monkeypatch)
    with pytest.raises(Interrupted):
        train_adapter(material("generation"), path, resume=False, reporter=reporter)
    with pytest.raises(TrainError, match="unfinished run"):
        train_adapter(material("generation"), path, resume=False, reporter=reporter)
    with pytest.raises(TrainError, match="another recipe"):
        train_adapter(material("generation", seed=4), path, resume=True, reporter=reporter)


def test_a_checkpoint_cut_short_is_passed_over(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = material("generation")
    interrupt_at(1, monkeypatch)
    path = tmp_path / "a.safetensors"
    with pytest.raises(Interrupted):
        train_adapter(loaded, path, resume=False, reporter=reporter)
    torn = tmp_path / "a.checkpoints" / "checkpoint-9999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"epoch": 2')
    monkeypatch.setattr(run_module, "score_model", score_model)
    train_adapter(loaded, path, resume=True, reporter=reporter)
    assert open_artifact(path).config.training["steps"] == 24


def test_training_in_bfloat16_gives_an_artifact_scored_on_the_base_as_it_is_served(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path
) -> None:
    loaded = material("classification", precision="bfloat16", max_steps=2)
    path = tmp_path / "a.safetensors"
    result = train_adapter(loaded, path, resume=False, reporter=reporter)
    assert loaded.model.dtype == (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    assert result.adapter == score_artifact(loaded, path)
    assert all(tensor.isfinite().all() for tensor in load_tensors(path).values())


def test_a_run_that_diverges_ends_with_an_error_and_without_an_artifact(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    wild = material("generation", learning_rate=1e9, warmup_ratio=0, precision="float32")
    with pytest.raises(DivergedError, match="train with a lower learning_rate"):
        train_adapter(wild, path, resume=False, reporter=reporter)
    assert not list(tmp_path.iterdir())


def test_a_base_whose_scores_are_no_numbers_is_not_trained_on(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "score_base", lambda _: Evaluation({"answer_nll": float("nan")}))
    with pytest.raises(TrainError, match="the base's scores are not finite"):
        train_adapter(material("generation"), tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: train with"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory: train with"),
        (SafetensorError("No space left on device"), "a checkpoint cannot be written: No space left"),
    ],
)
def test_a_lack_of_memory_or_disk_is_reported_in_words(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    def fail(*_: object) -> Evaluation:
        raise error

    monkeypatch.setattr(run_module, "score_model", fail)
    with pytest.raises(TrainError, match=message):
        train_adapter(material("generation"), tmp_path / "a.safetensors", resume=False, reporter=reporter)


def test_a_defect_is_not_mistaken_for_a_lack_of_memory(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Evaluation:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(run_module, "score_model", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train_adapter(material("generation"), tmp_path / "a.safetensors", resume=False, reporter=reporter)


def test_ctrl_c_after_the_last_step_loses_nothing_either(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> Result:
        raise KeyboardInterrupt

    loaded, path, whole = material("generation", max_steps=3), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "fit", lambda *_: pytest.fail("it trained again"))
        continued = train_adapter(loaded, path, resume=True, reporter=reporter)
    assert open_artifact(path).config.training["steps"] == 3
    uninterrupted = train_adapter(loaded, whole, resume=False, reporter=reporter)
    one, other = load_tensors(path), load_tensors(whole)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert (continued.adapter, continued.advice) == (uninterrupted.adapter, uninterrupted.advice)


def test_a_recipes_chat_template_renders_the_data_and_belongs_to_the_artifact(
    recipe: Callable[..., Recipe], reporter: Reporter, tmp_path: Path, data_folder: Path
) -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    (data_folder / "own.jinja").write_text(source, encoding="utf-8")
    plain = recipe("generation", max_steps=1)
    own = msgspec.structs.replace(plain, chat_template="own.jinja")
    loaded = load_material(own, data_folder)
    assert loaded.train.tokens < load_material(plain, data_folder).train.tokens
    result = train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    config = open_artifact(result.artifact).config
    assert config.chat_template == source
    assert config.training["recipe"]["chat_template"] == "own.jinja"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "chat_template: .*own.jinja: No such file"),
        (b"  ", "own.jinja is empty"),
        (b"\xff", "not UTF-8"),
        (b"{% for %}", "chat_template: the chat template is not valid"),
        (b"x" * 65_537, "chat_template: 65537 bytes, more than the limit"),
    ],
)
def test_a_recipes_unusable_chat_template_ends_the_run_before_it_begins(
    recipe: Callable[..., Recipe], data_folder: Path, content: bytes | None, reason: str
) -> None:
    path = data_folder / "own.jinja"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=reason):
        load_material(msgspec.structs.replace(recipe("generation"), chat_template="own.jinja"), data_folder)


def test_a_run_is_not_resumed_with_another_template(
    recipe: Callable[..., Recipe],
    reporter: Reporter,
    tmp_path: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = msgspec.structs.replace(recipe("generation"), chat_template="own.jinja")
    source = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    (data_folder / "own.jinja").write_text(source, encoding="utf-8")
    interrupt_at(1, monkeypatch)
    with pytest.raises(Interrupted):
        train_adapter(load_material(own, data_folder), tmp_path / "a.safetensors", resume=False, reporter=reporter)
    (data_folder / "own.jinja").write_text(f"{{# another #}}{source}", encoding="utf-8")
    with pytest.raises(TrainError, match="another recipe"):
        train_adapter(load_material(own, data_folder), tmp_path / "a.safetensors", resume=True, reporter=reporter)
