"""Runs one cell of the plan: trains an adapter through the product's trainer and scores it after the last step."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import torch
from torch import Tensor

from benchmarks.method.methods import Budget, adapter_of
from benchmarks.method.prepare import Base, Prepared
from benchmarks.method.results import Cell, Result
from benchmarks.method.scores import Scored, score_classifier, score_generator
from harness.machine import describe_machine
from headmix_adapters.config import AdapterConfig
from headmix_adapters.inject import AttachedAdapter, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.inject.initial import folded_normal
from headmix_adapters.train.data.examples import Encoded
from headmix_adapters.train.scoring.evaluate import Scores, answer_scores, deciding_score
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe
from headmix_adapters.train.terminal.progress import Progress
from headmix_adapters.train.trainer import fit, training_arguments


def run_cell(prepared: Prepared, cell: Cell, progress: Progress) -> Result:
    """Return the result of a cell.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
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
    table = msgspec.structs.replace(prepared.material.recipe.training, learning_rate=cell.rate, seed=cell.seed)
    config = adapter_config(prepared, cell.method, cell.budget)
    adapter = attach_new(prepared, config, cell.seed)
    try:
        with tempfile.TemporaryDirectory(prefix="headmix-method-") as folder:
            arguments = training_arguments(table, Path(folder), deciding_score(config.classifier))
            model = _adapted(prepared.training, adapter)
            fitted = fit(model, prepared.splits.train, _unscored, arguments, progress)
    finally:
        adapter.detach()
    result = Result(cell=cell, parameters=prepared.parameters(cell.budget)[cell.method], steps=fitted.steps)
    scored = _score(prepared, config, fitted.tensors, test=cell.part == "final")
    if cell.part == "tuning":
        return msgspec.structs.replace(result, validation=scored.scores)
    return msgspec.structs.replace(result, test=scored.scores, outcomes=scored.outcomes, tokens=scored.tokens)


def adapter_config(prepared: Prepared, method: str, budget: Budget) -> AdapterConfig:
    """Return a method's adapter for a task, with its classification head."""
    recipe = prepared.material.recipe
    config = adapter_of(method, prepared.task.base, budget, prepared.material.base.shape, recipe.task)
    return msgspec.structs.replace(config, classifier=recipe.classifier)


def attach_new(prepared: Prepared, config: AdapterConfig, seed: int) -> AttachedAdapter:
    """Attach a new adapter; the classification head's first values are the same for every method."""
    material = prepared.material
    dropout = material.recipe.training.dropout
    adapter = attach(prepared.training.model, config, material.layers, dropout=dropout, seed=seed)
    if adapter.head is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in adapter.head.tensors().values():
                tensor.copy_(folded_normal(tuple(tensor.shape), generator))
    return adapter


def _adapted(base: Base, adapter: AttachedAdapter) -> AdaptedModel:
    kind = LanguageModel if adapter.head is None else ClassifierModel
    model = kind(base.model, adapter)
    if base.divided is not None:
        model.use_split(base.divided)
    return model


def _score(prepared: Prepared, config: AdapterConfig, tensors: Mapping[str, Tensor], *, test: bool) -> Scored:
    """Score trained tensors on the base for scoring, on the test split or the validation split."""
    examples = prepared.splits.test if test else prepared.splits.validation
    adapter = attach(prepared.scoring.model, config, prepared.material.layers)
    try:
        adapter.load(tensors)
        model = _adapted(prepared.scoring, adapter)
        if isinstance(model, ClassifierModel):
            return score_classifier(model, examples)
        return score_generator(cast("LanguageModel", model), examples, prepared.beginnings if test else None)
    finally:
        adapter.detach()


def _unscored() -> Scores:
    """Score nothing after an epoch: only the last step's adapter is scored, and only once."""
    return {}


_BATCH = 32
