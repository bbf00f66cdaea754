"""pydantic-ai: an agent whose answer is a model of pydantic's, as a schema and as a tool."""

import os
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings


class Ticket(BaseModel):
    """A support ticket."""

    kind: Literal["bug", "question", "praise"]
    urgent: bool


if __name__ == "__main__":
    provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
    model = OpenAIChatModel(os.environ["MODEL"], provider=provider)
    for output in (NativeOutput(Ticket), ToolOutput(Ticket)):
        agent = Agent(model, output_type=output, model_settings=ModelSettings(max_tokens=400))
        assert isinstance(agent.run_sync("File this.").output, Ticket)
