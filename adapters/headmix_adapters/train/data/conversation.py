"""A row's messages as turns, each marked as to be learned or not. Knows neither templates nor tokens.

Accepts the same roles and contents as serving, so that nothing is learned that could not be asked.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from headmix_adapters.train.data.fields import LEARNT, Fields, as_text, shown
from headmix_adapters.train.data.tools import read_calls
from headmix_adapters.train.errors import DataError

Learn = Literal["last", "all"]
"""Which answers of a conversation are learned where the data marks none."""

_ASKING = ("user", "tool")
_KNOWN = frozenset({"role", "content", "name"}) | LEARNT
_OF_ROLE = {"assistant": frozenset({"tool_calls"}), "tool": frozenset({"tool_call_id"})}
# Templates see OpenAI's `developer` as `system`, in serving too.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; `learned` is what the data says about it, or None if it says nothing.

    `content` is None in an answer that only calls tools; `more` are the fields that only some messages have.
    """

    role: str
    content: str | None
    learned: bool | None
    more: dict[str, Any] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        """Return the message in the form a chat template reads."""
        return {"role": self.role, "content": self.content, **self.more}

    @property
    def called(self) -> list[str]:
        """The names of the functions it calls."""
        return [call["function"]["name"] for call in self.more.get("tool_calls", ())]


def read_turns(where: str, messages: object, ignored: Collection[str]) -> list[Turn]:
    """Return the turns of a row's `messages`, which end with the assistant's answer to something.

    Raises:
        DataError: a message is not understood in full; row, message and field are named.
    """
    if not isinstance(messages, list):
        raise DataError(f"{where}: messages are a list (in JSON Lines; CSV has prompt and completion)")
    turns = [_turn(f"{where}: messages[{number}]", given, ignored) for number, given in enumerate(messages)]
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise DataError(f"{where}: messages must end with the assistant's answer to something")
    return turns


def answers(where: str, turns: list[Turn], learn: Learn = "last") -> list[int]:
    """Return the indices of the messages to learn: those the data marks, and the last unless it is excluded.

    A message that is not the assistant's is never learned, so marking it as not learned changes nothing.

    With `learn` "all", every answer of the assistant to something that is not excluded, as in OpenAI's fine-tuning.

    Raises:
        DataError: a message that is not an assistant's answer is marked as learned.
    """
    wanted = [number for number, turn in enumerate(turns) if turn.learned]
    if foreign := [number for number in wanted if number == 0 or turns[number].role != "assistant"]:
        raise DataError(f"{where}: messages[{foreign[0]}] is marked as learned; only the assistant's answers can be")
    last = len(turns) - 1
    if learn == "all":
        asked = next((number for number, turn in enumerate(turns) if turn.role in _ASKING), last)
        later = [number for number, turn in enumerate(turns) if number > asked and turn.role == "assistant"]
        return sorted({*wanted, *(number for number in later if turns[number].learned is None)})
    return [*wanted, last] if turns[last].learned is None else wanted


def _turn(where: str, given: object, ignored: Collection[str]) -> Turn:
    if not isinstance(given, dict):
        raise DataError(f"{where} is not an object with role and content")
    role = given.get("role")
    fields = Fields(where, given, _KNOWN | _OF_ROLE.get(str(role), frozenset()), ignored)
    role = fields.value("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where}: role {shown(role)} is not one of {', '.join(_ROLES)}")
    more: dict[str, Any] = {name: fields.text(name) for name in ("name", "tool_call_id") if name in fields}
    if "tool_calls" in fields:
        more["tool_calls"] = read_calls(where, fields.value("tool_calls"))
    only_calls = "tool_calls" in more and "content" not in fields
    content = None if only_calls else _content(where, fields.value("content"))
    return Turn(_ROLES[role], content, fields.learned(), more)


def _content(where: str, content: object) -> str:
    """Return a message's content as one text; it may be a list of text parts, as in serving."""
    if not isinstance(content, list):
        return as_text(f"{where}: content", content)
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != "text":
            raise DataError(f"{where}: content[{number}] is not a text part; only text can be learned")
        texts.append(as_text(f"{where}: content[{number}].text", part["text"]))
    return "".join(texts)
