"""LoRAs made by PEFT itself, converted and served together in one batch, answer like PEFT."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from peft import BdLoraConfig, PeftModel

from harness.adapters.peft_lora import RENAMED, random_peft_lora
from harness.bases.families import FAMILIES
from harness.exactness import TOLERANCE, Case, answer_together
from harness.random_prompt import random_prompt
from headmix_adapters.base import resolve_base
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_server.core.settings.settings import Settings
from headmix_server.llm.session import build_engine

TARGETS = {
    "llama": (["q_proj", "v_proj"], ["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "gpt2": (["c_attn"], ["attn.c_proj", "c_fc", "mlp.c_proj"]),
    "bert": (["query", "value"], ["key", "attention.output.dense", "intermediate.dense", "layer.1.output.dense"]),
    "roberta": (["query", "value"], ["key", "attention.output.dense", "intermediate.dense", "layer.1.output.dense"]),
}
TOKENS = 8
PAD = 0


@torch.inference_mode()
def generated(model: PeftModel, prompt: list[int]) -> list[int]:
    tokens = list(prompt)
    for _ in range(TOKENS):
        tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@torch.inference_mode()
def probabilities(model: PeftModel, prompt: list[int]) -> list[float]:
    logits: torch.Tensor = model(input_ids=torch.tensor([prompt])).logits[0]
    return logits.softmax(dim=-1).tolist()


@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.filterwarnings("ignore:.*(lora_bias=True|have invalid shape).*")
@pytest.mark.parametrize("model_type", TARGETS)
def test_loras_of_peft_in_one_batch_answer_as_peft_does(tmp_path: Path, model_type: str) -> None:
    torch.set_num_threads(1)
    FAMILIES[model_type].make(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    causal = FAMILIES[model_type].causal
    oracles: list[PeftModel] = []
    cases: list[Case] = []
    for number, task_type in enumerate(["SEQ_CLS", "SEQ_CLS", *(["CAUSAL_LM", "CAUSAL_LM"] if causal else [])]):
        few, more = TARGETS[model_type]
        targets = few if number % 2 else few + more
        lora = tmp_path / f"peft-{number}"
        config = {"r": 2 + number, "lora_alpha": 5, "lora_bias": targets == few, "use_rslora": number == 1}
        oracle = random_peft_lora(lora, base, task_type=task_type, seed=number, target_modules=targets, **config)
        artifact = tmp_path / f"{number}.safetensors"
        save_converted(convert_source(lora, base), artifact)
        prompts = [random_prompt(5 + 7 * number, base.shape.vocab_size, number)]
        if task_type == "SEQ_CLS":  # their heads skip padding, even if it is longer than a step
            prompts += [[*prompts[0], *[PAD] * count] for count in (1, 2, 20)] + [[PAD, PAD]]
        for prompt in prompts:
            oracles.append(oracle)
            cases.append(Case(task_type, prompt, artifact, TOKENS if task_type == "CAUSAL_LM" else 0))
    budget = 16 if causal else 48  # an encoder reads a text in one step
    engine = build_engine(base, Settings(base="tiny", max_batch_tokens=budget, adapter_slots=8, kv_cache_mib=1))
    answers = answer_together(engine, cases)
    engine.close()
    for case, oracle, answer in zip(cases, oracles, answers, strict=True):
        assert answer.failure is None
        if case.max_tokens:
            assert answer.tokens == generated(oracle, case.prompt)
        else:
            expected = probabilities(oracle, case.prompt)
            assert max(abs(a - b) for a, b in zip(answer.probs, expected, strict=True)) <= TOLERANCE


@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_kindred_methods_in_one_batch_answer_as_peft_does(tmp_path: Path, kernels: Literal["native", "torch"]) -> None:
    torch.set_num_threads(1)
    FAMILIES["llama"].make(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    blocks = {
        count: BdLoraConfig(
            target_modules_bd_a=["o_proj", "down_proj"],
            target_modules_bd_b=["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"],
            nblocks=count,
        )
        for count in (2, 4)
    }
    attention = ["q_proj", "v_proj", "o_proj"]
    methods: list[dict[str, Any]] = [
        {"r": 4, "use_bdlora": blocks[4], "target_modules": attention},
        {"r": 4, "use_bdlora": blocks[2], "target_modules": [*attention, "k_proj", "gate_proj", "down_proj"]},
        {"r": 2, "use_dora": True, "target_modules": [*attention, "k_proj"]},
    ]
    oracles: list[PeftModel] = []
    cases: list[Case] = []
    for number, method in enumerate(methods):
        oracle = random_peft_lora(tmp_path / f"{number}", base, seed=number, lora_alpha=5, **method)
        artifact = tmp_path / f"{number}.safetensors"
        save_converted(convert_source(tmp_path / f"{number}", base), artifact)
        oracles.append(oracle)
        cases.append(Case(str(number), random_prompt(5 + 7 * number, base.shape.vocab_size, number), artifact, TOKENS))
    settings = Settings(base="tiny", max_batch_tokens=16, adapter_slots=4, kv_cache_mib=1, adapter_kernels=kernels)
    engine = build_engine(base, settings)
    answers = answer_together(engine, cases)
    engine.close()
    for case, oracle, answer in zip(cases, oracles, answers, strict=True):
        assert answer.failure is None
        assert answer.tokens == generated(oracle, case.prompt)
