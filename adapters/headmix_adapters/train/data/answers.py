"""Generation rows as answers to learn, each with everything before it, as text. Does not load torch.

Owns the two forms of a row, and what a chat template makes of a conversation. `examples` turns the texts into ids.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_adapters.train.data.conversation import Learn, Turn, answers, read_turns
from headmix_adapters.train.data.fields import LEARNT, Fields, holds_something
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.data.tools import check_parallel_calls, read_tools
from headmix_adapters.train.errors import DataError

MAX_TEXT = 2**26
"""The most characters of a row's answers together, each with all that precedes it. A chat whose answers are all learned
grows with the square of its length, and a template may write more than it reads."""

_BEGINNING = 100
_MESSAGES = frozenset({"messages", "tools", "parallel_tool_calls"})
_COMPLETION = frozenset({"prompt", "completion"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and all that precedes it. Those of a `chat` are rendered, with special tokens and the answer's end."""

    prompt: str
    answer: str
    chat: bool

    def encode(self, where: str, base: BaseText) -> tuple[list[int], list[int]]:
        """Return the ids of the prompt, and of the answer with the token that ends it.

        Raises:
            DataError: the prompt has no tokens, or the tokenizer has none to end a completion with.
        """
        encode = base.tokenizer.encode
        prompt = encode(self.prompt, add_special_tokens=not self.chat)
        if not prompt:
            raise DataError(f"{where}: the prompt has no tokens")
        return prompt, encode(self.answer, add_special_tokens=False) + self._end(where, base)

    def check(self, where: str, base: BaseText) -> None:
        """Make sure, without encoding all of a long text, that `encode` returns something.

        Raises:
            DataError: as `encode`.
        """
        replace(self, prompt=self.prompt[:_BEGINNING], answer="").encode(where, base)

    def _end(self, where: str, base: BaseText) -> list[int]:
        if self.chat:
            return []
        if base.tokenizer.end_token is None:
            raise DataError(f"{where}: the base's tokenizer has no end token to close a completion with")
        return [base.tokenizer.end_token]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A row of messages: `chosen` are the indices of those to learn."""

    where: str
    turns: list[Turn]
    chosen: list[int]
    tools: list[dict[str, Any]]

    def lengths(self) -> list[int]:
        """Return the characters of each answer to learn with all that precedes it, before a template adds its own."""
        total, ends = len(str(self.tools)) if self.tools else 0, []
        for turn in self.turns:
            total += len(turn.content or "") + sum(len(str(call)) for call in turn.more.get("tool_calls", ()))
            ends.append(total)
        return [ends[number] for number in self.chosen]

    def answers(self, base: BaseText, longest: int = MAX_TEXT) -> Iterator[Answer]:
        """Yield each answer to learn, rendered.

        Raises:
            DataError: there is no template, it refuses the messages or does not show the tools, or the texts are
                together longer than `longest`.
        """
        check_length(self.where, sum(self.lengths()), longest)
        length = 0
        for number in self.chosen:
            prompt, answer = _render(self.where, base.chat_template, self.turns[: number + 1], self.tools)
            length += len(prompt) + len(answer)
            check_length(self.where, length, longest)
            yield Answer(prompt, answer, chat=True)


@dataclass(frozen=True, slots=True)
class Completion:
    """A row of prompt and completion."""

    where: str
    prompt: str
    completion: str
    learned: bool

    def lengths(self) -> list[int]:
        """Return the characters of both, if they are to be learned."""
        return [len(self.prompt) + len(self.completion)] if self.learned else []

    def answers(self, base: BaseText, longest: int = MAX_TEXT) -> Iterator[Answer]:
        """Yield the completion, if it is to be learned; no template takes part."""
        del base, longest
        if self.learned:
            yield Answer(self.prompt, self.completion, chat=False)


def read_generation(row: Row, ignored: Collection[str], learn: Learn) -> Conversation | Completion:
    """Return what a row says is to be learned.

    Raises:
        DataError: it has neither form, an unknown field or no answer; file and line are named.
    """
    known = _form(row)
    fields = Fields(row.place, row.fields, LEARNT | known, ignored)
    if known == _MESSAGES:
        return _conversation(fields, ignored, learn)
    if known != _COMPLETION:
        raise DataError(f"{row.place}: the row has neither messages nor prompt and completion")
    prompt, completion = fields.text("prompt", empty=True), fields.text("completion")
    return Completion(row.place, prompt, completion, fields.learned() is not False)


def check_length(where: str, length: int, longest: int) -> None:
    """Make sure that a row's texts are not too long.

    Raises:
        DataError: they are.
    """
    if length > longest:
        raise DataError(
            f"{where}: its answers, each with all that precedes it, are longer than {longest:,} characters together"
        )


def _form(row: Row) -> frozenset[str]:
    """Return the fields of the form a row has, or of both forms if it has neither."""
    if holds_something(row.fields.get("messages")):
        return _MESSAGES
    return _COMPLETION if _COMPLETION & row.fields.keys() else _MESSAGES | _COMPLETION


def _conversation(fields: Fields, ignored: Collection[str], learn: Learn) -> Conversation:
    turns = read_turns(fields.where, fields.value("messages"), ignored)
    chosen = answers(fields.where, turns, learn)
    tools = read_tools(fields.where, fields.value("tools")) if "tools" in fields else []
    if "parallel_tool_calls" in fields:
        check_parallel_calls(fields.where, fields.value("parallel_tool_calls"), [turn.called for turn in turns])
    return Conversation(fields.where, turns, [] if fields.learned() is False else chosen, tools)


def _render(
    where: str, template: ChatTemplate | None, turns: Sequence[Turn], tools: list[dict[str, Any]]
) -> tuple[str, str]:
    """Return the conversation before its last message, and that answer with its end-of-turn token."""
    if template is None:
        raise DataError(f"{where}: the base has no chat template; use prompt and completion")
    messages = [turn.message() for turn in turns]
    try:
        prompt = template.render(messages[:-1], tools=tools or None)
        whole = template.render(messages, tools=tools or None, add_generation_prompt=False)
        plain = template.render(messages[:-1]) if tools else None
    except ChatTemplateError as error:
        raise DataError(f"{where}: the chat template refuses these messages: {quoted(str(error))}") from error
    if not whole.startswith(prompt):
        raise DataError(f"{where}: the chat template renders the answer's context differently from a prompt")
    # Text after the end-of-turn token (a newline in most templates) is never generated, so it is not learned.
    answer = whole[len(prompt) :].rstrip()
    if prompt == plain or any(name not in answer for name in turns[-1].called):
        raise DataError(f"{where}: the chat template does not show tools; name one that does (chat_template)")
    return prompt, answer
