"""OpenAI's SDK: parsed answers, their stream, responses, and an agent's loop with tools."""

import json
import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = os.environ["MODEL"]


class Ticket(BaseModel):
    """What every answer is."""

    kind: Literal["bug", "question", "praise"]
    urgent: bool
    hours: int = Field(ge=1, le=9)


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Return the {name} of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Oslo", "Lima"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weather", "time")
]


def parsed(client: OpenAI) -> None:
    """Parse an answer, whole and streamed, in chat and as a response."""
    messages = [{"role": "user", "content": "File this."}]
    whole = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Ticket, max_tokens=200)
    assert isinstance(whole.choices[0].message.parsed, Ticket)
    with client.chat.completions.stream(
        model=MODEL, messages=messages, response_format=Ticket, max_tokens=200
    ) as stream:
        kinds = {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Ticket)
    assert {"chunk", "content.delta", "content.done"} <= kinds
    response = client.responses.parse(model=MODEL, input="File this.", text_format=Ticket, max_output_tokens=200)
    assert isinstance(response.output_parsed, Ticket)
    with client.responses.stream(model=MODEL, input="File this.", text_format=Ticket, max_output_tokens=200) as events:
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        last = events.get_final_response()
    assert text == last.output_text
    assert isinstance(last.output_parsed, Ticket)


def agent(client: OpenAI) -> None:
    """Answer each tool call, then ask for the last word."""
    messages = [{"role": "user", "content": "Weather and time in Oslo?"}]
    asked = client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, tool_choice="required", max_tokens=400
    )
    calls = asked.choices[0].message.tool_calls
    assert asked.choices[0].finish_reason == "tool_calls"
    assert calls
    messages.append(asked.choices[0].message.model_dump(exclude_none=True))
    for call in calls:
        assert json.loads(call.function.arguments)["city"] in {"Oslo", "Lima"}
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, tool_choice="none", max_tokens=8)
    assert last.choices[0].message.content
    assert not last.choices[0].message.tool_calls


if __name__ == "__main__":
    parsed(OpenAI())
    agent(OpenAI())
