"""The end of a run: the verified artifact on disk, with its history and the file's own scores in its header."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from headmix_adapters.artifact import Limits, digest_file, verify_artifact
from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.artifact.metadata import training_fault
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.train.checkpoints.run_folder import RunRecord
from headmix_adapters.train.errors import DivergedError
from headmix_adapters.train.fitted import Fit
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.scoring.evaluate import Evaluation, deciding_score
from headmix_adapters.train.scoring.score import score_artifact
from headmix_adapters.train.scoring.verdict import is_below, warnings
from headmix_adapters.train.terminal.advice import advise


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run: the artifact, its digest, its held-out scores, its optimizer steps; the scores of the
    base and of a linear classifier (None: not defined), and remarks on them.
    """

    artifact: Path
    digest: str
    adapter: Evaluation
    steps: int = 0
    base: Evaluation | None = None
    probe: Evaluation | None = None
    below_base: bool = False
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def write_result(material: Material, artifact: Path, fitted: Fit, history: dict[str, Any], record: RunRecord) -> Result:
    """Write the file, score what was written (its weights are rounded), and write it again with the scores.

    Raises:
        DivergedError: a score is not a number.
    """
    draft = artifact.with_name(f".{artifact.name}.draft")
    artifact.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_artifact(draft, material.config, fitted.tensors)
        result = _judged(material, artifact, score_artifact(material, draft), fitted, record)
        metrics = {"adapter": result.adapter.scores}
        metrics |= {} if result.base is None else {"base": result.base.scores}
        metrics |= {} if result.probe is None else {"linear_probe": result.probe.scores}
        training = recordable(
            history | {"metrics": metrics} | ({"warnings": result.warnings} if result.warnings else {})
        )
        config = msgspec.structs.replace(material.config, training=training)
        write_artifact(draft, config, load_tensors(draft))
        verify_artifact(draft, base=material.base.shape)
        draft.replace(artifact)
        sync_path(artifact.parent)
    finally:
        draft.unlink(missing_ok=True)
    return replace(result, digest=digest_file(artifact))


def _judged(material: Material, artifact: Path, adapter: Evaluation, fitted: Fit, record: RunRecord) -> Result:
    if not adapter.is_finite:
        raise DivergedError(fitted.steps, "the adapter's scores are not finite: train with a lower learning_rate")
    recipe, held_out, count = material.recipe, material.eval.examples, len(material.eval.examples)
    texts, deciding = (material.train.examples, held_out), deciding_score(recipe.classifier)
    return Result(
        artifact=artifact,
        digest="",
        adapter=adapter,
        steps=fitted.steps,
        base=record.base,
        probe=record.probe,
        below_base=is_below(adapter, record.base, deciding),
        warnings=warnings(adapter, record.base, record.probe, deciding, texts),
        advice=advise(fitted.curve, recipe.training, steps=fitted.steps, planned=fitted.planned, held_out=count),
    )


def recordable(training: dict[str, Any]) -> dict[str, Any]:
    """Return as much of a run's history as fits in a header: a recipe of endless labels must not cost an adapter."""
    for left_out in ((), ("recipe",), ("recipe", "data", "warnings")):
        rest = {name: value for name, value in training.items() if name not in left_out}
        if training_fault(rest, Limits()) is None:
            return rest
    return {}


def training_record(material: Material, steps: int) -> dict[str, Any]:
    """Return the header's record of how the adapter was trained; an interrupted run has the same."""
    data = {"train": material.train, "eval": material.eval}
    recipe = msgspec.to_builtins(material.recipe)
    del recipe["examples"]  # the header has fields of its own for these
    # Only file names: the recipe may have paths on this machine, and the artifact is shared.
    files = {name: path.name for name, path in material.files.items() if recipe["data"].get(name)}
    if material.recipe.chat_template is not None:
        recipe["chat_template"] = Path(material.recipe.chat_template).name
    return {
        "recipe": recipe | {"base": material.base.name, "data": recipe["data"] | files},
        "data": {
            name: {
                "file": path.name,
                "digest": digest_file(path),
                "examples": len(data[name].examples),
                "tokens": data[name].tokens,
                "truncated": data[name].truncated,
                "dropped": data[name].dropped,
                "excluded": data[name].excluded,
                **({"rows": material.held_out_rows} if name == "eval" and material.held_out_rows is not None else {}),
            }
            for name, path in material.files.items()
        },
        "layers": list(material.layers),
        "steps": steps,
        "seed": material.recipe.training.seed,
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
