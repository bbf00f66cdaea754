"""The paper's claim on a small scale: Kernel-mix, its lite form and LoRA in one trainer, with equal data and budgets.

Every run is one line of a results file, and runs already in it are not repeated, so a stopped benchmark continues where
it left off; the page is written from all of them.

    python -m benchmarks.method                     everything: about 35 minutes of one core
    python -m benchmarks.method minilm-category     one task
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import torch

from benchmarks.method_page import Run, read_runs, render_page
from benchmarks.method_tasks import COMPARISONS, EXAMPLES, Comparison, budgets, choose, contender, starting_recipe
from harness.machine import describe_machine
from headmix_adapters.inject import AdaptedModel, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import SplitBackbone, split_backbone
from headmix_adapters.train.data.batches import by_length, collate
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.data.prefix import with_prefix_states
from headmix_adapters.train.prepare import Material, base_family, load_material
from headmix_adapters.train.scoring.evaluate import Scores, answer_scores, deciding_score, evaluate_classifier
from headmix_adapters.train.scoring.prototypes import evaluate_prototypes
from headmix_adapters.train.terminal.progress import Progress
from headmix_adapters.train.trainer import fit, training_arguments

SEEDS = (1, 2, 3)
BASE_ALONE = "base alone"
SCORING_BATCH = 32
DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Prepared:
    """A task's base and examples; `split` if the layers below the adapters were computed in advance."""

    task: Comparison
    material: Material
    train: list[Example]
    held_out: list[Example]
    split: SplitBackbone | None


def prepare(task: Comparison) -> Prepared:
    """Load a task and compute what is the same for every run."""
    material = load_material(starting_recipe(task), EXAMPLES)
    train, held_out = choose(task, material.train.examples, material.eval.examples)
    lowest = min(contender(task, name, material.base.shape)[1][0] for name in task.contenders)
    split = split_backbone(backbone_of(material.model), lowest)
    if split is not None:
        device = material.model.device
        train = with_prefix_states(train, split, device, SCORING_BATCH)
        held_out = with_prefix_states(held_out, split, device, SCORING_BATCH)
    return Prepared(task, material, train, held_out, split)


def train_one(prepared: Prepared, name: str, rate: float, seed: int) -> Scores:
    """Train one contender once and return its held-out scores after the last epoch."""
    task, material = prepared.task, prepared.material
    config, layers = contender(task, name, material.base.shape)
    table = msgspec.structs.replace(material.recipe.training, learning_rate=rate, seed=seed)
    adapter = attach(material.model, config, layers, dropout=table.dropout, seed=seed)
    kind = LanguageModel if config.classifier is None else ClassifierModel
    model = kind(material.model, adapter, label_smoothing=table.label_smoothing)
    if prepared.split is not None:
        model.use_split(prepared.split)
    scored: list[Scores] = []

    def score() -> Scores:
        scored.append(held_out_scores(model, prepared.held_out))
        return scored[-1]

    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = training_arguments(table, Path(folder), deciding_score(config.classifier))
            fit(model, prepared.train, score, arguments, Progress())
    finally:
        adapter.detach()
    return scored[-1]


def held_out_scores(model: AdaptedModel, examples: Sequence[Example]) -> Scores:
    """Return accuracy and F1, or the answers' loss in nats per token, of a model in its current state."""
    if isinstance(model, ClassifierModel):
        return evaluate_classifier(model, examples, SCORING_BATCH).scores
    return {"answer_nll": _answer_loss(cast("LanguageModel", model), examples)}


@torch.no_grad()
def _answer_loss(model: LanguageModel, examples: Sequence[Example]) -> float:
    training = model.training
    model.train(mode=False)
    total, count = 0.0, 0
    for batch in by_length(examples, SCORING_BATCH):
        tensors = collate(batch)
        tokens = int((tensors["labels"][:, 1:] != IGNORED).sum())
        total += float(cast("torch.Tensor", model(**tensors).loss)) * tokens
        count += tokens
    model.train(training)
    return total / count


def base_scores(prepared: Prepared) -> Scores:
    """Return the base's own scores on the same held-out examples."""
    material = prepared.material
    train, held_out = choose(prepared.task, material.train.examples, material.eval.examples)
    classifier = material.recipe.classifier
    if classifier is None:
        return answer_scores(material.model, held_out, SCORING_BATCH)
    if base_family(material.base).generates:
        raise ValueError("the classification task of this benchmark is an encoder's")
    alone = evaluate_prototypes(material.model, classifier, train, held_out, SCORING_BATCH)
    return {} if alone is None else alone.scores


def run_task(task: Comparison, results: Path) -> None:
    """Add the missing runs to the results file."""
    done = {run.key for run in read_runs(results)}
    wanted = [(name, rate, seed) for rate in task.rates for seed in SEEDS for name in task.contenders]
    if all(Run.key_of(task.recipe, *which) in done for which in [(BASE_ALONE, 0.0, 0), *wanted]):
        return
    prepared = prepare(task)
    parameters = budgets(task, prepared.material.base.shape) | {BASE_ALONE: 0}
    _add(results, task, (BASE_ALONE, 0.0, 0), parameters, partial(base_scores, prepared), done)
    for which in wanted:
        _add(results, task, which, parameters, partial(train_one, prepared, *which), done)


def _add(
    results: Path,
    task: Comparison,
    which: tuple[str, float, int],
    parameters: dict[str, int],
    score: Callable[[], Scores],
    done: set[tuple[str, str, float, int]],
) -> None:
    name, rate, seed = which
    if Run.key_of(task.recipe, name, rate, seed) in done:
        return
    started = time.process_time()
    value = score()[task.measured]
    run = Run(
        task=task.recipe,
        method=name,
        rate=rate,
        seed=seed,
        parameters=parameters[name],
        measured=task.measured,
        score=value,
        cpu_seconds=round(time.process_time() - started, 1),
        machine=describe_machine(),
    )
    with results.open("ab") as file:
        file.write(msgspec.json.encode(run) + b"\n")
    print(f"{run.task}: {run.method}, rate {run.rate}, seed {run.seed}: {run.measured} {run.score:.4f}", flush=True)


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(COMPARISONS), help="which tasks (default: all)")
    parser.add_argument("--results", type=Path, default=DOCS / "method.jsonl", help="the runs, one JSON object a line")
    parser.add_argument("--page", type=Path, default=DOCS / "method.md", help="the page to write")
    options = parser.parse_args()
    for name in options.tasks:
        run_task(COMPARISONS[name], options.results)
    options.page.write_text(render_page(read_runs(options.results)), encoding="utf-8")


if __name__ == "__main__":
    main()
