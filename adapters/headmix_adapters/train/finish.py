"""The end of a run: the artifact on disk, verified, its history and the file's own scores in its header."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from headmix_adapters.artifact import digest_file, verify_artifact
from headmix_adapters.artifact.tensors import load_tensors
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.train.evaluate import Scores
from headmix_adapters.train.material import Material
from headmix_adapters.train.score import score_artifact


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made: the artifact, its digest, its held-out scores and the base's (None: not defined)."""

    artifact: Path
    digest: str
    scores: Scores
    base_scores: Scores | None


def write_result(
    material: Material,
    artifact: Path,
    tensors: dict[str, Tensor],
    record: dict[str, Any],
    base_scores: Scores | None,
) -> Result:
    """Write the file, score what was written (its weights are rounded), and write it again with the scores."""
    draft = artifact.with_name(f"{artifact.name}.tmp")
    artifact.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_artifact(draft, material.config, tensors)
        scores = score_artifact(material, draft)
        metrics = {"adapter": scores} | ({} if base_scores is None else {"base": base_scores})
        config = msgspec.structs.replace(material.config, training=record | {"metrics": metrics})
        digest = write_artifact(artifact, config, load_tensors(draft))
    finally:
        draft.unlink(missing_ok=True)
    verify_artifact(artifact, base=material.base.shape)
    return Result(artifact, digest, scores, base_scores)


def training_record(material: Material, steps: int, seconds: float) -> dict[str, Any]:
    """Return what the header tells of how the adapter came to be; `seconds` is this process's share of the training."""
    data = {"train": material.train, "eval": material.eval}
    return {
        # By its name: what the recipe says may be a path on this machine, and the artifact travels.
        "recipe": msgspec.to_builtins(material.recipe) | {"base": material.base.name},
        "data": {
            name: {
                "file": path.name,
                "digest": digest_file(path),
                "examples": len(data[name].examples),
                "tokens": data[name].tokens,
                "truncated": data[name].truncated,
                "dropped": data[name].dropped,
                "excluded": data[name].excluded,
            }
            for name, path in material.files.items()
        },
        "layers": list(material.layers),
        "steps": steps,
        "seed": material.recipe.training.seed,
        "seconds": round(seconds),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
