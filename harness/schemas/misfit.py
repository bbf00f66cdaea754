"""Whether a text is JSON that fits a schema, by another validator than the one that wrote the grammar."""

import json
import re
from decimal import Decimal

import jsonschema_rs

from harness.schemas.keywords import Schema

EXPONENT = 300


def misfit(schema: Schema, text: str) -> str:
    """Return why a text does not fit a schema, or an empty string; nothing is said of what is no schema."""
    validator = _validator(schema)
    if validator is None:
        return ""
    try:
        validator.validate(json.loads(text, parse_float=_number))
    except ValueError as error:
        return str(error)
    return ""


def _number(text: str) -> Decimal:
    """Return a number, with an exponent that validators can compute with: a grammar bounds none."""
    mantissa, _, exponent = re.sub("E", "e", text).partition("e")
    return Decimal(f"{mantissa}e{max(-EXPONENT, min(EXPONENT, int(exponent or 0)))}")


def _validator(schema: Schema) -> jsonschema_rs.Draft202012Validator | jsonschema_rs.Draft7Validator | None:
    """Return a schema's validator: of draft 2020-12, else of draft 7, where `items` may be a list."""
    given = schema if isinstance(schema, bool) else dict(schema)
    for kind in (jsonschema_rs.Draft202012Validator, jsonschema_rs.Draft7Validator):
        try:
            return kind(given)
        except ValueError:
            continue
    return None
