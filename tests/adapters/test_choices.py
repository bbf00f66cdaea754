from typing import Annotated, Literal

import msgspec
import pytest

from headmix_adapters.choices import choices_after


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["a", "b"] | None = None
    pair: tuple[int, Literal["x", "y"]] = (0, "x")


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    task: Annotated[Literal["one", "two"], msgspec.Meta(description="what it does")]
    inner: Inner | None = None
    many: tuple[Literal["q", "k"], ...] = ()
    name: str = ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"task": "three"}', "; it must be one of one, two"),
        ('{"task": "one", "inner": {"kind": "c"}}', "; it must be one of a, b"),
        ('{"task": "one", "many": ["q", "v"]}', "; it must be one of k, q"),
        ('{"task": "one", "inner": {"pair": [1, "z"]}}', "; it must be one of x, y"),
        ('{"task": "one", "name": 1}', ""),
        ('{"task": "one", "more": 1}', ""),
    ],
)
def test_the_choices_follow_the_value_that_is_none_of_them(text: str, told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=Outer)
    assert choices_after(caught.value, Outer) == told
