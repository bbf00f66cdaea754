"""instructor: a model of pydantic's, as a JSON schema and as a tool."""

import os
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Ticket(BaseModel):
    """A support ticket."""

    kind: Literal["bug", "question", "praise"]
    urgent: bool


if __name__ == "__main__":
    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
        client = instructor.from_openai(OpenAI(), mode=mode)
        ticket = client.create(
            model=os.environ["MODEL"],
            messages=[{"role": "user", "content": "File this."}],
            response_model=Ticket,
            max_tokens=400,
            max_retries=0,
        )
        assert isinstance(ticket, Ticket)
