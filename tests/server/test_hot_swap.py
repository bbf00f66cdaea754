"""Hot swap on the real server: during continuous re-uploads every stream is of one version from first byte to last.

Both processes run, with the fake runner, whose tokens are a function of the adapter's digest and the prompt: the text
of each version can be computed, so a single token of another version, or of the base, is detected.
"""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx2
import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from headmix_adapters.base.folder import read_base_shape
from headmix_server.core.messages import TokenOutput
from headmix_server.core.types import FinishReason, SamplingParams
from headmix_server.engine.fake_runner import fake_token
from headmix_server.text.completion import CompletionText
from headmix_server.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

TOKENS = 60
STREAMS, AT_ONCE = 48, 6
OVERTAKEN = 12
"""How many streams must have seen another version become current while they ran."""


@dataclass
class Swapper:
    """Uploads two artifacts alternately under one name, as fast as the server allows, now and then rolling back."""

    server: RunningServer
    contents: tuple[bytes, bytes]
    swaps: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        with httpx2.Client(base_url=self.server.base_url, headers=self.server.headers, timeout=60) as client:
            for turn in itertools.count():
                if self.stopped.is_set():
                    return
                if turn % 5 == 4:
                    response = client.post("/v1/adapters/tone/rollback")
                else:
                    response = client.post(
                        "/v1/adapters", data={"name": "tone"}, files={"file": self.contents[turn % 2]}
                    )
                if response.status_code not in (200, 201):
                    self.faults.append(response.text)
                    return
                self.swaps += 1


@contextmanager
def swapping(server: RunningServer, contents: tuple[bytes, bytes]) -> Iterator[Swapper]:
    swapper = Swapper(server, contents)
    thread = threading.Thread(target=swapper.run)
    thread.start()
    try:
        yield swapper
    finally:
        swapper.stopped.set()
        thread.join()


@dataclass(frozen=True)
class Story:
    """One stream: the adapter named in the header, the text, and how often the version changed while it ran."""

    digest: str
    prompt: tuple[int, ...]
    text: str
    swaps: int


def stream(server: RunningServer, swapper: Swapper, number: int) -> Story:
    """Request one stream and read it to the end."""
    prompt = (5, 6, 7 + number)
    body = {"model": "tone", "prompt": list(prompt), "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    before, texts = swapper.swaps, list[str]()
    with (
        httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client,
        client.stream("POST", "/v1/completions", json=body) as response,
    ):
        assert response.status_code == 200, response.read()
        digest = response.headers["x-headmix-adapter"].split(" ")[1]
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    for line in lines:
        texts += [choice["text"] for choice in json.loads(line)["choices"]]
    return Story(digest, prompt, "".join(texts), swapper.swaps - before)


@pytest.mark.parametrize("slots", [1, 8])
def test_running_requests_finish_on_the_version_they_began_with_under_continuous_re_upload(
    tmp_path: Path, slots: int
) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    shape, tokenizer = read_base_shape(FAKE_BASE, base), load_tokenizer(base)
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    digests = [random_artifact(path, shape, seed=seed) for seed, path in enumerate(paths)]
    contents = (paths[0].read_bytes(), paths[1].read_bytes())

    @cache
    def expected(digest: str, prompt: tuple[int, ...]) -> str:
        history = prompt
        for _ in range(TOKENS):
            history = (*history, fake_token(digest, history, range(shape.vocab_size)))
        tokens = list(history[len(prompt) :])
        text = CompletionText(tokenizer, prompt, SamplingParams(max_tokens=TOKENS, ignore_eos=True), ())
        return text.add(TokenOutput(request_id="x", tokens=tokens, finish_reason=FinishReason.LENGTH)).text

    stories = list[Story]()
    with running_server(tmp_path, base=base, adapter_slots=slots) as server:
        httpx2.post(
            f"{server.base_url}/v1/adapters",
            headers=server.headers,
            data={"name": "tone"},
            files={"file": contents[1]},
            timeout=60,
        ).raise_for_status()
        with swapping(server, contents) as swapper, ThreadPoolExecutor(AT_ONCE) as threads:
            while not _enough(stories) and not swapper.faults:
                numbers = range(AT_ONCE * 2)
                stories += threads.map(lambda number: stream(server, swapper, number), numbers)
        assert swapper.faults == []
    assert {story.digest for story in stories} == set(digests)
    for story in stories:
        assert story.text == expected(story.digest, story.prompt)


def _enough(stories: list[Story]) -> bool:
    answered = Counter(story.digest for story in stories)
    overtaken = sum(story.swaps > 0 for story in stories)
    return len(stories) >= STREAMS and len(answered) == 2 and overtaken >= OVERTAKEN
