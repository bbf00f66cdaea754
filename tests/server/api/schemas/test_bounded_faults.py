"""An invalid body gives only a few faults, however long it is: validation stops at the first of each kind."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from headmix_server.api import routes
from headmix_server.api.middleware.error_responses import request_error
from headmix_server.api.schemas.body import RequestBody

for module in pkgutil.iter_modules(routes.__path__):  # every route, and so every body type
    importlib.import_module(f"{routes.__name__}.{module.name}")

MANY = 20_000
FEW = 4
WRONG: dict[str, Any] = {
    "objects": [{}] * MANY,
    "lists": [[]] * MANY,
    "lists of objects": [[{}] * 10] * (MANY // 10),
    "texts": ["x"] * MANY,
    "half characters": ["\ud800"] * MANY,
    "numbers": [0.5] * MANY,
    "negatives": [-1] * MANY,
    "nulls": [None] * MANY,
    "texts, then numbers": ["x", *range(MANY)],
    "names": {str(number): {} for number in range(MANY)},
    "empty messages": [{"role": "user"}] * MANY,
    "bad parts": [{"role": "user", "content": [{}] * MANY}],
    "unknown fields": [{str(number): 1 for number in range(MANY)}],
}


def faults_of(body: type[RequestBody], given: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        body.model_validate(given)
    except ValidationError as refused:
        return [{**fault, "loc": ("body", *fault["loc"])} for fault in refused.errors()]
    return []


def bodies(root: type[RequestBody] = RequestBody) -> Iterator[type[RequestBody]]:
    for body in root.__subclasses__():
        yield body
        yield from bodies(body)


BODIES = sorted({body for body in bodies() if body.__module__.startswith("headmix_server")}, key=lambda b: b.__name__)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_no_field_of_any_body_makes_more_than_a_few_faults_and_a_short_message(
    body: type[RequestBody], wrong: object
) -> None:
    valid = json.loads('{"model": "m", "prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}')
    valid = {name: value for name, value in valid.items() if name in body.model_fields}
    missing = sum(field.is_required() for field in body.model_fields.values())
    for name in body.model_fields:
        faults = faults_of(body, {**valid, name: wrong})
        assert len(faults) <= FEW + missing
        if faults:
            told = request_error(faults)
            assert len(told.message) < 300
            assert len(told.param or "") < 100


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_of_many_unknown_parameters_one_is_named(body: type[RequestBody]) -> None:
    with pytest.raises(ValidationError) as refused:
        body.model_validate({f"unknown{number}": number for number in range(MANY)})
    assert refused.value.error_count() == 1
    assert refused.value.errors()[0]["ctx"]["name"] == "unknown0"
