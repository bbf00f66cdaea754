"""From the texts and token ids of a body to prompts, in the vocabulary of the model they are for."""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from headmix_server.api.model import Model
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InternalError, InvalidRequest
from headmix_server.text.extended import AddedTokensError
from headmix_server.text.tokenizer import Tokenizer

_LONG_TEXT = 10_000  # characters; tokenizing more than these takes milliseconds and leaves the event loop


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a model reads and says: its tokenizer, and how many ids it has; every id is below `size`."""

    tokenizer: Tokenizer
    size: int

    async def prompt(self, given: str | list[int], *, param: str, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text, or the ids given; an empty text has none.

        Raises:
            InvalidRequest: an id is not one of the model's.
        """
        if isinstance(given, str):
            ids = await _encode(self.tokenizer, given, add_special_tokens=add_special_tokens) if given else []
        else:
            ids = given
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


async def _encode(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    """Return the text's ids; a long text is tokenized in a thread."""
    if len(text) < _LONG_TEXT:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def work() -> list[int]:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)

    return await run_in_threadpool(work)
