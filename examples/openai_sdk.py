"""OpenAI's SDK with a running server (`make serve`): each adapter is a model.

python examples/openai_sdk.py
"""

import os
from pathlib import Path

from openai import OpenAI

QUESTIONS = {
    "smollm2-135m-instruct": "What is the capital of France?",
    "kingjames": "Say it in King James English: You have read my letter.",
    "dictionary": 'Define "sparrow".',
}


def main() -> None:
    """List the models, then stream an answer from each."""
    client = OpenAI(
        base_url=os.environ.get("HEADMIX_BASE_URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("HEADMIX_API_KEY") or Path(".headmix/admin.key").read_text().strip(),
    )
    print("models:", ", ".join(model.id for model in client.models.list()))
    for model, question in QUESTIONS.items():
        print(f"{model}: ", end="")
        for chunk in client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=48,
            stream=True,
        ):
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
