"""The work for a response is linear in its length, whole or streamed, with log-probabilities or without."""

from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import TokenOutput
from headmix_server.core.types import SamplingParams, TokenLogprob
from headmix_server.text.completion import CompletionText
from headmix_server.text.tokenizer import load_tokenizer
from tests.support.clocks.work import counted

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
SHORT, LONG = 50, 200
LOGPROBS: dict[str, dict[str, Any]] = {COMPLETIONS: {"logprobs": 2}, CHAT: {"logprobs": True, "top_logprobs": 2}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("scored", [False, True], ids=["plain", "logprobs"])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
async def test_four_times_the_tokens_are_four_times_the_work(
    rig: ApiRig, path: str, scored: bool, stream: bool
) -> None:
    letters = rig.encode("abcdefgh")
    body = {"model": BASE, "max_tokens": LONG, "stream": stream, **(LOGPROBS[path] if scored else {})}
    body |= {"prompt": "x"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "x"}]}
    works = []
    for tokens in (SHORT, LONG):
        rig.engine.reply = (letters * LONG)[:tokens]
        with counted("headmix_server/api") as work:
            assert (await rig.client.post(path, json=body)).status_code == 200
        works.append(work.instructions)
    short, long = works
    assert long < 1.1 * LONG / SHORT * short


@pytest.mark.parametrize("shown", ["text", "nothing"])
def test_log_probabilities_wait_for_their_text_at_no_cost(base_folder: Path, shown: str) -> None:
    tokenizer = load_tokenizer(base_folder)
    # Special tokens are never shown, so the entries of a run of them wait until the end.
    token = tokenizer.encode("a")[0] if shown == "text" else 0
    works = []
    for tokens in (SHORT, LONG):
        text = CompletionText(tokenizer, [3], SamplingParams(max_tokens=LONG, ignore_eos=True, logprobs=0), [])
        output = TokenOutput(request_id="r", tokens=[token], logprobs=[TokenLogprob(token=token, logprob=-1.0)])
        with counted("headmix_server/text") as work:
            for _ in range(tokens):
                text.add(output)
        works.append(work.instructions)
    short, long = works
    assert long < 1.1 * LONG / SHORT * short
