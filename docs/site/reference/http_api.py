"""The page on every route and body, from the OpenAPI document that the tests compare with the application."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.site.reference.markdown import anchor, as_sentence, code, table

DOCUMENT = Path(__file__).parents[3] / "tests" / "server" / "api" / "openapi.json"

_HEAD = """# HTTP API: every route

Each route, its parameters, bodies and errors, generated from the OpenAPI document that a server returns as
`GET /openapi.json`. [The API's page](../api.md) explains how they behave, with examples.

"""

_USUAL = "Successful Response"
"""What FastAPI writes if a route does not describe a response."""

_ERROR = "An error: "

Json = Mapping[str, Any]


def http_api_page() -> str:
    """Return the page."""
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    tags: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            (tag,) = operation["tags"]
            tags.setdefault(tag, []).append(_operation(method, path, operation))
    routes = "".join(f"## Routes: {tag}\n\n{''.join(parts)}" for tag, parts in tags.items())
    schemas = document["components"]["schemas"]
    bodies = "".join(_schema(name, schemas[name]) for name in sorted(schemas))
    return f"{_HEAD}{routes}## Errors\n\n{_errors(document)}## Bodies\n\n{bodies}"


def _operation(method: str, path: str, operation: Json) -> str:
    parameters = table(
        ("parameter", "in", "type", ""),
        (
            (code(item["name"]), item["in"], _type(item["schema"]), _about(item["schema"], item.get("required", False)))
            for item in operation.get("parameters", ())
        ),
    )
    sent = "".join(_body(kind, body["schema"]) for kind, body in _contents(operation.get("requestBody", {})))
    return (
        f"### {method.upper()} {path}\n\n{operation['description']}\n\n{parameters}{sent}"
        f"{table(('status', 'answer'), _answers(operation['responses']))}"
    )


def _contents(holder: Json) -> Iterator[tuple[str, Json]]:
    yield from holder.get("content", {}).items()


def _body(kind: str, schema: Json) -> str:
    return f"Body, {code(kind)}: {_type(schema)}\n\n{_fields(schema)}"


def _answers(responses: Json) -> Iterator[tuple[str, str]]:
    """Yield the responses specific to this route: those that are not declared errors."""
    for status in sorted(responses):
        said = responses[status]["description"]
        if said.startswith(_ERROR):
            continue
        shapes = ", ".join(f"{_type(body['schema'])} ({code(kind)})" for kind, body in _contents(responses[status]))
        yield status, shapes if said == _USUAL and shapes else f"{as_sentence(said)} {shapes}"


def _errors(document: Json) -> str:
    """Return the errors that the routes declare: each status once, with its possible codes."""
    codes = {
        status: answer["description"].removeprefix(_ERROR).removesuffix(".").split(" or ")
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if answer["description"].startswith(_ERROR)
    }
    rows = ((status, ", ".join(map(code, codes[status]))) for status in sorted(codes))
    return f"Any route may answer these; [errors](../errors.md) explains them.\n\n{table(('status', 'codes'), rows)}"


def _schema(name: str, schema: Json) -> str:
    about = schema.get("description", "")
    shape = _fields(schema) or f"{_type(schema)}\n\n"
    return f"### {name}\n\n{about}\n\n{shape}"


def _fields(schema: Json) -> str:
    required = schema.get("required", ())
    return table(
        ("field", "type", ""),
        (
            (code(name), _type(field), _about(field, name in required))
            for name, field in schema.get("properties", {}).items()
        ),
    )


def _about(field: Json, required: bool) -> str:
    default = field.get("default")
    parts = ["Required." if required else ""]
    parts += [as_sentence(field.get("description", ""))]
    parts += [f"Default: {code(json.dumps(default))}." if default is not None else ""]
    return " ".join(part for part in parts if part)


def _type(field: Json) -> str:
    """Return a field's type in words; null, which every optional field accepts, is left out."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in field:
        return " or ".join(_type(kind) for kind in field["anyOf"] if kind.get("type") != "null")
    if "enum" in field:
        return ", ".join(code(json.dumps(value)) for value in field["enum"])
    if "const" in field:
        return code(json.dumps(field["const"]))
    if field.get("type") == "array":
        items = field.get("items", {})
        kinds = [_type(item) for item in field["prefixItems"]] if "prefixItems" in field else [_type(items)]
        return f"list of {', '.join(kinds)}{_bounds(field, 'minItems', 'maxItems')}"
    kind = field.get("format") if field.get("format") == "binary" else field.get("type", "any JSON")
    return f"{kind}{_bounds(field, 'minimum', 'maximum')}{_bounds(field, 'minLength', 'maxLength')}"


def _bounds(field: Json, least: str, most: str) -> str:
    low, high = field.get(least), field.get(most)
    high = None if high is not None and high > 2**53 else high
    low = None if low is not None and low < -(2**53) else low
    unit = " characters" if "Length" in least else " entries" if "Items" in least else ""
    if low is not None and high is not None:
        return f", {low:g} to {high:g}{unit}"
    if high is not None:
        return f", at most {high:g}{unit}"
    return f", at least {low:g}{unit}" if low is not None else ""
