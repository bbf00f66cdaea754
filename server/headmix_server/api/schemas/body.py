"""The bases of all bodies: requests are understood in full or refused, responses are typed."""

from types import MappingProxyType
from typing import ClassVar

import msgspec
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from headmix_server.api.schemas.neutral import Neutral, asks_for_nothing

UNSUPPORTED = "unsupported_parameter"
"""The type of an error that names the parameter itself, in `ctx["name"]`, relative to the body that raised it."""

_LONGEST_SHOWN = 64


class RequestBody(BaseModel):
    """A body that is understood in full or refused.

    `neutral` lists unsupported parameters, with the values that ask for nothing. With `drops_null`, null is such a
    value for every unknown parameter: clients of many servers send every parameter they know. Only the first refused
    parameter is reported, however many there are.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    neutral: ClassVar[Neutral] = MappingProxyType({})
    drops_null: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _understand(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        known = cls._names()
        unknown = [name for name in body if name not in known]
        if not unknown:
            return body
        for name in unknown:
            cls._require_neutral(name, body[name])
        return {name: value for name, value in body.items() if name in known}

    @classmethod
    def _names(cls) -> frozenset[str]:
        """Return the fields' names as clients write them: pydantic itself has a `json` and a `schema`."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def _require_neutral(cls, name: str, value: object) -> None:
        if value is None and (cls.drops_null or name in cls.neutral):
            return
        accepted = cls.neutral.get(name)
        if accepted is None:
            raise unsupported(name, f"The parameter {shown(name)} is not supported.")
        if not asks_for_nothing(value, accepted):
            values = " and ".join(["null", *(msgspec.json.encode(one).decode() for one in accepted)])
            raise unsupported(name, f"The parameter {shown(name)} is not supported: only {values} are accepted.")


class ResponseBody(BaseModel):
    """A body this server writes."""

    model_config = ConfigDict(frozen=True)


def unsupported(name: str, message: str) -> PydanticCustomError:
    """Return the error for an unsupported parameter, to be raised by the body that contains it."""
    return PydanticCustomError(UNSUPPORTED, "{message}", {"name": encodable(name[:_LONGEST_SHOWN]), "message": message})


def encodable(text: str) -> str:
    """Return a client's text in encodable form: JSON can hold half of a surrogate pair, which UTF-8 cannot encode."""
    return text.encode(errors="backslashreplace").decode()


def shown(text: str) -> str:
    """Return a client's text quoted for an error message, shortened to a readable length."""
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


class ModelBody(RequestBody):
    """A body for a model to work on; `user` is the end user on whose behalf the client asks."""

    model: str
    user: str | None = None

    @property
    def num_choices(self) -> int:
        """How many completions it requests, for all its prompts together."""
        return 1

    @property
    def num_inputs(self) -> int | None:
        """How many texts it has for which nothing is generated; None on routes that generate."""
        return None

    @property
    def inputs_param(self) -> str:
        """The parameter that holds these texts."""
        return "input"
