"""Reads the calls of tools in a chat's answer, in the format of the model's chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.core.errors import InvalidRequest
from headmix_server.llm.results import ToolCall
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.tools.declared import DeclaredFormat, ResponseTemplateError
from headmix_server.text.tools.formats import ToolFormat
from headmix_server.text.tools.parts import AnswerReader, Argued, Called, Said, Thought
from headmix_server.text.tools.reader import ToolReader
from headmix_server.text.tools.recognise import end_of_prompt, format_of, open_thought, special_markers

Tools = Sequence[Mapping[str, object]]
"""Functions in OpenAI's shape: `{"type": "function", "function": {"name", "description", "parameters"}}`."""


@dataclass(frozen=True, slots=True)
class Read:
    """An answer's text, reasoning and calls."""

    text: str
    reasoning: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolReading:
    """How the answers of a model are read; `markers` are special tokens that are part of them."""

    format: ToolFormat | DeclaredFormat
    tools: Tools
    markers: Mapping[int, str]

    def read(self, tokenizer: Tokenizer, prompt: Sequence[int], text: str) -> Read:
        """Return what an answer to a prompt consists of.

        Raises:
            InvalidRequest: the base's `response_template` is faulty.
        """
        reader = self._reader(end_of_prompt(tokenizer, prompt))
        said, thoughts = list[str](), list[str]()
        calls: list[tuple[str, list[str]]] = []
        for part in [*reader.push(text), *reader.end()]:
            match part:
                case Said(piece):
                    said.append(piece)
                case Thought(piece):
                    thoughts.append(piece)
                case Called(name):
                    calls.append((name, []))
                case Argued(piece):
                    calls[-1][1].append(piece)
        made = tuple(ToolCall(name, "".join(arguments)) for name, arguments in calls)
        return Read("".join(said), "".join(thoughts), made)

    def _reader(self, prompt_end: str) -> AnswerReader:
        if isinstance(self.format, ToolFormat):
            return ToolReader(self.format, _names(self.tools), thought_end=open_thought(prompt_end))
        try:
            return self.format.reader(prompt_end, self.tools)
        except ResponseTemplateError as error:
            raise InvalidRequest(f"The base's response_template is faulty: {error}", param="tools") from error


def tool_reading(template: ChatTemplate, tokenizer: Tokenizer, tools: Tools) -> ToolReading:
    """Return how the answers to chats with these tools are read.

    Raises:
        InvalidRequest: the template shows no tools, or has its model call them in a format that is not known.
    """
    found = format_of(template) if template.takes_tools else None
    if found is None:
        raise InvalidRequest("The model's chat template has no tools, or in a format that is not known.", param="tools")
    markers = {number: marker for marker, number in special_markers(tokenizer, found).items()}
    return ToolReading(found, tools, markers)


def _names(tools: Tools) -> frozenset[str]:
    functions = [tool.get("function") for tool in tools]
    return frozenset(str(one.get("name")) for one in functions if isinstance(one, Mapping))
