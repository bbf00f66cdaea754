"""Roll out a new version: upload it next to the current one, send it some of the requests, promote it, roll back.

python examples/upload_and_canary.py
"""

import os
from collections import Counter
from pathlib import Path

from headmix import Client

HERE = Path(__file__).parent / "adapters"
NAME = "greeting"


def main() -> None:
    """Publish two versions under one name and move traffic from the first to the second."""
    key = os.environ.get("HEADMIX_API_KEY") or Path(".headmix/admin.key").read_text().strip()
    with Client(api_key=key) as client:
        first = client.adapters.push(NAME, HERE / "kingjames.safetensors")
        second = client.adapters.push(NAME, HERE / "dictionary.safetensors", current=False)
        client.adapters.canary(NAME, version=second.version, percent=30)
        print(f"versions {first.version} and {second.version}; a canary of 30 %")
        print("answers by version:", dict(Counter(version(client) for _ in range(20))))
        client.adapters.promote(NAME)
        print("promoted: now version", client.adapters.get(NAME).version)
        client.adapters.rollback(NAME, version=first.version)
        print("rolled back: now version", client.adapters.get(NAME).version)
        client.adapters.remove(NAME)


def version(client: Client) -> int:
    """Return which version answered one request."""
    answer = client.complete("Good morning", model=NAME, max_tokens=2)
    if answer.adapter is None or answer.adapter.version is None:
        raise RuntimeError("no adapter answered")
    return answer.adapter.version


if __name__ == "__main__":
    main()
