"""Text to token ids, the slow way: what builds a tokenizer's copy with an adapter's words, or one for plain text.

A copy costs a tenth of a second or more with the interpreter's lock held, so the process that answers HTTP never makes
one: its workers do (`text.workers.worker`), and tests, as the truth that fast paths are compared with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_server.text.plain_text import PlainTextReader

Turn = dict[str, str | None]
"""A message as templates see it."""


class AddedWordsError(Exception):
    """The library numbers the words otherwise than they are served."""


@dataclass(frozen=True, slots=True)
class Words:
    """What an adapter, known by its digest, adds to the base's vocabulary; the first word's id is `first`."""

    digest: str
    words: tuple[str, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rendered conversation and what reads it."""

    text: str
    encode_text: Callable[[str], list[int]]

    def encode(self) -> list[int]:
        """Return its ids.

        Raises:
            UncuttableTokenError: a special token in the turns, to be cut as text, cannot be.
        """
        return self.encode_text(self.text)


class Encoder:
    """Reads texts in one vocabulary: a base's, or with the words that an adapter adds."""

    def __init__(self, base: BaseTokenizer, words: Words | None = None) -> None:
        self._tokenizer = base if words is None else base.with_words(words.words)
        self._inner = self._first = 0
        if words is not None:
            self._inner, self._first = self._number(words.words), words.first

    @property
    def json(self) -> str:
        """The tokenizer as it is written to a file."""
        return str(self._tokenizer.backend.to_str())

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text."""
        return self._own_ids(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def encode_prompt(self, text: str, *, split: bool) -> list[int]:
        """Return the ids of a client's text; `split` cuts special tokens in it as text.

        Raises:
            UncuttableTokenError: one cannot be cut.
        """
        return self.plain_text.encode_text(text) if split else self.encode(text)

    def prepare(self, template: ChatTemplate, turns: Sequence[Turn], *, split: bool) -> "Prepared":
        """Return the prompt that the template makes of a conversation; the template writes the special tokens.

        With `split` only it can: those in the turns are text.

        Raises:
            ChatTemplateError: the template refuses the turns.
        """
        if not split:
            return Prepared(template.render(turns), partial(self.encode, add_special_tokens=False))
        reader = self.plain_text
        hidden = [
            {name: value if value is None or name == "role" else reader.hide(value) for name, value in turn.items()}
            for turn in turns
        ]
        return Prepared(template.render(hidden), partial(reader.encode, add_special_tokens=False))

    @cached_property
    def plain_text(self) -> PlainTextReader:
        """The reader that cuts special tokens in texts as text."""
        return PlainTextReader(self._tokenizer, self._own_ids)

    def _number(self, words: Sequence[str]) -> int:
        """Return the library's number of the first word; the others follow.

        Raises:
            AddedWordsError: they don't.
        """
        numbers = [number for word in words if (number := self._tokenizer.token_id(word)) is not None]
        if not numbers or numbers != list(range(numbers[0], numbers[0] + len(words))):
            raise AddedWordsError("the words are not numbered one after the other")
        return numbers[0]

    def _own_ids(self, ids: list[int]) -> list[int]:
        """Return ids with those of the words moved from where the library has them to where they are served."""
        shift = self._first - self._inner
        return [token + shift if token >= self._inner else token for token in ids] if shift else ids
