"""Twenty concurrent requests with headmix's own client, each with its own adapter: the server runs them in one batch.

python examples/async_client.py
"""

import asyncio
import os
from pathlib import Path

from headmix import AsyncClient

WORDS = ["sparrow", "anchor", "violin", "harvest", "lantern", "river", "copper", "bridge", "winter", "letter"]


async def main(key: str) -> None:
    """Define ten words and classify ten texts, concurrently."""
    async with AsyncClient(api_key=key) as client:
        definitions = [
            client.chat(f'Define "{word}".', model="dictionary", temperature=0, max_tokens=64) for word in WORDS
        ]
        categories = [client.classify(f"a {word}", model="category") for word in WORDS]
        answers, labels = await asyncio.gather(asyncio.gather(*definitions), asyncio.gather(*categories))
    for word, answer, label in zip(WORDS, answers, labels, strict=True):
        print(f"{word} ({label.data[0].label}): {answer.text}")


if __name__ == "__main__":
    asyncio.run(main(os.environ.get("HEADMIX_API_KEY") or Path(".headmix/admin.key").read_text().strip()))
