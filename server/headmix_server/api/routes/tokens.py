"""POST /tokenize and POST /detokenize, at vLLM's paths: the model's vocabulary, with what its adapter adds to it."""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.chats.chat_prompt import chat_prompt, tools_of
from headmix_server.api.inference.chats.templates import template_of
from headmix_server.api.inference.prepare import Prepared, prepare
from headmix_server.api.inference.prompts import Room, splits
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.responses.whole import JsonList
from headmix_server.api.responses.whole_response import WholeResponse
from headmix_server.api.schemas.tokens import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse
from headmix_server.core.errors import InvalidRequest
from headmix_server.text.tokenizer import Tokenizer

router = APIRouter(tags=["tokens"], route_class=GuardedRoute)

_TOKENS_AT_ONCE = 4096
"""Tokens that are written before other tasks get a turn."""


@router.post("/tokenize", response_model=TokenizeResponse)
async def tokenize(request: Request, body: TokenizeRequest, admission: Admitted, state: State) -> Response:
    """Return the tokens of a text, or of the prompt that the chat template makes of a conversation."""
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Give either a prompt or messages.", param="prompt")
    if body.messages is None and (of_chats := body.of_chats):
        raise InvalidRequest(f"{of_chats[0]} needs messages.", param=of_chats[0])
    prepared = await prepare(request, body, admission, state)
    ids = await (_prompt(prepared, body) if body.messages is None else _conversation(prepared, body))
    strings = prepared.vocabulary.tokenizer if body.return_token_strings else None
    return await _response(ids, prepared.context, strings)


@router.post("/detokenize")
async def detokenize(
    request: Request, body: DetokenizeRequest, admission: Admitted, state: State
) -> DetokenizeResponse:
    """Return the text of tokens, special tokens included."""
    prepared = await prepare(request, body, admission, state)
    room = Room(prepared.context, 0, "tokens")
    return DetokenizeResponse(prompt=await prepared.vocabulary.decode(body.tokens, room))


async def _prompt(prepared: Prepared, body: TokenizeRequest) -> list[int]:
    return await prepared.vocabulary.text(
        body.prompt or "",
        Room(prepared.context, 0, "prompt"),
        split=splits(prepared.state, body.split_special_tokens),
        add_special_tokens=body.add_special_tokens is not False,
    )


async def _conversation(prepared: Prepared, body: TokenizeRequest) -> list[int]:
    template = template_of(prepared.state, prepared.model, instead="give a prompt")
    if body.add_special_tokens:
        raise InvalidRequest("The chat template writes the special tokens itself.", param="add_special_tokens")
    chat = body.chat
    tools = await tools_of(prepared, chat, template)
    return await chat_prompt(prepared, chat, template, tools, Room(prepared.context, 0, "messages"))


async def _response(ids: Sequence[int], context: int, strings: Tokenizer | None) -> WholeResponse:
    tokens, names = JsonList(), JsonList()
    for start in range(0, len(ids), _TOKENS_AT_ONCE):
        part = ids[start : start + _TOKENS_AT_ONCE]
        tokens.extend(part)
        if strings is not None:
            names.extend([strings.piece(token) or "" for token in part])
        await asyncio.sleep(0)
    head = f'{{"count":{len(ids)},"max_model_len":{context},"tokens":'.encode()
    tail = [b"null"] if strings is None else names.pieces()
    return WholeResponse([head, *tokens.pieces(), b',"token_strs":', *tail, b"}"])
