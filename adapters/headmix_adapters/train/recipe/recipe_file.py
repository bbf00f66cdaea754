"""Writes a recipe as a TOML file that reads back as the same recipe; default values are left out."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.train.errors import TargetError
from headmix_adapters.train.recipe.recipe import Recipe

_HEAD = "# A recipe of `headmix train`; docs/training.md explains every key.\n"
# JSON strings are valid TOML strings, except for the one control character that JSON leaves unescaped.
_DELETE = "\x7f"


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe as TOML."""
    fields = msgspec.to_builtins(recipe)
    examples = fields.pop("examples") if recipe.examples else []
    plain = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in fields.items() if isinstance(value, dict)}
    parts = [_HEAD + _lines(plain, recipe)]
    parts += [f"[{name}]\n{_lines(table, getattr(recipe, name))}" for name, table in tables.items()]
    parts += [f"[[examples]]\n{_lines(one, made)}" for one, made in zip(examples, recipe.examples or (), strict=True)]
    return "\n".join(parts)


def write_recipe(path: Path, recipe: Recipe, *, force: bool) -> None:
    """Write a recipe to a file; `force` replaces an existing one.

    Raises:
        TargetError: the file exists already, or cannot be written.
    """
    if path.exists() and not force:
        raise TargetError(f"{path} exists; --force replaces it")
    try:
        write_durably(path, recipe_text(recipe).encode())
    except OSError as error:
        raise TargetError(f"{path} cannot be written: {error.strerror or error}") from error


def _lines(values: Mapping[str, object], owner: msgspec.Struct) -> str:
    defaults = {field.name: field.default for field in msgspec.structs.fields(owner)}
    kept = {
        name: value for name, value in values.items() if value is not None and getattr(owner, name) != defaults[name]
    }
    return "".join(f"{name} = {_value(value)}\n" for name, value in kept.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(name)} = {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace(_DELETE, "\\u007f")
