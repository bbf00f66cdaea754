"""Reads the JSON files of a model folder without transformers. Callers interpret the fields."""

import json
from pathlib import Path

from headmix_adapters.base.errors import BaseError


def read_json_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a file.

    Raises:
        BaseError: the file is missing, cannot be read, or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaseError(f"{path.parent} has no {path.name}: it is not a model folder") from None
    except (OSError, ValueError) as error:
        raise BaseError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BaseError(f"{path} is not a JSON object")
    return value
