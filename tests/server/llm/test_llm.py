import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from harness.adapters.artifacts import random_artifact
from harness.adapters.peft_lora import RENAMED, random_peft_lora
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import make_tiny_llama
from headmix_adapters.artifact import ArtifactError
from headmix_adapters.base import resolve_base
from headmix_adapters.inject import load_adapter
from headmix_server import LLM, Choice, JsonText, SamplingParams
from headmix_server.core.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, TaskMismatch
from headmix_server.core.grammar import GrammarError
from headmix_server.core.messages import Output
from headmix_server.core.runner import Batch as Step
from headmix_server.core.runner import RowResult
from headmix_server.core.types import FinishReason
from headmix_server.llm.local_model import Prompt
from headmix_server.text.tokenizer import load_tokenizer
from tests.server.llm.conftest import SMALL

GREEDY = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)
PROMPTS: list[Prompt] = ["the quick brown fox", "jumps over", [30, 41, 52, 77, 9]]


def watch_steps(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Record every batch that the engine runs."""
    steps: list[Step] = []
    run = llm._engine.runner.run

    def noted(batch: Step) -> Sequence[RowResult]:
        steps.append(batch)
        return run(batch)

    monkeypatch.setattr(llm._engine.runner, "run", noted)
    return steps


@pytest.mark.parametrize("name", [None, "a", "b", "c"])
def test_tokens_are_those_of_transformers(llm: LLM, folder: Path, name: str | None) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    if name is not None:
        load_adapter(model, folder / f"{name}.safetensors")
    tokenizer = load_tokenizer(folder / "base")
    for prompt, generation in zip(PROMPTS, llm.generate(PROMPTS, adapter=name, sampling=GREEDY), strict=True):
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        tokens = list(ids)
        with torch.inference_mode():
            for _ in range(8):
                tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        assert list(generation.tokens) == tokens[len(ids) :]
        assert generation.prompt_tokens == len(ids)
        assert generation.finish_reason is FinishReason.LENGTH
        assert generation.text == tokenizer.decode(tokens[len(ids) :])


def test_inputs_of_every_kind_and_adapter_run_in_one_step_and_answer_as_each_does_alone(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [
        llm.generate(prompt, adapter=name, sampling=GREEDY)[0] for prompt, name in zip(PROMPTS, "abc", strict=True)
    ]
    mood, topics = llm.classify("jumps over", adapter="mood"), llm.classify("jumps over", adapter="topics")
    vectors = llm.embed(["fox", "fox"], adapter=[None, "a"])
    steps = watch_steps(llm, monkeypatch)
    batch = llm.batch()
    generations = batch.generate(PROMPTS, adapter=list("abc"), sampling=GREEDY)
    classes = batch.classify(["jumps over"] * 2, adapter=["mood", "topics"])
    embeddings = batch.embed(["fox", "fox"], adapter=[None, "a"])
    batch.run()
    assert generations.results() == alone
    assert [entry.label for entry in classes.results()] == [mood[0].label, topics[0].label]
    for together, before in zip(classes.results(), mood + topics, strict=True):
        assert together.scores == pytest.approx(before.scores, abs=1e-5)
    for vector, before_it in zip(embeddings.results(), vectors, strict=True):
        assert vector.vector == pytest.approx(before_it.vector, abs=1e-5)
    assert vectors[0].vector != pytest.approx(vectors[1].vector, abs=1e-3)
    assert max(len(step.rows) for step in steps) == 7
    assert llm._engine.idle


def test_a_conversation_is_answered_by_the_bases_template(llm: LLM, folder: Path) -> None:
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "fox"}]
    text = llm._model.render(messages)
    assert "system" in text
    ids = load_tokenizer(folder / "base").encode(text, add_special_tokens=False)
    assert llm.chat(messages, sampling=GREEDY) == llm.generate(ids, sampling=GREEDY)
    two = llm.chat([messages, messages[1:]], adapter=["a", "b"], sampling=GREEDY)
    assert two[0] == llm.chat(messages, adapter="a", sampling=GREEDY)[0]
    assert two[0] != two[1]


def test_a_base_without_a_template_says_so(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with LLM(str(tmp_path), **SMALL) as llm, pytest.raises(InvalidRequest, match="no chat template: use generate"):
        llm.chat([{"role": "user", "content": "fox"}])


def test_a_stop_string_ends_the_text_and_the_engines_work(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = llm.generate("fox", sampling=SamplingParams(max_tokens=40, temperature=0, ignore_eos=True))
    stop = whole.text[3:5]
    steps = watch_steps(llm, monkeypatch)
    (cut,) = llm.generate(
        "fox", sampling=SamplingParams(max_tokens=40, temperature=0, ignore_eos=True, logprobs=1), stop=[stop]
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason is FinishReason.STOP
    assert len(steps) < 20
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert [entry.token for entry in cut.logprobs] == list(cut.tokens)
    assert llm._engine.idle


def test_samples_differ_within_a_call_and_can_be_had_again(llm: LLM) -> None:
    sampling = SamplingParams(max_tokens=6, temperature=1.5, seed=7, ignore_eos=True)
    first = llm.generate(["fox"] * 5, sampling=sampling)
    assert len({entry.tokens for entry in first}) == 5
    assert llm.generate(["fox"] * 5, sampling=sampling) == first
    own = [SamplingParams(max_tokens=6, temperature=1.5, seed=8, ignore_eos=True)] * 2
    assert llm.generate(["fox"] * 2, sampling=own) == [first[1]] * 2


def test_a_multi_label_head_gives_the_labels_that_reach_a_half(llm: LLM) -> None:
    (found,) = llm.classify("the quick brown fox", adapter="topics")
    assert found.labels == tuple(label for label, score in found.scores.items() if score >= 0.5)
    assert found.label == max(found.scores, key=found.scores.__getitem__)
    (single,) = llm.classify("the quick brown fox", adapter="mood")
    assert single.labels == ()
    assert sum(single.scores.values()) == pytest.approx(1)


def test_what_cannot_run_is_refused_by_name_before_anything_runs(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = watch_steps(llm, monkeypatch)
    with pytest.raises(ModelNotFound, match=r"There is no adapter 'd'; the adapters are: a, b, c, mood, topics\."):
        llm.generate("fox", adapter="d")
    with pytest.raises(TaskMismatch, match=r"'mood' is a classifier: use classify\(\)"):
        llm.generate("fox", adapter="mood")
    with pytest.raises(TaskMismatch, match="'a' is not a classifier"):
        llm.classify("fox", adapter="a")
    with pytest.raises(InvalidRequest, match="adapter has 1 entries for 2 inputs"):
        llm.embed(["fox", "dog"], adapter=["a"])
    with pytest.raises(InvalidRequest, match="sampling has 2 entries for 1 inputs"):
        llm.generate("fox", sampling=[GREEDY, GREEDY])
    with pytest.raises(InvalidRequest, match="A prompt is empty"):
        llm.generate(["fox", ""])
    with pytest.raises(InvalidRequest, match="Token ids must be from 0 to 511"):
        llm.generate([1, 512])
    assert steps == []


def test_one_inputs_failure_leaves_the_others_results(llm: LLM) -> None:
    batch = llm.batch()
    prompts: list[Prompt] = ["fox", [5] * 250]
    pending = batch.generate(prompts, sampling=GREEDY)
    with pytest.raises(RuntimeError, match="has not run"):
        pending.results()
    batch.run()
    good, bad = pending.outcomes()
    assert good == llm.generate("fox", sampling=GREEDY)[0]
    assert isinstance(bad, ContextLengthExceeded)
    with pytest.raises(ContextLengthExceeded):
        pending.results()


def test_more_inputs_than_may_wait_are_all_answered(folder: Path) -> None:
    with LLM(str(folder / "base"), max_waiting=3, max_running=2, **SMALL) as llm:
        answers = llm.generate(["fox"] * 11, sampling=GREEDY)
    assert len(answers) == 11
    assert {entry.tokens for entry in answers} == {answers[0].tokens}


def test_an_interrupted_batch_leaves_nothing_behind(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([True, True, False])
    step = llm._engine.step

    def interrupted() -> list[Output]:
        if not next(steps, True):  # the third step only
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(llm._engine, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["fox"] * 3, adapter="a", sampling=GREEDY)
    assert llm._engine.idle
    assert len(llm.generate("fox", adapter="a", sampling=GREEDY)) == 1


def test_an_adapter_that_is_replaced_or_removed_no_longer_answers(llm: LLM, folder: Path) -> None:
    before = llm.generate("fox", adapter="a", sampling=GREEDY)
    llm.add_adapter("a", folder / "b.safetensors")
    assert llm.generate("fox", adapter="a", sampling=GREEDY) == llm.generate("fox", adapter="b", sampling=GREEDY)
    assert llm.generate("fox", adapter="a", sampling=GREEDY) != before
    llm.remove_adapter("b")  # "a" has the same bytes, and keeps them
    assert llm.generate("fox", adapter="a", sampling=GREEDY) != before
    llm.remove_adapter("a")
    assert llm.adapters == ("c", "mood", "topics")
    with pytest.raises(ModelNotFound):
        llm.generate("fox", adapter="a")
    llm.generate("fox", sampling=GREEDY)
    assert llm._engine.tiers.slots.digests() == []


def test_a_bad_replacement_leaves_the_adapter_that_was_there(llm: LLM, tmp_path: Path) -> None:
    before = llm.generate("fox", adapter="a", sampling=GREEDY)
    (tmp_path / "bad.safetensors").write_bytes(b"no artifact")
    with pytest.raises(ArtifactError):
        llm.add_adapter("a", tmp_path / "bad.safetensors")
    assert llm.generate("fox", adapter="a", sampling=GREEDY) == before


def test_a_bad_adapter_or_setting_ends_the_start_with_its_fault(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no artifact")
    with pytest.raises(ArtifactError):
        LLM(str(folder / "base"), adapters={"bad": tmp_path / "bad.safetensors"}, **SMALL)
    with pytest.raises(ValidationError, match="adapter_slot"):
        LLM(str(folder / "base"), adapter_slot=3)


@pytest.mark.filterwarnings(RENAMED)
def test_a_peft_folder_serves_as_it_is(folder: Path, tmp_path: Path) -> None:
    base = resolve_base(str(folder / "base"))
    oracle = random_peft_lora(tmp_path / "lora", base, r=3, target_modules=["q_proj", "v_proj"])
    with LLM(str(folder / "base"), adapters={"lora": tmp_path / "lora"}, **SMALL) as llm:
        (found,) = llm.generate([30, 41, 52], adapter="lora", sampling=GREEDY)
        converted = Path(llm._model.adapters._converted.name)
        assert converted.exists()
    assert not converted.exists()
    tokens = [30, 41, 52]
    with torch.inference_mode():
        for _ in range(8):
            tokens.append(int(oracle(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    assert list(found.tokens) == tokens[3:]


def test_an_adapters_own_tokens_are_read_and_are_unknown_to_others(folder: Path, tmp_path: Path) -> None:
    shape = resolve_base(str(folder / "base")).shape
    random_artifact(tmp_path / "w.safetensors", shape, added_tokens=("<a>", "<b>"))
    with LLM(str(folder / "base"), adapters={"w": tmp_path / "w.safetensors"}, **SMALL) as llm:
        (own,) = llm.generate("<a>", adapter="w", sampling=GREEDY)
        (other,) = llm.generate("<a>", sampling=GREEDY)
        assert own.prompt_tokens < other.prompt_tokens
        llm.generate([512], adapter="w", sampling=GREEDY)
        with pytest.raises(InvalidRequest, match="from 0 to 511"):
            llm.generate([512], sampling=GREEDY)


def test_an_encoder_classifies_and_embeds_and_refuses_to_generate(tmp_path: Path) -> None:
    FAMILIES["bert"].make(tmp_path / "bert")
    with LLM(str(tmp_path / "bert"), **SMALL) as llm:
        (one,) = llm.embed("fox", normalize=False)
        (unit,) = llm.embed("fox", pooling="cls")
        assert sum(value * value for value in unit.vector) == pytest.approx(1)
        assert len(one.vector) == len(unit.vector)
        with pytest.raises(TaskMismatch, match="is an encoder"):
            llm.generate("fox")


def test_threads_that_share_it_get_their_own_answers(llm: LLM) -> None:
    expected = {name: llm.generate("fox", adapter=name, sampling=GREEDY) for name in "abc"}
    found: dict[str, object] = {}

    def ask(name: str) -> None:
        found[name] = llm.generate("fox", adapter=name, sampling=GREEDY)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_importing_the_server_loads_neither_torch_nor_the_llm() -> None:
    program = "import sys, headmix_server; assert not {'torch', 'headmix_server.llm'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_program_that_uses_it_has_its_standard_output_for_itself(folder: Path) -> None:
    program = (
        "import sys; from headmix_server import LLM, SamplingParams\n"
        f"with LLM({str(folder / 'base')!r}, kv_cache_mib=1, adapter_slots=2) as llm:\n"
        "    print(len(llm.generate(['fox'] * 9, sampling=SamplingParams(max_tokens=2, ignore_eos=True))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "9\n"
    assert "info" not in done.stderr


def test_an_adapter_is_judged_by_the_limits_of_an_upload(folder: Path) -> None:
    with (
        LLM(str(folder / "base"), max_adapter_rank=1, **SMALL) as llm,
        pytest.raises(ArtifactError, match="rank"),
    ):
        llm.add_adapter("a", folder / "a.safetensors")
    with LLM(str(folder / "base"), max_adapter_metadata_kib=1, **SMALL) as llm:
        shape = resolve_base(str(folder / "base")).shape
        random_artifact(folder / "wordy", shape, training={"notes": "x" * 2000})
        with pytest.raises(ArtifactError, match="training"):
            llm.add_adapter("wordy", folder / "wordy")


def test_a_form_binds_every_answer(llm: LLM) -> None:
    answers = llm.generate(PROMPTS, form=Choice(("yes", "no")), sampling=SamplingParams(max_tokens=9, temperature=1.5))
    assert {answer.text for answer in answers} <= {"yes", "no"}
    assert {answer.finish_reason for answer in answers} == {FinishReason.STOP}
    with pytest.raises(GrammarError, match='"not"'):
        llm.generate(PROMPTS, form=JsonText({"not": {}}))


def test_an_adapters_own_chat_template_renders_its_chats_and_no_others(folder: Path, tmp_path: Path) -> None:
    own = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    base, path = resolve_base(str(folder / "base")), tmp_path / "own.safetensors"
    random_artifact(path, base.shape, seed=5, scale=0.3, chat_template=own)
    messages = [{"role": "user", "content": "fox"}]
    with LLM(str(folder / "base"), adapters={"own": path}, **SMALL) as llm:
        ids = load_tokenizer(base.folder).encode("user: fox ", add_special_tokens=False)
        assert llm.chat(messages, adapter="own", sampling=GREEDY) == llm.generate(ids, adapter="own", sampling=GREEDY)
        alone = llm.chat(messages, sampling=GREEDY)
        assert llm.chat([messages] * 2, adapter=["own", None], sampling=GREEDY)[1] == alone[0]


def test_several_adapters_add_up_and_a_list_still_has_one_entry_per_input(llm: LLM) -> None:
    both, alone, base, turned = llm.generate(
        [PROMPTS[2]] * 4, adapter=[{"a": 0.5, "b": 0.5}, "a", None, {"b": 0.5, "a": 0.5}], sampling=GREEDY
    )
    assert both.tokens == turned.tokens
    assert alone.tokens == llm.generate([PROMPTS[2]], adapter={"a": 1.0}, sampling=GREEDY)[0].tokens
    assert base.tokens == llm.generate([PROMPTS[2]], adapter={"a": 0.0, "b": 0.0}, sampling=GREEDY)[0].tokens
    assert len({both.tokens, alone.tokens, base.tokens}) == 3
    (for_all,) = llm.generate([PROMPTS[2]], adapter={"a": 0.5, "b": 0.5}, sampling=GREEDY)
    assert for_all.tokens == both.tokens


def test_the_first_of_several_classifies_and_embeddings_are_of_the_sum(llm: LLM) -> None:
    (scaled,), (alone,) = (llm.classify("x", adapter=adapter) for adapter in ({"mood": 1.0, "a": 3.0}, "mood"))
    assert scaled.scores.keys() == alone.scores.keys()
    assert scaled.scores != alone.scores
    assert llm.embed("x", adapter={"a": 3.0})[0].vector != llm.embed("x", adapter="a")[0].vector


@pytest.mark.parametrize(
    "adapter",
    [{}, {"a": 0.1, "b": 1, "c": 1, "mood": 1, "topics": 1}, {"a": float("nan")}, {"a": 11.0}, [{"a": 1.0}, "b"]],
)
def test_adapters_that_cannot_be_added_up_are_refused(llm: LLM, adapter: Any) -> None:
    with pytest.raises(InvalidRequest):
        llm.generate("x", adapter=adapter)


def test_an_unknown_adapter_and_a_classifier_among_several_are_refused(llm: LLM) -> None:
    with pytest.raises(ModelNotFound):
        llm.generate("x", adapter={"a": 1.0, "nobody": 1.0})
    with pytest.raises(TaskMismatch):
        llm.generate("x", adapter={"a": 1.0, "mood": 1.0})
    with pytest.raises(TaskMismatch):
        llm.classify("x", adapter={"a": 1.0, "mood": 1.0})
