"""From the texts and token ids of a body to prompts, in the vocabulary of the model they are for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.api.model import Model
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InternalError, InvalidRequest
from headmix_server.text.extended import AddedTokensError
from headmix_server.text.plain_text import UncuttableTokenError
from headmix_server.text.tokenizer import Tokenizer

Turn = Mapping[str, str | None]
"""A message as templates see it."""

_LONG_TEXT = 10_000  # characters; tokenizing more than these takes milliseconds and leaves the event loop


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a model reads and says: its tokenizer, and how many ids it has; every id is below `size`."""

    tokenizer: Tokenizer
    size: int

    async def prompt(self, given: str | list[int], *, param: str, split: bool) -> list[int]:
        """Return the ids of a text, or the ids given; an empty text has none. `split` cuts special tokens as text.

        Raises:
            InvalidRequest: an id is not one of the model's, or the base cannot cut a special token.
        """
        if not isinstance(given, str):
            return self._checked(given, param)
        if not given:
            return []
        if split:
            reader = await run_in_threadpool(self.tokenizer.plain_text)
            return self._checked(await self._read(given, reader.encode_text, param), param)
        return self._checked(await self._read(given, self.tokenizer.encode, param), param)

    async def conversation(self, template: ChatTemplate, turns: Sequence[Turn], *, split: bool) -> list[int]:
        """Return the ids of the prompt that the template makes of a conversation.

        The template writes the special tokens itself. With `split` only it can: those in the turns are text.

        Raises:
            ChatTemplateError: the template refuses the turns.
            InvalidRequest: the base cannot cut a special token.
        """
        if not split:
            encode: Callable[[str], list[int]] = partial(self.tokenizer.encode, add_special_tokens=False)
            return self._checked(await self._read(template.render(turns), encode, "messages"), "messages")
        reader = await run_in_threadpool(self.tokenizer.plain_text)
        hidden = [
            {name: value if value is None or name == "role" else reader.hide(value) for name, value in turn.items()}
            for turn in turns
        ]
        encode = partial(reader.encode, add_special_tokens=False)
        return self._checked(await self._read(template.render(hidden), encode, "messages"), "messages")

    async def _read(self, text: str, encode: Callable[[str], list[int]], param: str) -> list[int]:
        """Return a text's ids; a long text is tokenized in a thread."""
        try:
            if len(text) < _LONG_TEXT:
                return encode(text)
            return await run_in_threadpool(encode, text)
        except UncuttableTokenError as error:
            raise InvalidRequest(f"split_special_tokens: {error}.", param=param) from error

    def _checked(self, ids: list[int], param: str) -> list[int]:
        if any(token >= self.size for token in ids):
            raise InvalidRequest(f"A token id is below {self.size}, the size of the model's vocabulary.", param=param)
        return ids


async def vocabulary_of(state: ApiState, model: Model) -> Vocabulary:
    """Return the base's vocabulary, with the words the model's adapter adds and nobody else's.

    Raises:
        InternalError: the adapter was published on another base, whose vocabulary could take its words.
    """
    size = state.base.shape.vocab_size
    if model.version is None or not model.version.config.added_tokens:
        return Vocabulary(state.tokenizer, size)
    words, digest = model.version.config.added_tokens, model.version.digest
    try:
        tokenizer = await run_in_threadpool(state.vocabularies.tokenizer, digest, words)
    except AddedTokensError as error:
        raise InternalError(f"the adapter {digest} does not fit this base: {error}") from error
    return Vocabulary(tokenizer, size + len(words))


def splits(state: ApiState, asked: bool | None) -> bool:
    """Tell whether a request has special tokens in its texts cut as text."""
    return state.settings.split_special_tokens if asked is None else asked
