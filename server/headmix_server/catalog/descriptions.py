"""The descriptions of artifacts for people: example prompts and training history.

They may be large, so they have their own table, which no inference request and no list reads.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from headmix_adapters.config import AdapterConfig, ExamplePrompt
from headmix_server.catalog.tables import DescriptionRow
from headmix_server.database import reading

_EXAMPLES = msgspec.json.Decoder(tuple[ExamplePrompt, ...])
_TRAINING = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Description:
    """Prompts the adapter was trained for, and its free-form `training`; None if that is too large to be shown."""

    examples: tuple[ExamplePrompt, ...] = ()
    training: dict[str, Any] | None = None


def describe(session: Session, digest: str, config: AdapterConfig) -> None:
    """Store the description in a config, next to the artifact's row."""
    session.add(
        DescriptionRow(
            digest=digest,
            examples=msgspec.json.encode(config.examples).decode(),
            training=msgspec.json.encode(config.training).decode(),
            created_by=config.created_by,
        )
    )


def forget(session: Session, digest: str) -> None:
    """Remove the stored description, before the artifact's row is removed."""
    session.execute(delete(DescriptionRow).where(DescriptionRow.digest == digest))


class Descriptions:
    """The descriptions of all artifacts. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, digest: str) -> Description:
        """Return an artifact's description, or an empty one if the artifact is gone."""
        with reading(self._engine) as session:
            row = session.get(DescriptionRow, digest)
        if row is None:
            return Description()
        training = None if row.training is None else _TRAINING.decode(row.training)
        return Description(_EXAMPLES.decode(row.examples), training)
