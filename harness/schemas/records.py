"""Schemas like those of real services and tools: nested records with names, lists, choices and references."""

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_NAMES = (
    "id",
    "name",
    "status",
    "created_at",
    "tags",
    "owner",
    "items",
    "price",
    "currency",
    "address",
    "city",
    "lines",
)
_CHOICES = (["open", "closed"], ["low", "medium", "high"], ["EUR", "USD"], ["GET", "POST", "PUT", "DELETE"])


def record_schema(seed: int) -> Schema:
    """Return a random record: an object of two to five properties, up to three levels deep."""
    rng = random.Random(seed)
    schema = _object(rng, 3)
    if rng.random() < 0.3:
        schema["$defs"] = {"part": _object(rng, 1)}
        schema["properties"]["part"] = {"$ref": "#/$defs/part"}
    if rng.random() < 0.5:
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Record {seed}", **schema}
    return schema


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_NAMES, rng.randint(2, 5))
    properties = {name: _value(rng, depth - 1) for name in names}
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": rng.sample(names, rng.randint(1, len(names))),
    }
    if rng.random() < 0.8:
        schema["additionalProperties"] = False
    return schema


def _value(rng: random.Random, depth: int) -> Schema:
    flat: list[Callable[[], Schema]] = [
        lambda: {"type": "boolean"},
        lambda: {"type": "integer", "minimum": 0, "maximum": rng.choice((9, 150, 65535))},
        lambda: {"type": "number", "minimum": 0, "maximum": 100},
        lambda: {"type": "string", "maxLength": rng.choice((4, 12)), "description": "a short text"},
        lambda: {"type": "string", "enum": rng.choice(_CHOICES)},
        lambda: {"type": "string", "format": rng.choice(("date", "uuid", "ipv4"))},
        lambda: {"type": "string", "pattern": rng.choice(("^[a-z]{2,5}$", "^[A-Z]{2}-[0-9]+$", "^#[0-9a-f]{6}$"))},
        lambda: {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        lambda: {"type": ["string", "null"], "maxLength": 6},
        lambda: {"const": rng.choice((1, "v1", None))},
    ]
    nested: list[Callable[[], Schema]] = [
        lambda: _object(rng, depth),
        lambda: {"type": "array", "items": _value(rng, depth - 1), "maxItems": rng.randint(1, 3)},
        lambda: {"anyOf": [_object(rng, depth), {"type": "null"}]},
        lambda: {"type": "object", "additionalProperties": _value(rng, 0)},
        lambda: {"type": "array", "items": _value(rng, 0), "uniqueItems": True},  # cannot be enforced
    ]
    return rng.choice(flat if depth <= 0 or rng.random() < 0.6 else nested)()
