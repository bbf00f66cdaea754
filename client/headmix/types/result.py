"""Owns what all responses share: the frozen model base, and the response's metadata (request id, answering adapter)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, PrivateAttr

REQUEST_ID_HEADER = "x-request-id"
ADAPTER_HEADER = "x-headmix-adapter"
ADAPTERS_HEADER = "x-headmix-adapters"

_ADAPTER = re.compile(
    r"(?P<name>[^@\s]+)(?:@(?P<version>\d+))?(?:\s+(?P<digest>sha256:[0-9a-f]+))?(?:\s+(?P<scale>-?[0-9.e+-]+))?"
)

_DIGEST = re.compile(r'"(?P<digest>sha256:[0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """Exactly which adapter answered: its name, its version, and its artifact's digest (`sha256:<hex>`).

    `scale` is what its terms were multiplied by.
    """

    name: str
    version: int | None = None
    digest: str | None = None
    scale: float = 1.0

    def __str__(self) -> str:
        named = self.name if self.version is None else f"{self.name}@{self.version}"
        parts = (named, self.digest, None if self.scale == 1 else repr(self.scale))
        return " ".join(part for part in parts if part is not None)

    @classmethod
    def parse(cls, header: str | None) -> "AdapterRef | None":
        """Parse `name@version sha256:<hex> scale`; return None if there is no header or it has another form."""
        match = _ADAPTER.fullmatch((header or "").strip())
        if match is None:
            return None
        version, scale = match["version"], match["scale"]
        try:
            number = 1.0 if scale is None else float(scale)
        except ValueError:
            return None
        return cls(match["name"], None if version is None else int(version), match["digest"], number)

    @classmethod
    def parse_all(cls, header: str | None) -> "tuple[AdapterRef, ...]":
        """Parse a list of adapters, separated by commas; those of another form are left out."""
        found = (cls.parse(one) for one in (header or "").split(","))
        return tuple(one for one in found if one is not None)


@dataclass(frozen=True, slots=True)
class ResponseMeta:
    """A response's metadata, from outside its body.

    `adapters` are all whose terms were added up, if the request named several or a scaled one. `digest` is that of the
    body's bytes (`sha256:<hex>`), if the server announced it.
    """

    status: int = 200
    request_id: str | None = None
    adapter: AdapterRef | None = None
    adapters: tuple[AdapterRef, ...] = ()
    digest: str | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str]) -> "ResponseMeta":
        """Read the headers (a case-insensitive mapping)."""
        adapters = AdapterRef.parse_all(headers.get(ADAPTERS_HEADER))
        adapter, tag = AdapterRef.parse(headers.get(ADAPTER_HEADER)), _DIGEST.fullmatch(headers.get("etag", ""))
        return cls(status, headers.get(REQUEST_ID_HEADER), adapter, adapters, None if tag is None else tag["digest"])


class Part(BaseModel):
    """A frozen part of a response; fields this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Result(Part):
    """A frozen result that also knows its response's metadata."""

    _meta: ResponseMeta = PrivateAttr(default_factory=ResponseMeta)

    def model_post_init(self, context: object, /) -> None:
        """Take the response's metadata from the validation context."""
        if isinstance(context, ResponseMeta):
            self._meta = context

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, to quote when reporting a problem."""
        return self._meta.request_id

    @property
    def adapter(self) -> AdapterRef | None:
        """The adapter that answered, the first of several; None for the base, or if the request was to no model."""
        return self._meta.adapter

    @property
    def adapters(self) -> tuple[AdapterRef, ...]:
        """All adapters that answered, with their scales, the first one first."""
        adapter = self._meta.adapter
        return self._meta.adapters or (() if adapter is None else (adapter,))


class PromptTokensDetails(Part):
    """How many of the prompt's tokens the server had already cached."""

    cached_tokens: int = 0


class Usage(Part):
    """The token counts of one request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None
