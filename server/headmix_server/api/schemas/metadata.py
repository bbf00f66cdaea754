"""Metadata that a client attaches to what it creates, in OpenAI's shape."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from headmix_server.api.schemas.common import Name, Text

MOST_PAIRS = 16


def _require_few_pairs(value: object) -> object:
    """Refuse too many pairs before they are read one by one, each with faults of its own."""
    if isinstance(value, dict) and len(value) > MOST_PAIRS:
        raise ValueError(f"metadata has at most {MOST_PAIRS} pairs")
    return value


Metadata = Annotated[
    dict[Annotated[Name, Field(min_length=1, max_length=64)], Annotated[Text, Field(max_length=512)]],
    Field(max_length=MOST_PAIRS),
    BeforeValidator(_require_few_pairs),
]
