"""The method benchmark compares like with like, and its page reports the results of its runs."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from benchmarks.method_page import Run, read_runs, render_page
from benchmarks.method_tasks import COMPARISONS, budgets, choose
from harness.adapters.artifacts import tiny_base_shape
from headmix_adapters.config import BaseShape
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.recipe.recipe import AdapterTable

MINILM = tiny_base_shape(
    model_type="bert", hidden_size=384, num_layers=6, num_heads=12, num_kv_heads=12, head_dim=32, gated_mlp=False
)
SMOLLM = tiny_base_shape(hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64)


@pytest.mark.parametrize(("task", "base"), [("minilm-category", MINILM), ("kingjames", SMOLLM)])
def test_contenders_have_the_same_budget_within_five_percent(task: str, base: BaseShape) -> None:
    found = budgets(COMPARISONS[task], base)
    assert found.keys() == {"Kernel-mix", "Kernel-mix lite", "LoRA"}
    assert max(found.values()) <= 1.05 * min(found.values())


def test_a_contender_with_another_budget_is_refused() -> None:
    task = COMPARISONS["kingjames"]
    larger = AdapterTable(method="lora", rank=40, sites=("q", "v", "o"), layers=(24, 30))
    unfair = dataclasses.replace(task, contenders={**task.contenders, "LoRA": larger})
    with pytest.raises(ValueError, match="five percent"):
        budgets(unfair, SMOLLM)


def test_every_run_sees_the_same_examples_and_none_is_trained_on_and_scored() -> None:
    task = COMPARISONS["minilm-category"]
    train = [Example([number], 0) for number in range(1500)]
    held_out = [Example([-number], 0) for number in range(1, 400)]
    chosen, scored = choose(task, train, held_out)
    assert (chosen, scored) == choose(task, train, held_out)
    assert (len(chosen), len(scored)) == (task.train, task.held_out + task.spare)
    assert not {example.input_ids[0] for example in chosen} & {example.input_ids[0] for example in scored}


def test_the_page_shows_mean_and_spread_of_the_runs_in_the_results_file(tmp_path: Path) -> None:
    runs = [
        Run(
            task="kingjames", method="LoRA", rate=1.25e-3, seed=seed, parameters=12345, measured="answer_nll",
            score=score, cpu_seconds=1.0, machine={"date": "2026-01-01", "cpu": "a CPU", "torch": "2"},
        )
        for seed, score in ((2, 1.3), (1, 1.1), (3, 1.2))
    ]  # fmt: skip
    results = tmp_path / "runs.jsonl"
    assert read_runs(results) == []
    results.write_bytes(b"\n".join(msgspec.json.encode(run) for run in runs))
    page = render_page(read_runs(results))
    assert "| LoRA | 12,345 | 0.00125 | 1.200 | 0.100 | 1.100, 1.300, 1.200 |" in page
    assert "minilm-category: accuracy" not in page


@pytest.mark.drift
def test_the_published_page_is_the_one_its_runs_give() -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "method.md").read_text() == render_page(read_runs(docs / "method.jsonl"))
