"""A row of any known form of conversation as OpenAI's newest form of it, which the other modules read."""

from collections.abc import Collection

from headmix_adapters.train.data.forms.functions import has_functions, with_tools
from headmix_adapters.train.data.forms.sharegpt import has_conversations, with_messages
from headmix_adapters.train.data.rows import Row


def in_openai_form(row: Row, ignored: Collection[str]) -> Row:
    """Return the row with messages and tools; one without a conversation as it is.

    Raises:
        DataError: the conversation is not understood in full; its place is named.
    """
    fields = row.fields
    if "conversations" not in ignored and has_conversations(fields):
        fields = with_messages(row.place, fields, ignored)
    if has_functions(fields):
        fields = with_tools(row.place, {name: value for name, value in fields.items() if name not in ignored})
    return row if fields is row.fields else Row(row.place, fields)
