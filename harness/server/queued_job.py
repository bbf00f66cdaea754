"""Fine-tuning jobs as the server queues them, once it has checked their data."""

from pathlib import Path
from typing import Any

import msgspec

from headmix_adapters.train.recipe.recipe import Recipe
from headmix_server.files.files import Files
from headmix_server.fine_tuning.request import DataFile, FineTuning, Hyperparameters

FINGERPRINT = "sha256:" + "0" * 64
"""Of a base that no trainer loads."""


def put_bytes(files: Files, path: Path) -> str:
    """Store a local file's bytes for a day without anything that refers to them, and return their digest."""
    with files.bytes.receive(max_bytes=path.stat().st_size) as upload:
        upload.write(path.read_bytes())
        files.writer.stage(upload)
        return upload.digest


def checked_request(
    files: Files, data: Path, *, fingerprint: str = FINGERPRINT, labels: tuple[str, ...] = ("b", "c"), **training: Any
) -> FineTuning:
    """Store a data file and return the request to train a classifier on it."""
    file = DataFile(id="file-1", digest=put_bytes(files, data), filename=data.name, size_bytes=data.stat().st_size)
    recipe = {
        "name": "tone",
        "base": "a-base",
        "task": "classification",
        "adapter": {"preset": "lite-qv", "rank_q_shared": 2},
        "classifier": {"pooling": "last", "kind": "linear", "labels": labels},
        "data": {"train": "training.jsonl", "max_length": 160},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.02, "seed": 3} | training,
    }
    return FineTuning(
        name="tone",
        base="a-base",
        fingerprint=fingerprint,
        training=file,
        hyperparameters=Hyperparameters(n_epochs=1, batch_size=4, learning_rate_multiplier=1.0),
        seed=3,
        actor="key_1",
        recipe=msgspec.convert(recipe, Recipe),
    )
