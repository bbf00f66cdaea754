"""Reads texts for an `LLM`'s base and adapters: from names to adapters, from texts and conversations to token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_server.core.errors import InvalidRequest, TaskMismatch
from headmix_server.core.types import AdapterRef
from headmix_server.llm.adapters import Adapters
from headmix_server.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Conversation = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The readers of texts. `generates` is false for encoders; `chat_template` is None if the base has none."""

    base: ResolvedBase
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generates: bool
    adapters: Adapters

    def ref(self, name: str | None) -> AdapterRef | None:
        """Return an adapter's reference for the engine; None for the base alone.

        Raises:
            ModelNotFound: there is no such adapter.
        """
        return None if name is None else self.adapters[name].ref

    def tokenizer_of(self, name: str | None) -> Tokenizer:
        """Return the base's tokenizer, or that of an adapter, which includes its added tokens."""
        return self.tokenizer if name is None else self.adapters[name].tokenizer

    def check_generates(self, name: str | None) -> None:
        """Refuse a base or adapter that cannot continue a text.

        Raises:
            TaskMismatch: the base is an encoder, or the adapter is a classifier.
        """
        if name is not None and self.adapters[name].config.task != "generation":
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

    def render(self, conversation: Conversation, name: str | None = None) -> str:
        """Return a conversation as the prompt of the base, or of an adapter, which may have its own template.

        Raises:
            InvalidRequest: there is no chat template, or the template refuses the messages.
        """
        own = None if name is None else self.adapters[name].chat_template
        template = own or self.chat_template
        if template is None:
            raise InvalidRequest(f"The base {self.base.name} has no chat template: use generate().", param="messages")
        try:
            return template.render(conversation)
        except ChatTemplateError as error:
            whose = "base" if own is None else "adapter"
            raise InvalidRequest(f"The {whose}'s chat template refuses these messages: {error}") from error
