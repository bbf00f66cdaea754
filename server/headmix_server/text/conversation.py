"""A conversation as a chat template sees it: its turns, the tools that the model may call, and how it is rendered.

Owns where clients' texts are in it, however deeply they are nested. It knows neither templates nor tokenizers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headmix_adapters.text.chat_template import ChatTemplate, TemplateOptions

Turn = Mapping[str, object]
"""A message: its role and texts; an assistant's may have `tool_calls` in OpenAI's shape."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a prompt is rendered from. `tools` are in OpenAI's shape; None if the model is offered none."""

    turns: Sequence[Turn]
    tools: Sequence[Mapping[str, object]] | None = None
    options: TemplateOptions = field(default_factory=TemplateOptions)

    @property
    def variables(self) -> Mapping[str, object]:
        """The values that the client has for the template's variables."""
        return self.options.get("variables", {})

    def texts(self) -> list[str]:
        """Return every text in it; of its tools, calls and variables, names too."""
        turns = _texts([list(turn.values()) for turn in self.turns])
        return [*turns, *_texts(self.tools or ()), *_texts(list(self.variables.values()))]

    def with_texts(self, change: Callable[[str], str]) -> "Conversation":
        """Return a copy in which every text but the roles is changed."""
        turns = [
            {name: value if name == "role" else _changed(value, change) for name, value in turn.items()}
            for turn in self.turns
        ]
        tools = None if self.tools is None else [_changed_object(tool, change) for tool in self.tools]
        options = self.options
        if self.variables:
            variables = {name: _changed(value, change) for name, value in self.variables.items()}
            options = {**options, "variables": variables}
        return Conversation(turns, tools, options)

    def render(self, template: ChatTemplate) -> str:
        """Return the prompt.

        Raises:
            ChatTemplateError: as `ChatTemplate.render`.
        """
        return template.render(self.turns, tools=self.tools, **self.options)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield name
            yield from _texts(entry)
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _texts(entry)


def _changed(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return _changed_object(value, change)
    if isinstance(value, Sequence):
        return [_changed(entry, change) for entry in value]
    return value


def _changed_object(value: Mapping[str, object], change: Callable[[str], str]) -> dict[str, object]:
    return {change(name): _changed(entry, change) for name, entry in value.items()}
