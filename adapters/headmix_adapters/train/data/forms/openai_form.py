"""A row of any known form of conversation as OpenAI's newest form of it, which the other modules read."""

from collections.abc import Collection

from headmix_adapters.train.data.fields import holds_something
from headmix_adapters.train.data.forms.functions import has_functions, with_tools
from headmix_adapters.train.data.forms.sharegpt import has_conversations, with_messages
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

_PREFERENCES = ("preferred_output", "non_preferred_output")


def in_openai_form(row: Row, ignored: Collection[str]) -> Row:
    """Return the row with messages and tools; one without a conversation as it is.

    Raises:
        DataError: the conversation is not understood in full, or is not the row's only one, or it is one of
            preferences; its place is named.
    """
    fields = row.fields
    if preferences := [name for name in _PREFERENCES if name not in ignored and holds_something(fields.get(name))]:
        raise DataError(
            f"{row.place}: field {preferences[0]!r} is of preference data (DPO), which is not trained on; "
            "the input's messages with the preferred answer at their end are"
        )
    if "conversations" not in ignored and has_conversations(fields):
        if holds_something(fields.get("messages")):
            raise DataError(
                f"{row.place}: a row has one conversation, and this one has two: messages and conversations; "
                "if both are the same, ignore conversations with data.ignore (--ignore)"
            )
        fields = with_messages(row.place, fields, ignored)
    if has_functions(fields):
        fields = with_tools(row.place, {name: value for name, value in fields.items() if name not in ignored})
    return row if fields is row.fields else Row(row.place, fields)
