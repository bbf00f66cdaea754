"""Reads texts for an `LLM`'s base and adapters: from names to adapters, from texts and conversations to token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_server.core.combination import MAX_ADAPTERS, MAX_SCALE
from headmix_server.core.errors import InvalidRequest, TaskMismatch
from headmix_server.core.types import AdapterRef, ScaledAdapter
from headmix_server.llm.adapters import Adapters
from headmix_server.llm.tool_reading import Tools
from headmix_server.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Conversation = Sequence[Mapping[str, object]]
AdapterChoice = str | Mapping[str, float] | None
"""The adapters of one input: a name, several names with their scales, or None for the base alone."""


@dataclass(frozen=True, slots=True)
class ChosenAdapters:
    """The adapters of one input. `name` is the first, whose vocabulary and head apply; None is the base alone."""

    name: str | None
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The readers of texts. `generates` is false for encoders; `chat_template` is None if the base has none."""

    base: ResolvedBase
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generates: bool
    adapters: Adapters

    def choose(self, given: AdapterChoice) -> ChosenAdapters:
        """Return the adapters of one input; two names of the same artifact count once, with the sum of their scales.

        Raises:
            ModelNotFound: there is no such adapter.
            InvalidRequest: there are none or too many, a scale is not a number in bounds, or an adapter that is not the
                first adds tokens to the vocabulary.
        """
        if given is None or isinstance(given, str):
            return ChosenAdapters(given)
        if not 0 < len(given) <= MAX_ADAPTERS:
            raise InvalidRequest(
                f"{len(given)} adapters for one input: 1 to {MAX_ADAPTERS} are possible.", param="adapter"
            )
        scales: dict[str, float] = {}
        names: dict[str, str] = {}
        for name, scale in given.items():
            if not isfinite(scale) or abs(scale) > MAX_SCALE:
                raise InvalidRequest(
                    f"The scale of {name!r} is not from -{MAX_SCALE:g} to {MAX_SCALE:g}.", param="adapter"
                )
            digest = self.adapters[name].ref.digest
            scales[digest] = scales.get(digest, 0.0) + scale
            names.setdefault(digest, name)
        (digest, first), *others = names.items()
        beside = tuple(ScaledAdapter(adapter=self._beside(name), scale=scales[other]) for other, name in others)
        return ChosenAdapters(first, scales[digest], beside)

    def _beside(self, name: str) -> AdapterRef:
        adapter = self.adapters[name]
        if adapter.config.added_tokens:
            raise InvalidRequest(
                f"{name!r} adds tokens, which only the first of several adapters may do.", param="adapter"
            )
        return adapter.ref

    def ref(self, name: str | None) -> AdapterRef | None:
        """Return an adapter's reference for the engine; None for the base alone.

        Raises:
            ModelNotFound: there is no such adapter.
        """
        return None if name is None else self.adapters[name].ref

    def tokenizer_of(self, name: str | None) -> Tokenizer:
        """Return the base's tokenizer, or that of an adapter, which includes its added tokens."""
        return self.tokenizer if name is None else self.adapters[name].tokenizer

    def check_generates(self, chosen: ChosenAdapters) -> None:
        """Refuse a base or adapters that cannot continue a text.

        Raises:
            TaskMismatch: the base is an encoder, or an adapter is a classifier.
        """
        first = () if chosen.name is None else (chosen.name,)
        for name in (*first, *(one.adapter.name for one in chosen.beside)):
            if self.adapters[name].config.task != "generation":
                raise TaskMismatch(f"{name!r} is a classifier: use classify().", param="adapter")
        if not self.generates:
            raise TaskMismatch(f"The base {self.base.name} is an encoder: it classifies and embeds.", param="prompts")

    def head(self, name: str) -> ClassifierConfig:
        """Return an adapter's classification head.

        Raises:
            TaskMismatch: it has none.
        """
        head = self.adapters[name].config.classifier
        if head is None:
            raise TaskMismatch(f"{name!r} is not a classifier.", param="adapter")
        return head

    def encode(self, prompt: Prompt, name: str | None, *, add_special_tokens: bool = True) -> list[int]:
        """Return a text's token ids, or the ids given.

        Raises:
            InvalidRequest: there are none, or an id is not in the vocabulary.
        """
        if isinstance(prompt, str):
            tokenizer = self.tokenizer_of(name)
            ids = tokenizer.encode(prompt, add_special_tokens=add_special_tokens) if prompt else []
        else:
            ids = list(prompt)
        size = self.base.shape.vocab_size + (0 if name is None else len(self.adapters[name].config.added_tokens))
        if not ids:
            raise InvalidRequest("A prompt is empty.", param="prompts")
        if not all(0 <= token < size for token in ids):
            raise InvalidRequest(f"Token ids must be from 0 to {size - 1}.", param="prompts")
        return ids

    def template_of(self, name: str | None) -> ChatTemplate:
        """Return the chat template of the base, or of an adapter, which may have its own.

        Raises:
            InvalidRequest: there is none.
        """
        own = None if name is None else self.adapters[name].chat_template
        template = own or self.chat_template
        if template is None:
            raise InvalidRequest(f"The base {self.base.name} has no chat template: use generate().", param="messages")
        return template

    def render(self, conversation: Conversation, name: str | None = None, tools: Tools | None = None) -> str:
        """Return a conversation as the model's prompt.

        Raises:
            InvalidRequest: there is no chat template, or the template refuses the messages.
        """
        own = None if name is None else self.adapters[name].chat_template
        try:
            return self.template_of(name).render(conversation, tools=tools)
        except ChatTemplateError as error:
            whose = "base" if own is None else "adapter"
            raise InvalidRequest(f"The {whose}'s chat template refuses these messages: {error}") from error
