"""OpenAI's fine-tuning with OpenAI's SDK, from a file of chats to a model that answers: only the URL isn't OpenAI's.

python examples/finetune_openai.py http://127.0.0.1:8000/v1 KEY
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI

DATA = Path(__file__).parent / "data" / "kingjames.train.jsonl"
QUESTION = "Say it in King James English: You have read my letter, and you know where I am going."
ENDED = ("succeeded", "failed", "cancelled")


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Print how long a part took."""
    began = time.monotonic()
    yield
    print(f"{part}: {time.monotonic() - began:.1f} s")


def main(url: str, key: str, chats: int = 300) -> None:
    """Upload chats, train on them, ask the model, and delete both."""
    client = OpenAI(base_url=url, api_key=key)
    base = client.models.list().data[0].id
    content = b"".join(DATA.read_bytes().splitlines(keepends=True)[:chats])
    with timed(f"upload of {chats} chats, {len(content)} bytes"):
        file = client.files.create(file=("chats.jsonl", content), purpose="fine-tune")
    with timed("training"):
        job = client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix="kingjames-demo", seed=7)
        seen: set[str] = set()
        while True:
            job = client.fine_tuning.jobs.retrieve(job.id)
            for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
                if event.id not in seen:
                    print(" ", event.message)
                seen.add(event.id)
            if job.status in ENDED:
                break
            time.sleep(1)
    if job.fine_tuned_model is None:
        sys.exit(f"{job.id} {job.status}: {job.error}")
    with timed("first answer"):
        answer = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=48
        )
    print(f"{job.fine_tuned_model}: {answer.choices[0].message.content}")
    with timed("deletion"):
        client.models.delete(job.fine_tuned_model)
        client.files.delete(file.id)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:]))
