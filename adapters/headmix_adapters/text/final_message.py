"""A conversation whose last message is to be continued: its prompt ends with that message's content.

As in transformers, templates know nothing of it. The content gets a mark at its end, and what is rendered is cut there.
"""

import secrets
from collections.abc import Mapping, Sequence


class FinalMessageError(ValueError):
    """The last message cannot be continued."""


class EndMark:
    """A mark behind a content. The space in it shows whether the template strips contents."""

    def __init__(self, content: str) -> None:
        self._content = content.strip()
        self._word = secrets.token_hex(16)
        self.marked = f"{content}{self._word} "

    def cut(self, rendered: str) -> str:
        """Return the part of the rendered conversation that ends with the content, stripped if the template does so.

        Raises:
            FinalMessageError: the content is not in it as it is.
        """
        place = rendered.rfind(self._word)
        if place < 0 or self._content not in rendered:
            raise FinalMessageError("the final message, which is to be continued, is not shown as it is")
        kept, behind = rendered[:place], rendered[place + len(self._word) :]
        return kept if behind.startswith(" ") else kept.rstrip()


def with_end_marked(
    messages: Sequence[Mapping[str, object]],
) -> tuple[Sequence[Mapping[str, object]], EndMark]:
    """Return the messages with a mark behind the last one's content.

    Raises:
        FinalMessageError: it has no content, or more than that.
    """
    last = messages[-1] if messages else {}
    content = last.get("content")
    if not isinstance(content, str) or last.get("tool_calls"):
        raise FinalMessageError("the final message has no text that could be continued")
    mark = EndMark(content)
    return [*messages[:-1], {**last, "content": mark.marked}], mark
