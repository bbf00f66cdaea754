"""JSON that every reader understands the same way: no duplicate keys, no NaN, no lone surrogates, bounded depth.

Owns the parsing only; the caller interprets the values.
"""

import json
from typing import NoReturn


def parse_strict(data: bytes) -> object:
    """Parse UTF-8 JSON text.

    Raises:
        ValueError: the text is not JSON, or readers may interpret it differently; the message says what and where.
    """
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        # An escaped lone surrogate parses but can be neither printed nor stored.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a string holds a lone surrogate") from None
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {json.dumps(key[:120])} appears twice")
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
