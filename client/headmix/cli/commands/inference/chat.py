"""Owns `headmix chat`: one message, or a conversation."""

from collections.abc import Callable
from typing import Annotated

import typer

from headmix.cli.commands.inference.form import Choice, JsonSchema, Regex, form_of
from headmix.cli.commands.inference.sampling import (
    Adapters,
    MaxTokens,
    ModelOption,
    Seed,
    ShowSpecialTokens,
    SplitSpecialTokens,
    Stop,
    Temperature,
    TopK,
    TopP,
    Truncate,
    asked_of,
    text_or_stdin,
)
from headmix.cli.commands.inference.template_variables import TemplateVariables, variables_of
from headmix.cli.commands.inference.tools import ToolFile, print_calls, tools_of
from headmix.cli.output import pass_on
from headmix.cli.session import Session
from headmix.errors import HeadmixError
from headmix.types.inference.chat import ChatMessage, ToolCall, ToolCallDelta, joined_calls
from headmix.types.params import ChatParams

Answer = Callable[[list[ChatMessage]], ChatMessage]


def chat(
    ctx: typer.Context,
    message: Annotated[
        str | None, typer.Argument(help="The message; - reads it from standard input.", show_default=False)
    ] = None,
    model: ModelOption = None,
    adapter: Adapters = None,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Keep chatting; end with Ctrl-D.")] = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    split_special_tokens: SplitSpecialTokens = False,
    show_special_tokens: ShowSpecialTokens = False,
    truncate: Truncate = None,
    template_variable: TemplateVariables = None,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    choice: Choice = None,
    tool: ToolFile = None,
) -> None:
    """Send a message and print the answer as it is generated."""
    if message is None and not interactive:
        raise typer.BadParameter("give a message, or --interactive", param_hint="MESSAGE")
    if tool is not None and interactive:
        raise typer.BadParameter("--tool calls are printed, not made, so the chat could not go on after one")
    params = ChatParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop or None,
        split_special_tokens=split_special_tokens or None,
        skip_special_tokens=False if show_special_tokens else None,
        truncate_prompt_tokens=truncate,
        chat_template_kwargs=variables_of(template_variable or []),
        structured_outputs=form_of(json_schema, regex, choice),
        tools=tools_of(tool),
    )
    turns = [] if system is None else [ChatMessage(role="system", content=system)]
    session = Session.of(ctx)
    with session.client() as client:
        asked = asked_of(ctx, client, model, adapter)
        params["adapters"] = asked.adapters

        def answer(turns: list[ChatMessage]) -> ChatMessage:
            said, parts = list[str](), list[ToolCallDelta]()
            with client.stream.chat(turns, model=asked.model, **params) as chunks:
                for chunk in chunks:
                    pass_on(chunk.text)
                    said.append(chunk.text)
                    parts += chunk.tool_calls
            return _printed("".join(said), joined_calls(parts))

        if message is not None:
            turns = _said(turns, text_or_stdin(message), answer)
        if interactive:
            _converse(turns, answer, lambda error: session.report(error, client))


def _printed(text: str, calls: tuple[ToolCall, ...]) -> ChatMessage:
    """Print what follows the text that was passed on; return the turn."""
    if text or not calls:
        typer.echo()
    print_calls(calls)
    return ChatMessage(role="assistant", content=text, tool_calls=calls or None)


def _said(turns: list[ChatMessage], message: str, answer: Answer) -> list[ChatMessage]:
    asked = [*turns, ChatMessage(role="user", content=message)]
    return [*asked, answer(asked)]


def _converse(turns: list[ChatMessage], answer: Answer, report: Callable[[HeadmixError], None]) -> None:
    """Read and answer until the input ends. A failed turn is reported and dropped from the conversation."""
    while True:
        try:
            message = input("> ")
        except EOFError:
            typer.echo()
            return
        if not message.strip():
            continue
        try:
            turns = _said(turns, message, answer)
        except HeadmixError as error:
            typer.echo()
            report(error)
