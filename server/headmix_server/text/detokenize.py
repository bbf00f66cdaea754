"""Token ids to text as they arrive: what a completion adds to its prompt, never half a character.

A completion's text is the decoded prompt and completion minus the decoded prompt. Nothing is decoded again for each
token: byte-level tokens are bytes and are joined as such (`_Bytes`); other decoders get the last few tokens again as
context (`_Windows`), because they treat the first token of a text differently.
"""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Protocol

from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.byte_run import REPLACEMENT, ByteRun

_CONTEXT = 4  # tokens
_LONGEST_WINDOW = 32  # tokens; only reached if tokens add no text
_CHARACTER = 4  # bytes in the longest one

NO_MARKERS: Mapping[int, str] = MappingProxyType({})


class Detokenizer:
    """The text of one growing completion: everything `push` and `flush` returned, joined.

    There is one exception to the definition above: see `byte_run` on long invalid runs. `markers` are special tokens
    that are shown, with their texts.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int] = (), markers: Mapping[int, str] = NO_MARKERS
    ) -> None:
        self._text: _Text = _Bytes(tokenizer, prompt) if tokenizer.byte_level else _Windows(tokenizer, prompt)
        self._markers = markers

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens; return the text that is now certain, possibly none."""
        return "".join(map(self._push if self._markers else self._text.push, tokens))

    def _push(self, token: int) -> str:
        marker = self._markers.get(token)
        return self._text.push(token) if marker is None else self._text.flush() + marker

    def flush(self) -> str:
        """Return the text that was held back: at the end, an incomplete character is U+FFFD, as in a full decode."""
        return self._text.flush()


def prompt_text(tokenizer: Tokenizer, prompt: Sequence[int]) -> str:
    """Return a prompt's text without an incomplete character at its end, which the completion shows."""
    if tokenizer.byte_level:
        return tokenizer.decode(prompt).removesuffix(_incomplete_end(tokenizer, prompt).decode(errors="replace"))
    open_bytes = ByteRun(_last_run(tokenizer, prompt)).open_bytes
    shown = [*_shown_from_the_end(tokenizer, prompt)][open_bytes:][::-1] if open_bytes else prompt
    return _certain(tokenizer, tokenizer.decode(shown))


class _Text(Protocol):
    def push(self, token: int) -> str: ...

    def flush(self) -> str: ...


class _Bytes:
    """The text of byte-level tokens."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder.decode(_incomplete_end(tokenizer, prompt))

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.token_bytes(token) or b"")

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Windows:
    """The text of any decoder's tokens: what decoding context and new tokens adds to decoding the context.

    Tokens that represent bytes are not decoded in windows: their text depends on the whole run.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._run = ByteRun(_last_run(tokenizer, prompt))
        first = self._run.open_bytes
        last = [*islice(_shown_from_the_end(tokenizer, prompt), first + _CONTEXT)]
        self._context = last[first:][::-1]
        self._shown = _certain(tokenizer, tokenizer.decode(self._context))
        self._pending: list[int] = []
        self._first_run = last[:first][::-1]  # the byte tokens that a text begins with

    def push(self, token: int) -> str:
        if self._tokenizer.is_hidden(token):
            return ""
        byte = self._tokenizer.fallback_byte(token)
        if byte is None:
            return self._close_run() + self._push_text(token)
        released = self._slide(self._decode()) if self._pending else ""
        if self._context:
            return released + self._run.push(byte)
        self._first_run.append(token)
        return self._begin(self._run.push(byte))

    def flush(self) -> str:
        return self._close_run() + (self._slide(self._decode()) if self._pending else "")

    def _push_text(self, token: int) -> str:
        self._pending.append(token)
        text = self._decode()
        certain = _certain(self._tokenizer, text)
        if (certain == text != self._shown) or len(self._pending) >= _LONGEST_WINDOW:
            return self._slide(text)
        fresh = certain[len(self._shown) :]
        self._shown = certain if fresh else self._shown
        return fresh

    def _slide(self, text: str) -> str:
        """Return the part of the window's text that was not shown; its tokens become the context of the next ones."""
        fresh = text[len(self._shown) :]
        self._context, self._pending = self._pending[-_CONTEXT:], []
        self._shown = _certain(self._tokenizer, self._tokenizer.decode(self._context))
        return fresh

    def _close_run(self) -> str:
        return self._begin(self._run.close())

    def _begin(self, text: str) -> str:
        """Return the text of a run; at the very beginning, the decoder decides whether a leading space remains."""
        if self._context or not text:
            return text
        shown = self._first_run[: len(text.encode())]
        self._context, self._first_run = shown[-_CONTEXT:], []
        self._shown = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(shown)

    def _decode(self) -> str:
        return self._tokenizer.decode([*self._context, *self._pending])


def _shown_from_the_end(tokenizer: Tokenizer, tokens: Sequence[int]) -> Iterator[int]:
    return (token for token in reversed(tokens) if not tokenizer.is_hidden(token))


def _incomplete_end(tokenizer: Tokenizer, tokens: Sequence[int]) -> bytes:
    """Return the bytes at the end of byte-level tokens that begin a character but do not complete it."""
    raw = b""
    for token in _shown_from_the_end(tokenizer, tokens):
        raw = (tokenizer.token_bytes(token) or b"") + raw
        if len(raw) >= _CHARACTER:
            break
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(raw)
    return decoder.getstate()[0]


def _last_run(tokenizer: Tokenizer, tokens: Sequence[int]) -> bytes:
    """Return the bytes of the byte tokens at the end."""
    values = map(tokenizer.fallback_byte, _shown_from_the_end(tokenizer, tokens))
    return bytes(value for value in takewhile(lambda value: value is not None, values) if value is not None)[::-1]


def _certain(tokenizer: Tokenizer, text: str) -> str:
    """Cut what may be the first bytes of a character: up to three replacement characters, one per byte."""
    if not tokenizer.byte_fallback:  # otherwise `ByteRun` handles these bytes
        for _ in range(3):
            text = text.removesuffix(REPLACEMENT)
    return text
