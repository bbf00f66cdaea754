"""Runs one cell of the plan: trains an adapter through the product's trainer and scores it after the last step."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import torch

from benchmarks.method.methods import Budget, adapter_of
from benchmarks.method.prepare import Prepared
from benchmarks.method.results import Cell, Result
from benchmarks.method.scores import Scored, score_classifier, score_generator
from harness.machine import describe_machine
from headmix_adapters.inject import AttachedAdapter, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.inject.initial import folded_normal
from headmix_adapters.train.data.examples import Encoded
from headmix_adapters.train.errors import DivergedError
from headmix_adapters.train.history.events import Scores
from headmix_adapters.train.scoring.evaluate import answer_scores, deciding_score
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe
from headmix_adapters.train.terminal.progress import Progress
from headmix_adapters.train.trainer import fit, training_arguments

_BATCH = 32


def run_cell(prepared: Prepared, cell: Cell, progress: Progress) -> Result:
    """Return the result of a cell.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
        DivergedError: a final run's loss diverged, so its method's rate is no good.
    """
    began = time.process_time()
    result = _reference(prepared, cell) if cell.part == "reference" else _trained(prepared, cell, progress)
    seconds = round(time.process_time() - began, 1)
    return msgspec.structs.replace(result, cpu_seconds=seconds, machine=describe_machine())


def _reference(prepared: Prepared, cell: Cell) -> Result:
    """Score the base alone: its own loss on the answers, or a linear classifier on its frozen states."""
    if not prepared.task.classifies:
        loss = answer_scores(prepared.material.model, prepared.plain.test, _BATCH)["answer_nll"]
        return Result(cell=cell, test={"loss per token": loss})
    material = replace(
        prepared.material,
        train=Encoded(prepared.plain.train, truncated=0, dropped=0),
        eval=Encoded(prepared.plain.test, truncated=0, dropped=0),
    )
    probe = evaluate_linear_probe(material)
    if probe is None:
        raise ValueError(f"{prepared.task.name} is not a task for a linear classifier")
    return Result(cell=cell, test={"accuracy": probe.scores["accuracy"]})


def _trained(prepared: Prepared, cell: Cell, progress: Progress) -> Result:
    if cell.budget is None or cell.method is None or cell.rate is None or cell.seed is None:
        raise ValueError(f"{cell} names no run")
    material = prepared.material
    table = msgspec.structs.replace(material.recipe.training, learning_rate=cell.rate, seed=cell.seed)
    adapter = _attach(prepared, cell.method, cell.budget, cell.seed)
    model = _adapted(prepared, adapter)
    classifier = material.recipe.classifier
    try:
        with tempfile.TemporaryDirectory(prefix="headmix-method-") as folder:
            examples = prepared.splits.train
            arguments = training_arguments(table, Path(folder), deciding_score(classifier), len(examples))
            fitted = fit(model, examples, _unscored, arguments, progress)
        result = Result(cell=cell, parameters=prepared.parameters(cell.budget)[cell.method], steps=fitted.steps)
        if cell.part == "tuning":
            return msgspec.structs.replace(result, validation=_score(prepared, model, test=False).scores)
        scored = _score(prepared, model, test=True)
        return msgspec.structs.replace(result, test=scored.scores, outcomes=scored.outcomes, tokens=scored.tokens)
    except DivergedError:
        if cell.part != "tuning":
            raise
        return Result(cell=cell, parameters=prepared.parameters(cell.budget)[cell.method], diverged=True)
    finally:
        adapter.detach()


def _attach(prepared: Prepared, method: str, budget: Budget, seed: int) -> AttachedAdapter:
    """Attach a method's adapter; the classification head's first values are the same for every method."""
    material = prepared.material
    config = adapter_of(method, prepared.task.base, budget, material.base.shape, material.recipe.task)
    config = msgspec.structs.replace(config, classifier=material.recipe.classifier)
    dropout = material.recipe.training.dropout
    adapter = attach(material.model, config, material.layers, dropout=dropout, seed=seed)
    if adapter.head is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in adapter.head.tensors().values():
                tensor.copy_(folded_normal(tuple(tensor.shape), generator))
    return adapter


def _adapted(prepared: Prepared, adapter: AttachedAdapter) -> AdaptedModel:
    kind = ClassifierModel if prepared.task.classifies else LanguageModel
    model = kind(prepared.material.model, adapter)
    if prepared.backbone is not None:
        model.use_split(prepared.backbone)
    return model


def _score(prepared: Prepared, model: AdaptedModel, *, test: bool) -> Scored:
    examples = prepared.splits.test if test else prepared.splits.validation
    if isinstance(model, ClassifierModel):
        return score_classifier(model, examples)
    return score_generator(cast("LanguageModel", model), examples, prepared.beginnings if test else None)


def _unscored() -> Scores:
    """Score nothing after an epoch: only the last step's adapter is scored, and only once."""
    return {}
