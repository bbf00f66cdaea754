"""The jobs of text workers: each is a value that is sent to a worker and runs there. See `worker`."""

from array import array
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import ClassVar

from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError, template_fault
from headmix_server.text.adapter_template import COMPILE_SECONDS, RENDER_SECONDS, AdapterTemplate, TemplateFacts
from headmix_server.text.capacity import Capacity
from headmix_server.text.conversation import Conversation
from headmix_server.text.grammars.limits import TRIAL_SECONDS
from headmix_server.text.grammars.trial import try_grammar
from headmix_server.text.grammars.wanted import Wanted
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.truncation import Truncation
from headmix_server.text.workers.encoder import Encoder, Prepared, Words
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.worker import bounded_work


class _OnBase:
    """What needs the base's tokenizer."""

    __slots__ = ()

    def prepare(self, encoders: Encoders) -> None:
        """See `worker.PreparedJob`."""
        encoders.get(None, "")


class TextTooLongError(Exception):
    """A text certainly has more tokens than allowed, though they were not counted."""


@dataclass(frozen=True, slots=True)
class EncodeTexts(_OnBase):
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
class EncodePairs(_OnBase):
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
class DecodeTokens(_OnBase):
    """Token ids to their text, special tokens included."""

    tenant: str
    ids: "array[int]"
    words: Words | None

    def run(self, encoders: Encoders) -> str:
        """Return the text."""
        return encoders.tokenizer(self.words).decode(self.ids, skip_special_tokens=False)


@dataclass(frozen=True, slots=True)
class EncodeConversation(_OnBase):
    """A conversation to ids, as `Encoder.prepare` and `Prepared.encode`; `room` is the most tokens it may have.

    With `template`, an adapter's own, it is rendered within `RENDER_SECONDS`.
    """

    tenant: str
    conversation: Conversation
    words: Words | None
    split: bool
    capacity: Capacity
    room: int
    truncation: Truncation | None = None
    template: AdapterTemplate | None = None

    def run(self, encoders: Encoders) -> "array[int]":
        """Return the ids of the prompt that the template makes of it, cut if there is a `truncation`.

        Raises:
            ChatTemplateError: the template refuses the conversation.
            TextTooLongError: the prompt certainly has more than `room` tokens.
        """
        encoder = encoders.get(self.words, self.tenant)
        if self.split:
            encoder.plain_text.hide("")  # makes the reader, which takes long for a large vocabulary, outside the bound
        with nullcontext() if self.template is None else bounded_work(RENDER_SECONDS):
            prompt = self._prepare(encoder, encoders.template(self.template))
        if self.truncation is not None:
            return array("I", self.truncation.cut(prompt.encode()))
        if self.capacity.exceeds(prompt.text, self.room):
            raise TextTooLongError
        return array("I", prompt.encode())

    def _prepare(self, encoder: Encoder, template: ChatTemplate | None) -> Prepared:
        if template is None:
            raise ChatTemplateError("the base has none")
        return encoder.prepare(template, self.conversation, split=self.split)


@dataclass(frozen=True, slots=True)
class CompileTemplate:
    """An adapter's chat template to the reason why it cannot be compiled, or None."""

    template: AdapterTemplate

    processor_seconds: ClassVar[float] = COMPILE_SECONDS

    def run(self, encoders: Encoders) -> str | None:
        """Return the reason; `encoders` are those of the worker."""
        return template_fault(self.template.source)


@dataclass(frozen=True, slots=True)
class ReadTemplate(_OnBase):
    """What an adapter's chat template reads, found within `RENDER_SECONDS`; it stays compiled for the next request."""

    template: AdapterTemplate

    def run(self, encoders: Encoders) -> TemplateFacts:
        """Return what it reads: nothing, if it cannot be compiled."""
        with bounded_work(RENDER_SECONDS), suppress(ChatTemplateError):
            template = encoders.template(self.template)
            if template is not None:
                return TemplateFacts(template.takes_tools, template.variables, template.fixed)
        return TemplateFacts(False, frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class WriteGrammar:
    """What a client wants of an answer's form to a grammar, written and tried out."""

    wanted: Wanted
    processor_seconds: ClassVar[float] = TRIAL_SECONDS

    def prepare(self, encoders: Encoders) -> None:
        """Read the base's vocabulary, which takes seconds for a large one."""
        encoders.grammars.prepare()

    def run(self, encoders: Encoders) -> str:
        """Return the grammar.

        Raises:
            GrammarError: it is faulty, or too much to enforce.
        """
        grammar = write_grammar(self.wanted)
        try_grammar(encoders.grammars, grammar)
        return grammar
