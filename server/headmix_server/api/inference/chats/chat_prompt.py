"""The prompt of a chat: what a chat template makes of its messages, its tools and the template's options.

One way for every route that renders a chat, so that /tokenize shows the tokens that a chat would have.
"""

from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_server.api.inference.chats.template_options import template_options
from headmix_server.api.inference.chats.templates import owner_of, whose
from headmix_server.api.inference.chats.tools import ToolUse, tool_use_of
from headmix_server.api.inference.prepare import Prepared
from headmix_server.api.inference.prompts import Room, splits, truncation_of
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.core.errors import InvalidRequest
from headmix_server.text.adapter_template import AdapterTemplate
from headmix_server.text.conversation import Conversation

Template = ChatTemplate | AdapterTemplate


async def tools_of(prepared: Prepared, body: ChatRequest, template: Template) -> ToolUse | None:
    """Return the tools that a chat offers or has called; raises as `tool_use_of`."""
    name = whose(prepared.state, prepared.model, template)
    return await tool_use_of(template, name, prepared.vocabulary, body)


async def chat_prompt(
    prepared: Prepared, body: ChatRequest, template: Template, tools: ToolUse | None, room: Room
) -> list[int]:
    """Return the chat as the model's prompt.

    Raises:
        InvalidRequest: the template refuses the messages; also as `template_options` and `Vocabulary.conversation`.
    """
    options = await template_options(body, template, prepared.vocabulary)
    if tools is None:
        conversation = Conversation([message.turn for message in body.messages], options=options)
    else:
        conversation = Conversation(tools.turns(body.messages), tools.shown or None, options)
    split = splits(prepared.state, body.split_special_tokens)
    truncation = truncation_of(body.truncate_prompt_tokens, room)
    try:
        return await prepared.vocabulary.conversation(template, conversation, room, split=split, truncation=truncation)
    except ChatTemplateError as error:
        message = f"The {owner_of(template)}'s chat template refuses these messages: {error}"
        raise InvalidRequest(message, param="messages") from error
