"""The jobs of text workers: each is a value that is sent to a worker and runs there. See `worker`."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from headmix_adapters.text.chat_template import ChatTemplateError
from headmix_server.text.capacity import Capacity
from headmix_server.text.conversation import Conversation
from headmix_server.text.grammars.limits import TRIAL_SECONDS
from headmix_server.text.grammars.trial import try_grammar
from headmix_server.text.grammars.wanted import Wanted
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.truncation import Truncation
from headmix_server.text.workers.encoder import Words
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.worker import bounded_work


class TextTooLongError(Exception):
    """A text certainly has more tokens than allowed, though they were not counted."""


@dataclass(frozen=True, slots=True)
class EncodeTexts:
    """Texts to ids, as `Encoder.encode_prompt`, up to the first with more than `room`, for which all are refused.

    With `truncation`, every text is cut to its length instead.
    """

    tenant: str
    texts: Sequence[str]
    words: Words | None
    split: bool
    room: int
    add_special_tokens: bool = True
    truncation: Truncation | None = None

    def run(self, encoders: Encoders) -> "list[array[int]]":
        """Return the ids of each text.

        Raises:
            NothingLeftError: as `Truncation.cut`.
        """
        encoder = encoders.get(self.words, self.tenant)
        around = encoder.around if self.truncation is not None and self.add_special_tokens else (0, 0)
        read: list[array[int]] = []
        for text in self.texts:
            ids = encoder.encode_prompt(text, split=self.split, add_special_tokens=self.add_special_tokens)
            read.append(array("I", ids if self.truncation is None else self.truncation.cut(ids, around)))
            if len(read[-1]) > self.room:
                break
        return read


@dataclass(frozen=True, slots=True)
class EncodePairs:
    """Pairs of texts to ids, as `Encoder.encode_pair`, up to the first with more than `room`, as `EncodeTexts`."""

    tenant: str
    pairs: Sequence[tuple[str, str]]
    words: Words | None
    split: bool
    room: int

    def run(self, encoders: Encoders) -> "list[tuple[array[int], int]]":
        """Return the ids of each pair, and where its second text begins.

        Raises:
            ValueError: as `Encoder.encode_pair`.
        """
        encoder = encoders.get(self.words, self.tenant)
        read: list[tuple[array[int], int]] = []
        for first, second in self.pairs:
            pair = encoder.encode_pair(first, second, split=self.split)
            read.append((array("I", pair.ids), pair.second))
            if len(pair.ids) > self.room:
                break
        return read


@dataclass(frozen=True, slots=True)
class DecodeTokens:
    """Token ids to their text, special tokens included."""

    tenant: str
    ids: "array[int]"
    words: Words | None

    def run(self, encoders: Encoders) -> str:
        """Return the text."""
        return encoders.tokenizer(self.words).decode(self.ids, skip_special_tokens=False)


@dataclass(frozen=True, slots=True)
class EncodeConversation:
    """A conversation to ids, as `Encoder.prepare` and `Prepared.encode`; `room` is the most tokens it may have."""

    tenant: str
    conversation: Conversation
    words: Words | None
    split: bool
    capacity: Capacity
    room: int
    truncation: Truncation | None = None

    def run(self, encoders: Encoders) -> "array[int]":
        """Return the ids of the prompt that the base's template makes of it, cut if there is a `truncation`.

        Raises:
            TextTooLongError: the prompt certainly has more than `room` tokens.
        """
        template = encoders.template
        if template is None:
            raise ChatTemplateError("the base has none")
        prompt = encoders.get(self.words, self.tenant).prepare(template, self.conversation, split=self.split)
        if self.truncation is not None:
            return array("I", self.truncation.cut(prompt.encode()))
        if self.capacity.exceeds(prompt.text, self.room):
            raise TextTooLongError
        return array("I", prompt.encode())


@dataclass(frozen=True, slots=True)
class WriteGrammar:
    """What a client wants of an answer's form to a grammar, written and tried out."""

    wanted: Wanted

    def run(self, encoders: Encoders) -> str:
        """Return the grammar.

        Raises:
            GrammarError: it is faulty, or too much to enforce.
        """
        compiler = encoders.grammars
        with bounded_work(TRIAL_SECONDS):
            grammar = write_grammar(self.wanted)
            try_grammar(compiler, grammar)
        return grammar
