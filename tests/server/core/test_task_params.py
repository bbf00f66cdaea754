"""Every `match` on a sequence's task names every kind, so that a new one is a type error."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import headmix_server
from headmix_server.core.messages import FromEngine, Output, Request, ToEngine
from headmix_server.core.types import SamplingParams, TaskParams

KINDS = {kind.__name__ for union in (TaskParams, Request, ToEngine, Output, FromEngine) for kind in get_args(union)}
SOURCE = Path(headmix_server.__file__).parent
READ_BY_THE_ENGINE_AND_ITS_CLIENTS = ("engine", "device", "engine_client", "llm", "core")


def modules() -> Iterator[Path]:
    for folder in READ_BY_THE_ENGINE_AND_ITS_CLIENTS:
        yield from (SOURCE / folder).rglob("*.py")


def matches_of_kinds(module: Path) -> Iterator[ast.Match]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Match):
            classes = {
                c.cls.id for c in ast.walk(node) if isinstance(c, ast.MatchClass) and isinstance(c.cls, ast.Name)
            }
            if classes & KINDS:
                yield node


def test_every_match_of_kinds_names_them_all_or_does_not_type_check() -> None:
    found = [(module, match) for module in modules() for match in matches_of_kinds(module)]
    assert len({module.name for module, _ in found}) >= 8
    open_ended = [
        f"{module.name}:{match.lineno}" for module, match in found if "assert_never" not in ast.unparse(match.cases[-1])
    ]
    assert open_ended == []


@pytest.mark.parametrize("forbidden", ["sampling is None", "sampling is not None", "embedding is None"])
def test_no_kind_is_recognized_by_what_is_missing(forbidden: str) -> None:
    assert [module.name for module in modules() if forbidden in module.read_text()] == []


def test_the_kinds_are_three() -> None:
    assert len(get_args(TaskParams)) == len(get_args(Request)) == 3
    assert SamplingParams in get_args(TaskParams)
