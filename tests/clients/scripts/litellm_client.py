"""LiteLLM: a parsed answer, a stream and a tool call."""

import json
import os
from typing import Literal

import litellm
from pydantic import BaseModel

ROUTE = {
    "model": f"openai/{os.environ['MODEL']}",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
}
MESSAGES = [{"role": "user", "content": "File this."}]


class Ticket(BaseModel):
    """What every answer is."""

    kind: Literal["bug", "question", "praise"]
    urgent: bool


TOOL = {
    "type": "function",
    "function": {"name": "file", "description": "File a ticket.", "parameters": Ticket.model_json_schema()},
}

if __name__ == "__main__":
    answer = litellm.completion(**ROUTE, messages=MESSAGES, response_format=Ticket, max_tokens=200)
    Ticket.model_validate_json(answer.choices[0].message.content)
    chunks = litellm.completion(**ROUTE, messages=MESSAGES, stream=True, max_tokens=8)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    called = litellm.completion(**ROUTE, messages=MESSAGES, tools=[TOOL], tool_choice="required", max_tokens=400)
    for call in called.choices[0].message.tool_calls:
        Ticket.model_validate(json.loads(call.function.arguments))
