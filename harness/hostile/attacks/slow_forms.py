"""Forms that are costly to compile or to enforce: each is `structured_outputs`, slightly different every time.

A form that differs is not found among those that the server has already tried.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

Form = Mapping[str, Any]


def _repeated(rng: random.Random) -> Form:
    return {"regex": f"(a{{{rng.randint(500, 999)}}}b?){{1000}}"}


def _alternatives(rng: random.Random) -> Form:
    return {"regex": f"({'|'.join(f'a{rng.randrange(10**6)}.*b' for _ in range(200))})*c"}


def _ambiguous(rng: random.Random) -> Form:
    levels = "\n".join(
        f"{name}: {following} {following} | {following}" for name, following in zip("abcde", "bcdef", strict=True)
    )
    return {"grammar": f'start: a\n{levels}\nf: "x{rng.randrange(99)}" | "x" | f f'}


def _multiple(rng: random.Random) -> Form:
    return {"json": {"type": "integer", "multipleOf": rng.choice((99_991, 199_999, 999_983)) + rng.randrange(50)}}


def _many_values(rng: random.Random) -> Form:
    return {"json": {"enum": [f"{rng.randrange(10**6)}{place}" for place in range(4_000)]}}


def _many_objects(rng: random.Random) -> Form:
    names = [f"p{rng.randrange(10**6)}" for _ in range(40)]
    objects = [{"type": "object", "properties": {name: {} for name in names[:place]}} for place in range(1, 40)]
    return {"json": {"anyOf": objects}}


def _deep(rng: random.Random) -> Form:
    schema: dict[str, Any] = {"const": rng.random()}
    for _ in range(150):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return {"json": schema}


def _circular(rng: random.Random) -> Form:
    word = f"d{rng.randrange(10**6)}"
    either = [{"$ref": f"#/$defs/{word}"}, {"type": "array", "items": {"$ref": f"#/$defs/{word}"}}]
    return {"json": {"$ref": f"#/$defs/{word}", "$defs": {word: {"anyOf": either}}}}


def _many_choices(rng: random.Random) -> Form:
    return {"choice": [f"{rng.randrange(10**4)}{place}" for place in range(6_000)]}


SLOW_FORMS: tuple[Callable[[random.Random], Form], ...] = (
    *(_repeated, _alternatives, _ambiguous, _multiple, _many_values, _many_objects, _deep, _circular, _many_choices),
)
