"""The methods compared have equal budgets on the same sites."""

import pytest

from benchmarks.method import methods
from benchmarks.method.methods import BUDGETS, LORA, METHODS, RANKS, Budget, Contenders, parameters_of, sites_of
from benchmarks.method.tasks import TASKS
from harness.adapters.artifacts import tiny_base_shape
from headmix_adapters.config import BaseShape

SHAPES = {
    "minilm-l6": tiny_base_shape(
        model_type="bert", hidden_size=384, num_layers=6, num_heads=12, num_kv_heads=12, head_dim=32, gated_mlp=False
    ),
    "smollm2-135m-instruct": tiny_base_shape(hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64),
    "gemma3-270m": tiny_base_shape(
        model_type="gemma3_text", hidden_size=640, num_layers=18, num_heads=4, num_kv_heads=1, head_dim=256
    ),
}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("base", "shape"), SHAPES.items(), ids=SHAPES)
def test_budgets_are_within_five_percent(base: str, shape: BaseShape, budget: Budget) -> None:
    found = parameters_of(base, budget, shape, tuple(range(shape.num_layers)))
    assert tuple(found) == METHODS
    assert max(found.values()) <= 1.05 * min(found.values())


def test_an_unequal_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fair = RANKS["minilm-l6", "small"]
    unfair = Contenders(fair.lite, methods.Ranks(12, 12, 12), fair.bd_lora)
    monkeypatch.setattr(methods, "RANKS", {("minilm-l6", "small"): unfair})
    with pytest.raises(ValueError, match="five percent"):
        parameters_of("minilm-l6", "small", SHAPES["minilm-l6"], (0,))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_adapts_q_v_and_o(method: str) -> None:
    assert list(sites_of(method, "minilm-l6", "small").present()) == ["q", "v", "o"]


def test_bd_lora_has_one_block_for_each_head_that_reads_what_loras_do() -> None:
    sites = sites_of("BD-LoRA", "minilm-l6", "small")
    heads = {name: site.head for name, site in sites.present().items()}
    assert {name: head.base for name, head in heads.items() if head} == {"q": "x", "v": "x", "o": "a"}
    assert not any(site.shared for site in sites.present().values())
    assert not any(head.bias for head in heads.values() if head)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such method: DoRA"):
        sites_of("DoRA", "minilm-l6", "small")


def test_every_task_has_ranks_for_its_base() -> None:
    assert {(task.base, budget) for task in TASKS.values() for budget in BUDGETS} == RANKS.keys()


def test_lora_is_initialised_as_peft_does_it_and_kernel_mix_as_its_authors_do() -> None:
    assert [methods.initialised_as(method) for method in METHODS] == ["kernel-mix", "kernel-mix", "lora", "lora"]
    assert LORA in METHODS
