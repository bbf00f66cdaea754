"""Text to token ids, the slow way: builds a copy of a tokenizer with an adapter's words, or one for plain text.

A copy takes a tenth of a second or more, during which the interpreter's lock is held. So the process that serves HTTP
never creates one: its workers do (`text.workers.worker`), and tests, as the reference for the fast paths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.text.tokenizer import BaseTokenizer, EncodedPair
from headmix_server.text.conversation import Conversation
from headmix_server.text.plain_text import PlainTextReader


class AddedWordsError(Exception):
    """The library numbers the words differently than they are served."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words that an adapter, given by its digest, adds to the base's vocabulary; the first one's id is `first`."""

    digest: str
    words: tuple[str, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rendered conversation, and the function that tokenizes it."""

    text: str
    encode_text: Callable[[str], list[int]]

    def encode(self) -> list[int]:
        """Return the conversation's ids.

        Raises:
            UncuttableTokenError: a special token in the turns cannot be tokenized as text, though that was requested.
        """
        return self.encode_text(self.text)


class Encoder:
    """Tokenizes texts in one vocabulary: a base's, with or without the words of an adapter."""

    def __init__(self, base: BaseTokenizer, words: Words | None = None) -> None:
        self._tokenizer = base if words is None else base.with_words(words.words)
        self._inner = self._first = 0
        if words is not None:
            self._inner, self._first = self._number(words.words), words.first

    @property
    def json(self) -> str:
        """The tokenizer as its file's JSON."""
        return str(self._tokenizer.backend.to_str())

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text."""
        return self._own_ids(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def encode_prompt(self, text: str, *, split: bool, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a client's text; with `split`, special tokens in it are tokenized as plain text.

        Raises:
            UncuttableTokenError: one of them cannot be.
        """
        encode = self.plain_text.encode_text if split else self.encode
        return encode(text, add_special_tokens=add_special_tokens)

    def encode_pair(self, first: str, second: str, *, split: bool) -> EncodedPair:
        """Return two of a client's texts as one input; `split` is as in `encode_prompt`.

        Raises:
            UncuttableTokenError: a special token cannot be tokenized as text.
            ValueError: as `encoded_pair`.
        """
        if split:
            return self.plain_text.encode_pair(first, second)
        pair = self._tokenizer.encode_pair(first, second)
        return EncodedPair(self._own_ids(pair.ids), pair.second)

    @property
    def around(self) -> tuple[int, int]:
        """How many special tokens the base puts before and behind a text."""
        return self._tokenizer.around()

    def prepare(self, template: ChatTemplate, conversation: Conversation, *, split: bool) -> "Prepared":
        """Return the prompt that the template makes of a conversation; the template writes the special tokens.

        With `split`, special tokens in the conversation are tokenized as plain text.

        Raises:
            ChatTemplateError: the template refuses the conversation.
        """
        if not split:
            return Prepared(conversation.render(template), partial(self.encode, add_special_tokens=False))
        reader = self.plain_text
        hidden = conversation.with_texts(reader.hide)
        return Prepared(hidden.render(template), partial(reader.encode, add_special_tokens=False))

    @cached_property
    def plain_text(self) -> PlainTextReader:
        """The reader that tokenizes special tokens in texts as plain text."""
        return PlainTextReader(self._tokenizer, self._own_ids)

    def _number(self, words: Sequence[str]) -> int:
        """Return the library's id of the first word; the others must follow it.

        Raises:
            AddedWordsError: they do not.
        """
        numbers = [number for word in words if (number := self._tokenizer.token_id(word)) is not None]
        if not numbers or numbers != list(range(numbers[0], numbers[0] + len(words))):
            raise AddedWordsError("the words are not numbered one after the other")
        return numbers[0]

    def _own_ids(self, ids: list[int]) -> list[int]:
        """Return ids with those of added words moved from the library's numbering to the served one."""
        shift = self._first - self._inner
        return [token + shift if token >= self._inner else token for token in ids] if shift else ids
