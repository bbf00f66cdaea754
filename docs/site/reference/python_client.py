"""The page on the Python client: its methods, what they return, and its errors."""

import inspect
import typing
from collections.abc import Iterator

from pydantic import BaseModel

import headmix
from docs.site.reference.docstrings import annotation, docstring, signature
from docs.site.reference.markdown import code, table
from headmix import calls, client, errors
from headmix.page import Page
from headmix.types import params

_HEAD = """# Python: `headmix`

Generated from the docstrings of `headmix.Client`. `AsyncClient` has the same methods with the same parameters, each
awaited. [The client's page](../client.md) has examples.

"""
_PARTS = {
    "client": client.Client,
    "client.stream": client.Streams,
    "client.models": client.Models,
    "client.adapters": client.Adapters,
    "client.tenants": client.Tenants,
    "client.keys": client.Keys,
}


def python_client_page() -> str:
    """Return the page."""
    made = f"## Client\n\n{signature('Client', client.Client.__init__, '')}{docstring(client.Client)}"
    methods = "".join(_part(name, part) for name, part in _PARTS.items())
    return f"{_HEAD}{made}{methods}{_parameters()}{_types()}{_errors()}"


def _part(name: str, part: type) -> str:
    title = "## Methods of the client\n\n" if part is client.Client else f"## {name}\n\n{docstring(part)}"
    return title + "".join(_methods(name, part))


def _methods(name: str, part: type) -> Iterator[str]:
    for method, value in vars(part).items():
        if method.startswith("_"):
            continue
        if isinstance(value, calls.Call | calls.StreamCall | calls.PagedCall):
            shown = signature(method, value.build, _returned(value))
            yield f"### {name}.{method}\n\n{shown}{docstring(value.build)}"
        elif callable(value):
            yield f"### {name}.{method}\n\n{signature(method, value)}{docstring(value)}"


def _returned(call: calls.Call[..., object] | calls.StreamCall[..., object] | calls.PagedCall[..., object]) -> str:
    """Return the method's return type; the operation's own type is a request for it."""
    (result,) = typing.get_args(typing.get_type_hints(call.build)["return"])
    if isinstance(call, calls.StreamCall):
        return f"Stream[{annotation(result)}]"
    if isinstance(call, calls.PagedCall) and typing.get_origin(result) is Page:
        (result,) = typing.get_args(result)
        return f"tuple[{annotation(result)}, ...]"
    return annotation(result)


def _parameters() -> str:
    """Return the typed dictionaries that `**params` and `**changes` stand for."""
    shown, seen = "## Parameters\n\n", set[str]()
    for kind in (params.SamplingParams, params.CompletionParams, params.ChatParams, headmix.LimitChanges):
        hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name not in seen}
        seen |= hints.keys() if kind is params.SamplingParams else set()
        rows = [(code(name), code(annotation(hint))) for name, hint in hints.items()]
        shown += f"### {kind.__name__}\n\n{docstring(kind)}{table(('parameter', 'type'), rows)}"
    return shown


def _types() -> str:
    shown = "## What methods return\n\n"
    for name in headmix.__all__:
        kind = getattr(headmix, name)
        if kind in (headmix.Stream, headmix.AsyncStream):
            shown += f"### {name}\n\n{docstring(kind)}"
        elif kind is headmix.AdapterRef or (isinstance(kind, type) and issubclass(kind, BaseModel)):
            shown += f"### {name}\n\n{docstring(kind)}{table(('attribute', 'type', ''), _attributes(kind))}"
    return shown


def _attributes(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield the fields of a result, then the properties derived from them."""
    for name, hint in typing.get_type_hints(kind).items():
        if not name.startswith("_") and name != "model_config":
            yield code(name), code(annotation(hint)), ""
    for name, member in inspect.getmembers(kind, lambda member: isinstance(member, property)):
        if not name.startswith(("model_", "__")):
            yield code(name), code(annotation(member.fget.__annotations__["return"])), member.__doc__ or ""


def _errors() -> str:
    tree = docstring(errors).split("\n", 2)[2]
    shown = f"## Errors\n\n{tree}"
    for name in sorted(headmix.__all__):
        kind = getattr(headmix, name)
        if isinstance(kind, type) and issubclass(kind, headmix.HeadmixError):
            shown += f"### {name}\n\n{docstring(kind)}"
    return shown
