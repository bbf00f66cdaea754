"""Turns the texts and token ids of a body into prompts, in the vocabulary of their model.

Owns where each text is tokenized: on the event loop if that takes about a millisecond, otherwise in a worker, so that
no request waits for another's long text. Both give the same ids.
"""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.text.tokenizer import EncodedPair
from headmix_server.api.inference.lengths import check_length, context_length
from headmix_server.api.inference.resolve import Model
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.schemas.truncation import ALL_THAT_FITS
from headmix_server.api.state import ApiState
from headmix_server.core.errors import ContextLengthExceeded, InternalError, InvalidRequest
from headmix_server.core.observability.logging import get_logger
from headmix_server.text.adapter_template import RENDER_SECONDS, AdapterTemplate, TemplateFacts
from headmix_server.text.capacity import Capacity
from headmix_server.text.conversation import Conversation
from headmix_server.text.plain_text import UncuttableTokenError
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.truncation import NothingLeftError, Truncation
from headmix_server.text.vocabulary.extended import AddedTokensError
from headmix_server.text.workers.apart import TooMuchWorkError
from headmix_server.text.workers.jobs import (
    DecodeTokens,
    EncodeConversation,
    EncodePairs,
    EncodeTexts,
    ReadTemplate,
    TextTooLongError,
)
from headmix_server.text.workers.worker_pool import WorkerPool

INLINE_CHARACTERS = 2_000
"""The most characters of all texts of a request together that are tokenized on the event loop."""

INLINE_TURNS = 32
_IDS_AT_ONCE = 16_384
"""Token ids that are checked before other tasks get a turn."""
_PAIRS_AT_ONCE = 64
_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Room:
    """How long a prompt may be: `context` tokens together with its completion, which takes `completion` of them.

    `param` is the name of the prompts' parameter.
    """

    context: int
    completion: int
    param: str

    @property
    def prompt(self) -> int:
        """The most tokens a prompt may have."""
        return max(0, self.context - self.completion)

    def too_long(self) -> ContextLengthExceeded:
        """Return the error for a prompt that is too long and whose tokens were not counted."""
        return ContextLengthExceeded(
            f"This model's context length is {self.context} tokens, but more than {self.prompt + self.completion} were "
            f"requested: more than {self.prompt} in the prompt and {self.completion} for the completion.",
            param=self.param,
        )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A model's tokenizer and the number of its ids; every id is below `size`.

    `capacity` is what one token can represent, or an assumed limit where a token can represent any amount of text.

    `workers` tokenize long texts, in the turns of `tenant`, for as long as the client stays connected.
    """

    tokenizer: Tokenizer
    size: int
    capacity: Capacity
    workers: WorkerPool
    tenant: str
    request: Request

    async def prompts(
        self, given: Sequence[str | Sequence[int]], room: Room, *, split: bool, truncation: Truncation | None = None
    ) -> list[list[int]]:
        """Return the ids of each text, or the ids as given; an empty text has none. A `truncation` cuts all of them.

        With `split`, special tokens in a text are tokenized as plain text.

        Raises:
            ContextLengthExceeded: one has too many tokens; a text that is certainly too long is not tokenized.
            InvalidRequest: one is empty, an id is outside the vocabulary, or the base cannot split a special token.
        """
        if truncation is not None:
            given = [one if isinstance(one, str) else truncation.cut(one) for one in given]
        texts = [one for one in given if isinstance(one, str) and one]
        for one in given:
            if truncation is None or not isinstance(one, str):
                self._require_room(one, room)
        read = iter(await self._read(texts, room, split=split, truncation=truncation))
        prompts: list[list[int]] = []
        looked_at = 0
        for one in given:
            ids = (next(read) if one else []) if isinstance(one, str) else one
            check_length(len(ids), room.completion, room.context, param=room.param)
            prompts.append(self._checked(ids, room.param))
            looked_at += len(prompts[-1])
            if looked_at >= _IDS_AT_ONCE:
                looked_at = 0
                await asyncio.sleep(0)
        return prompts

    async def pairs(self, given: Sequence[tuple[str, str]], room: Room, *, split: bool) -> list[EncodedPair]:
        """Return each pair of texts as the base encodes two texts together; `split` is as in `prompts`.

        Raises:
            ContextLengthExceeded: one has too many tokens.
            InvalidRequest: a text is empty, or the base cannot split a special token or mark the texts of a pair.
        """
        for text in {text for pair in given for text in pair}:
            if not text:
                raise InvalidRequest("A text is empty.", param=room.param)
            self._require_room(text, room)
        pairs = await self._read_pairs(given, room, split=split)
        for place, pair in enumerate(pairs):
            check_length(len(pair.ids), room.completion, room.context, param=room.param)
            if place % _PAIRS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return pairs

    async def text(self, text: str, room: Room, *, split: bool, add_special_tokens: bool) -> list[int]:
        """Return the ids of one text, which may be empty; `split` is as in `prompts`.

        Raises:
            ContextLengthExceeded: it has too many tokens.
            InvalidRequest: the base cannot split a special token.
        """
        self._require_room(text, room)
        (ids,) = await self._read([text], room, split=split, add_special_tokens=add_special_tokens)
        if len(ids) > room.prompt:
            raise room.too_long()
        return self._checked(ids, room.param)

    async def decode(self, ids: Sequence[int], room: Room) -> str:
        """Return the text of token ids, special tokens included.

        Raises:
            ContextLengthExceeded: there are more than a context has room for.
            InvalidRequest: an id is outside the vocabulary.
        """
        if len(ids) > room.prompt:
            raise room.too_long()
        tokens = self._checked(ids, room.param)
        if len(tokens) <= INLINE_CHARACTERS:
            return self.tokenizer.decode(tokens, skip_special_tokens=False)
        job = DecodeTokens(self.tenant, array("I", tokens), self.tokenizer.words)
        return await until_disconnected(self.request, self.workers.run(self.tenant, job, _ID_BYTES * len(tokens)))

    async def pieces(self, texts: Sequence[str], room: Room, *, split: bool) -> Sequence[Sequence[int]]:
        """Return the ids of texts that are parts of a prompt, without special tokens around them; raises as `prompts`.

        None of the texts may be empty.
        """
        for text in texts:
            self._require_room(text, room)
        read = await self._read(texts, room, split=split, add_special_tokens=False)
        if any(len(ids) > room.prompt for ids in read):  # the rest was not read
            raise room.too_long()
        return read

    async def conversation(
        self,
        template: ChatTemplate | AdapterTemplate,
        conversation: Conversation,
        room: Room,
        *,
        split: bool,
        truncation: Truncation | None = None,
    ) -> list[int]:
        """Return the ids of the prompt that the template makes of a conversation, cut if there is a `truncation`.

        The template writes the special tokens itself. With `split`, those in its texts are tokenized as plain text.

        Raises:
            ChatTemplateError: the template refuses the conversation.
            ContextLengthExceeded: the prompt cannot fit.
            InvalidRequest: the base cannot split a special token, or the adapter's template takes too long.
        """
        texts = conversation.texts()
        own = template if isinstance(template, AdapterTemplate) else None
        # What a template does with a client's variables, such as a number of its own, may take long.
        is_short = len(conversation.turns) <= INLINE_TURNS and not conversation.variables
        if isinstance(template, ChatTemplate) and is_short and self._is_quick(texts, split):
            text = conversation.render(template)
            if truncation is None:
                self._require_room(text, room)
            if not self.tokenizer.needs_copy(text):
                self._log("event loop", texts)
                read: Sequence[int] = self.tokenizer.encode(text, add_special_tokens=False)
                return self._checked(read if truncation is None else truncation.cut(read), room.param)
        self._log("worker", texts)
        words, capacity = self.tokenizer.words, self.capacity
        job = EncodeConversation(self.tenant, conversation, words, split, capacity, room.prompt, truncation, own)
        try:
            ids = await until_disconnected(self.request, self.workers.run(self.tenant, job, _size(texts)))
        except TextTooLongError:
            raise room.too_long() from None
        except TooMuchWorkError:
            raise _template_takes_too_long(room.param) from None
        except UncuttableTokenError as error:
            raise InvalidRequest(f"split_special_tokens: {error}.", param=room.param) from error
        return self._checked(ids, room.param)

    async def facts_of(self, template: ChatTemplate | AdapterTemplate, param: str) -> TemplateFacts:
        """Return what a template reads; an adapter's is tried in a worker, for the request's parameter `param`.

        Raises:
            InvalidRequest: it takes too long.
        """
        if isinstance(template, ChatTemplate):
            return TemplateFacts(template.takes_tools, template.variables, template.fixed)
        job = ReadTemplate(template)
        try:
            return await until_disconnected(self.request, self.workers.run(self.tenant, job, len(template.source)))
        except TooMuchWorkError:
            raise _template_takes_too_long(param) from None

    async def _read_pairs(self, given: Sequence[tuple[str, str]], room: Room, *, split: bool) -> list[EncodedPair]:
        texts = [text for pair in given for text in pair]
        quick = self._is_quick(texts, split)
        self._log("event loop" if quick else "worker", texts)
        try:
            if quick:
                return [self.tokenizer.encode_pair(first, second) for first, second in given]
            job = EncodePairs(self.tenant, given, self.tokenizer.words, split, room.prompt)
            read = await until_disconnected(self.request, self.workers.run(self.tenant, job, _size(texts)))
        except UncuttableTokenError as error:
            raise InvalidRequest(f"split_special_tokens: {error}.", param=room.param) from error
        except ValueError as error:
            raise InvalidRequest(f"The model cannot read two texts together: {error}.", param="model") from error
        return [EncodedPair(ids.tolist(), second) for ids, second in read]

    async def _read(
        self,
        texts: Sequence[str],
        room: Room,
        *,
        split: bool,
        add_special_tokens: bool = True,
        truncation: Truncation | None = None,
    ) -> Sequence[Sequence[int]]:
        if not texts:
            return []
        words = self.tokenizer.words
        try:
            if self._is_quick(texts, split):
                self._log("event loop", texts)
                read = [self.tokenizer.encode(text, add_special_tokens=add_special_tokens) for text in texts]
                return read if truncation is None else [truncation.cut(ids, self.tokenizer.around) for ids in read]
            self._log("worker", texts)
            job = EncodeTexts(self.tenant, texts, words, split, room.prompt, add_special_tokens, truncation)
            return await until_disconnected(self.request, self.workers.run(self.tenant, job, _size(texts)))
        except UncuttableTokenError as error:
            raise InvalidRequest(f"split_special_tokens: {error}.", param=room.param) from error
        except NothingLeftError as error:
            raise InvalidRequest(
                "truncate_prompt_tokens leaves no token of the text beside the special tokens around it.",
                param="truncate_prompt_tokens",
            ) from error

    def _is_quick(self, texts: Sequence[str], split: bool) -> bool:
        """Return whether the event loop may tokenize the texts: they are short and need no copy of the tokenizer."""
        if _size(texts) > INLINE_CHARACTERS:
            return False
        tokenizer = self.tokenizer
        if any(map(tokenizer.needs_copy, texts)):
            return False
        return not (split and any(map(tokenizer.may_hold_special, texts)))

    def _require_room(self, given: str | Sequence[int], room: Room) -> None:
        """Refuse what cannot fit, without tokenizing it."""
        if not isinstance(given, str) and len(given) > room.prompt:
            check_length(len(given), room.completion, room.context, param=room.param)
        if isinstance(given, str) and self.capacity.exceeds(given, room.prompt):
            raise room.too_long()

    def _checked(self, ids: Sequence[int], param: str) -> list[int]:
        if ids and max(ids) >= self.size:
            raise InvalidRequest(
                f"Token ids must be below {self.size}, the size of the model's vocabulary.", param=param
            )
        return ids.tolist() if isinstance(ids, array) else list(ids)

    def _log(self, where: str, texts: Sequence[str]) -> None:
        get_logger("text").debug("tokenized", by=where, texts=len(texts), characters=_size(texts))


async def vocabulary_of(request: Request, state: ApiState, model: Model, tenant: str) -> Vocabulary:
    """Return the vocabulary of the model: the base's, plus the tokens that its adapter adds; `tenant` is the caller.

    Raises:
        InternalError: the adapter was published on another base whose vocabulary could take its tokens.
    """
    size = state.base.shape.vocab_size
    if model.version is None or not model.version.config.added_tokens:
        return _vocabulary(request, state, state.tokenizer, size, tenant)
    words, digest = model.version.config.added_tokens, model.version.digest
    tokenizer = state.vocabularies.kept(digest, words)
    if tokenizer is None:
        try:
            tokenizer = await run_in_threadpool(state.vocabularies.tokenizer, digest, words)
        except AddedTokensError as error:
            raise InternalError(f"the adapter {digest} does not fit this base: {error}") from error
    return _vocabulary(request, state, tokenizer, size + len(words), tenant)


async def read_inputs(
    request: Request,
    state: ApiState,
    model: Model,
    tenant: str,
    inputs: Sequence[str | Sequence[int]],
    *,
    split: bool | None,
) -> list[list[int]]:
    """Return the ids of a body's `input`: texts without anything added.

    Raises:
        HeadmixServerError: as `vocabulary_of` and `Vocabulary.prompts`; EngineUnavailable if the engine is not ready.
    """
    room = Room(context_length(state.engine.require_ready()), 0, "input")
    vocabulary = await vocabulary_of(request, state, model, tenant)
    return await vocabulary.prompts(inputs, room, split=splits(state, split))


def _vocabulary(request: Request, state: ApiState, tokenizer: Tokenizer, size: int, tenant: str) -> Vocabulary:
    capacity = tokenizer.capacity or Capacity(state.settings.max_characters_per_token, in_bytes=False)
    return Vocabulary(tokenizer, size, capacity, state.text_workers, tenant, request)


def _template_takes_too_long(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"The adapter's chat template takes more than {RENDER_SECONDS:g} seconds of processor time.", param=param
    )


def _size(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def truncation_of(asked: int | None, room: Room, *, keeps_first: bool = False) -> Truncation | None:
    """Return how a body's `truncate_prompt_tokens` cuts its texts."""
    return None if asked is None else Truncation(room.prompt if asked == ALL_THAT_FITS else asked, keeps_first)


def splits(state: ApiState, asked: bool | None) -> bool:
    """Return whether special tokens in the request's texts are tokenized as plain text."""
    return state.settings.split_special_tokens if asked is None else asked
