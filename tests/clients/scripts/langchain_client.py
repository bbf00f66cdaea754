"""LangChain: `with_structured_output`, `bind_tools` and a stream."""

import os
from typing import Literal

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Ticket(BaseModel):
    """A support ticket."""

    kind: Literal["bug", "question", "praise"]
    urgent: bool


@tool
def weather(city: Literal["Oslo", "Lima"]) -> str:
    """Return a city's weather."""
    return f"sunny in {city}"


if __name__ == "__main__":
    model = ChatOpenAI(model=os.environ["MODEL"], max_tokens=400)
    assert isinstance(model.with_structured_output(Ticket, method="json_schema").invoke("File this."), Ticket)
    assert isinstance(model.with_structured_output(Ticket, method="function_calling").invoke("File this."), Ticket)
    message = model.bind_tools([weather], tool_choice="any").invoke("Weather in Oslo?")
    assert message.tool_calls
    assert all(weather.invoke(call).content.startswith("sunny in") for call in message.tool_calls)
    assert "".join(str(chunk.content) for chunk in ChatOpenAI(model=os.environ["MODEL"], max_tokens=8).stream("Hello"))
