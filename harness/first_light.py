"""End to end on the real base, as a user sees it: real server processes, real HTTP, the OpenAI SDK.

Starts a server with the example adapters, measures the warm start, queries the base and every example through the
OpenAI SDK, checks that a stream arrives token by token, kills the engine under load and checks that it recovers,
restarts the server and checks that its adapters are still there. Prints one line per finding and a final line with one
JSON object; exits 1 if a promise is broken.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from openai import OpenAI
from openai.types.chat import ChatCompletionToolParam

from harness.machine import describe_machine
from harness.server.running_server import RunningServer, running_server, wait_for

BASE = "smollm2-135m-instruct"
EXAMPLES = Path(__file__).parents[1] / "examples"
CAPITAL = "What is the capital of France?"
MODERN = "Say it in King James English: You have read my letter, and you do not believe me."
DEFINE = 'Define "sparrow".'
WEATHER = "What is the weather in Lisbon?"
GET_WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OPEN_REQUESTS = 16


@dataclass
class Findings:
    """What was observed and measured; `broken` names the promises that did not hold."""

    figures: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def check(self, promise: str, held: object, seen: object) -> None:
        """Record whether a promise held, and print what was observed."""
        print(f"{'ok    ' if held else 'BROKEN'} {promise}: {seen}", flush=True)
        if not held:
            self.broken.append(promise)

    def measure(self, name: str, seconds: float) -> float:
        """Record a duration in seconds."""
        self.figures[name] = round(seconds, 3)
        return seconds


def ask(client: OpenAI, model: str, question: str, max_tokens: int = 48) -> str:
    """Return the greedy answer of a model."""
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=max_tokens
    )
    return answer.choices[0].message.content or ""


def check_answers(client: OpenAI, findings: Findings) -> None:
    """Check that the base knows the capital of France, and that each generator answers as trained, unlike the base."""
    paris = ask(client, BASE, CAPITAL)
    findings.check("the base answers Paris", "Paris" in paris, paris)
    old, new = ask(client, "kingjames", MODERN), ask(client, BASE, MODERN)
    archaic = ("thou", "thee", "thy", "hath", "ye ", "unto")
    findings.check("kingjames speaks the English of 1611", any(word in old.lower() for word in archaic), old)
    findings.check("the base does not", old != new, new)
    entry, prose = ask(client, "dictionary", DEFINE, 80), ask(client, BASE, DEFINE, 80)
    findings.check("dictionary answers with a record", set(_record(entry)) >= {"word", "kind", "definition"}, entry)
    findings.check("the base does not", not _record(prose), prose)
    check_tools(client, findings)


def check_tools(client: OpenAI, findings: Findings) -> None:
    """Check that the `tools` adapter calls the function that a request is about."""
    answer = client.chat.completions.create(
        model="tools", messages=[{"role": "user", "content": WEATHER}], tools=[GET_WEATHER], temperature=0
    )
    calls = [call.function for call in answer.choices[0].message.tool_calls or [] if call.type == "function"]
    seen = [(call.name, json.loads(call.arguments)) for call in calls]
    findings.check("tools calls the function", seen == [("get_weather", {"city": "Lisbon"})], seen)


def _record(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def check_classifiers(server: RunningServer, findings: Findings) -> None:
    """Check that the classifiers label held-out texts, several per request, better than the most frequent label."""
    for name in ("spam", "category"):
        lines = (EXAMPLES / "data" / f"{name}.eval.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[::3]]  # spread over the file, which may be sorted by label
        body = {"model": name, "input": [row["text"] for row in rows]}
        reply = httpx2.post(f"{server.base_url}/v1/classify", json=body, headers=server.headers, timeout=300)
        labels = [item["label"] for item in reply.json()["data"]]
        right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True)) / len(rows)
        truth = [row["label"] for row in rows]
        most_frequent = max(truth.count(label) for label in truth) / len(rows)
        findings.check(f"{name} beats its most frequent label on held-out texts", right > most_frequent, f"{right:.2f}")


def check_stream(client: OpenAI, findings: Findings) -> None:
    """Check that a stream's first text arrives long before its last."""
    began = time.perf_counter()
    stream = client.completions.create(model=BASE, prompt="Once upon a time", max_tokens=32, temperature=0, stream=True)
    times = [time.perf_counter() - began for _ in stream]
    findings.measure("time_to_first_token_s", times[0])
    findings.measure("stream_of_32_tokens_s", times[-1])
    findings.check(
        "a stream arrives token by token", len(times) >= 32 and times[0] < times[-1] / 2, f"{len(times)} chunks"
    )


async def kill_under_load(server: RunningServer, findings: Findings) -> None:
    """SIGKILL the engine under load: every open request gets a 503, and service recovers by itself."""
    body = {"model": BASE, "prompt": "Tell me everything.", "max_tokens": 2000, "ignore_eos": True}
    async with httpx2.AsyncClient(base_url=server.base_url, headers=server.headers, timeout=120) as client:
        tasks = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in range(OPEN_REQUESTS)]
        await asyncio.to_thread(wait_for, lambda: _running(server) == OPEN_REQUESTS, server)
        killed = time.perf_counter()
        os.kill(server.engine_pid(), signal.SIGKILL)
        replies = await asyncio.gather(*tasks)
        seconds = findings.measure("kill_to_last_503_s", time.perf_counter() - killed)
        told = [reply.status_code == 503 and reply.json()["error"]["code"] == "engine_unavailable" for reply in replies]
        findings.check("every open request gets a 503 body within 2 s", all(told) and seconds <= 2, f"{seconds:.2f} s")
        ready = await client.get("/readyz")
        findings.check(
            "/readyz says 503 with the reason", ready.status_code == 503 and "reason" in ready.json(), ready.text
        )
    await asyncio.to_thread(server.wait_ready)
    findings.measure("kill_to_ready_again_s", time.perf_counter() - killed)


def _running(server: RunningServer) -> int:
    lines = httpx2.get(f"{server.base_url}/metrics").text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("headmix_requests_running "))))


def adapters(server: RunningServer) -> list[str]:
    """Return the names of the tenant's adapters."""
    reply = httpx2.get(f"{server.base_url}/v1/adapters", headers=server.headers)
    return sorted(adapter["name"] for adapter in reply.json()["data"])


def main() -> int:
    """Run everything and return the exit status."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        began = time.perf_counter()
        with running_server(
            Path(folder), base=Path(BASE), data_dir=data_dir, runner="torch", preload=EXAMPLES / "adapters"
        ) as server:
            warm = findings.measure("warm_start_s", time.perf_counter() - began)
            findings.check("warm start to /readyz 200 in 15 s", warm <= 15, f"{warm:.1f} s")
            client = OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key, timeout=300)
            names = adapters(server)
            findings.check("the four examples are loaded", len(names) == 4, names)
            check_answers(client, findings)
            check_classifiers(server, findings)
            check_stream(client, findings)
            asyncio.run(kill_under_load(server, findings))
            findings.check("the adapters are intact", adapters(server) == names, names)
            status = server.stop(signal.SIGINT)
            findings.check("Ctrl-C ends it with status 0", status == 0, status)
        with running_server(Path(folder), base=Path(BASE), data_dir=data_dir, runner="torch") as server:
            wait_for(lambda: adapters(server) == names, server)
            findings.check("after a restart the adapters are still there", adapters(server) == names, names)
    print(json.dumps({"first_light": findings.figures, "broken": findings.broken, "machine": describe_machine()}))
    return 1 if findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
