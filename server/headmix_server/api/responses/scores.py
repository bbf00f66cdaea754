"""Log-probabilities as JSON, encoded in parts: between two parts, other tasks get the event loop."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from headmix_server.api.responses.logprobs import chat_logprobs, completion_logprobs, parts_of
from headmix_server.api.responses.whole import JsonList, json_object, object_pieces
from headmix_server.api.schemas.completions import CompletionLogprobs
from headmix_server.text.completion import PlacedLogprob
from headmix_server.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CompletionScores:
    """`schemas.completions.CompletionLogprobs`, each list as growing JSON."""

    tokens: JsonList = field(default_factory=JsonList)
    token_logprobs: JsonList = field(default_factory=JsonList)
    top_logprobs: JsonList = field(default_factory=JsonList)
    text_offset: JsonList = field(default_factory=JsonList)

    def add(self, part: CompletionLogprobs) -> None:
        """Append the scores of a part."""
        self.tokens.extend(part.tokens)
        self.token_logprobs.extend(part.token_logprobs)
        self.top_logprobs.extend(part.top_logprobs)
        self.text_offset.extend(part.text_offset)

    def append(self, others: "CompletionScores") -> None:
        """Append all scores of another."""
        self.tokens.append(others.tokens)
        self.token_logprobs.append(others.token_logprobs)
        self.top_logprobs.append(others.top_logprobs)
        self.text_offset.append(others.text_offset)

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def json(self) -> msgspec.Raw:
        """Return the object."""
        return json_object(**self._fields())

    def pieces(self) -> list[bytes]:
        """Return the object in pieces."""
        return object_pieces(**self._fields())

    def _fields(self) -> dict[str, JsonList]:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }


async def completion_scores(
    tokenizer: Tokenizer,
    entries: Sequence[PlacedLogprob],
    *,
    start: int,
    before: Iterable[CompletionLogprobs] = (),
) -> CompletionScores:
    """Return the scores of tokens whose text begins at `start`, preceded by the parts in `before`."""
    scores = CompletionScores()
    own = (completion_logprobs(tokenizer, part, start=start) for part in parts_of(entries))
    for place, part in enumerate(chain(before, own)):
        if place:
            await asyncio.sleep(0)
        scores.add(part)
    return scores


async def chat_scores(tokenizer: Tokenizer, entries: Sequence[PlacedLogprob]) -> JsonList:
    """Return the entries of `schemas.chat.ChatLogprobs.content`."""
    content = JsonList()
    for place, part in enumerate(parts_of(entries)):
        if place:
            await asyncio.sleep(0)
        for entry in chat_logprobs(tokenizer, part).content:
            content.add(entry)
    return content
