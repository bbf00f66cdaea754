"""What a fine-tuning job was asked to do, as its row keeps it: with it alone a worker trains, and no API is asked.

Owns the JSON of `JobRow.request`. It is written when the job is created, and once more, with the recipe, when its data
has been checked. `recipe` makes the recipe's file of it.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final, Literal

import msgspec

from headmix_adapters.config import Problem, Task
from headmix_adapters.train.recipe.recipe import AdapterTable, Recipe

KIND: Final = "fine_tuning"
"""The kind of these jobs."""

Auto = Literal["auto"]
Publish = Literal["current", "canary", "beside"]

FORMATS: Final = (".jsonl", ".json", ".csv", ".tsv")
"""The formats of data that are read, without Parquet: strangers' files don't reach the large library that reads it."""


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the tenant has uploaded; `digest` says where its bytes are, whatever becomes of the file."""

    id: str
    digest: str
    filename: str
    size_bytes: int

    @property
    def format(self) -> str | None:
        """The extension that tells its format; JSON Lines without any, None if it is another."""
        suffix = PurePosixPath(self.filename).suffix.lower()
        return (suffix or FORMATS[0]) if suffix in {"", *FORMATS} else None

    def local_name(self, stem: str) -> str:
        """Return a safe name for a copy of the file, with the extension that tells its format.

        Files of no known format are not accepted; whatever else they are, they are read as JSON Lines.
        """
        return f"{stem}{self.format or FORMATS[0]}"


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's three; `auto` until the data has been checked."""

    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the adapter: the name's current version, a canary of `percent`, or one beside the current."""

    how: Publish = "current"
    percent: int = 0


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the check of the data has counted: `tokens` are those of one epoch; None if they were not counted."""

    examples: int
    tokens: int | None = None
    held_out: int | None = None


class FineTuning(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request. `name` is the adapter's; `fingerprint` is that of the base. `actor` is the key that asked.

    `recipe` and `counts` are there once the data has been checked; no hyperparameter is `auto` then. The recipe names
    the data files as `training_name` and `validation_name` do, and its base is to be replaced by the worker's.
    """

    name: str
    base: str
    fingerprint: str
    training: DataFile
    validation: DataFile | None = None
    method: Literal["supervised"] = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int
    suffix: str | None = None
    metadata: Mapping[str, str] | None = None
    adapter: AdapterTable | None = None
    task: Task | None = None
    labels: tuple[str, ...] = ()
    problem: Problem | None = None
    ignore: tuple[str, ...] = ()
    max_length: int | None = None
    publish: Publication = Publication()
    actor: str
    recipe: Recipe | None = None
    counts: Counts | None = None

    @property
    def training_name(self) -> str:
        """The training file's name in a worker's folder."""
        return self.training.local_name("training")

    @property
    def validation_name(self) -> str | None:
        """The validation file's name in a worker's folder."""
        return None if self.validation is None else self.validation.local_name("validation")

    def json(self) -> str:
        """Return the text that the job's row keeps."""
        return msgspec.json.encode(self).decode()


_DECODER = msgspec.json.Decoder(FineTuning)


def read_request(text: str) -> FineTuning:
    """Return the request that a job's row keeps."""
    return _DECODER.decode(text)
