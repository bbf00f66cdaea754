"""Every text of a conversation is found and changed, wherever a client puts it."""

from harness.bases.tool_templates import HERMES
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.text.conversation import Conversation

CONVERSATION = Conversation(
    [
        {"role": "user", "content": "A", "name": None},
        {"role": "assistant", "content": "B", "tool_calls": [{"id": "C", "function": {"name": "D", "arguments": "E"}}]},
        {"role": "tool", "content": "F", "tool_call_id": "C"},
    ],
    [{"type": "G", "function": {"name": "H", "parameters": {"I": ["J", {"K": 1}], "L": None}}}],
)


def test_texts_in_calls_and_tools_are_found_names_included() -> None:
    assert set("ABCDEFGHIJKL") <= set("".join(CONVERSATION.texts()))
    assert Conversation([{"role": "user", "content": "A", "name": None}]).texts() == ["user", "A"]


def test_every_text_is_changed_and_only_roles_are_not() -> None:
    changed = CONVERSATION.with_texts(lambda _: "x")
    assert changed.turns == [
        {"role": "user", "content": "x", "name": None},
        {"role": "assistant", "content": "x", "tool_calls": [{"x": {"x": "x"}}]},
        {"role": "tool", "content": "x", "tool_call_id": "x"},
    ]
    assert changed.tools == [{"x": {"x": {"x": None}}}]
    assert Conversation([]).with_texts(str.upper) == Conversation([])


def test_unchanged_texts_render_the_same() -> None:
    template = ChatTemplate(HERMES, {})
    asked = Conversation(CONVERSATION.turns[:1], CONVERSATION.tools)
    assert asked.with_texts(lambda text: text).render(template) == asked.render(template)
    assert '"I": ["J", {"K": 1}]' in asked.render(template)
