"""`headmix serve` with an adapter that overflows: its owner gets errors that name it, everybody else gets answers."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch

from harness.adapters.artifacts import adapter_config, classifier_config, random_artifact, random_tensors
from harness.bases.tiny_model import make_tiny_llama
from harness.server.running_server import RunningServer, running_server
from headmix import AsyncClient, Client, CompletionParams, NumericalError, StreamError
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape

pytestmark = pytest.mark.slow

HUGE = 1.7e38
PROMPTS = ("Every head has its own kernel", "The quick brown fox", "Once upon a time", "x", "Hello world " * 9)
DTYPES = ["float32", "bfloat16"]


def write_huge(path: Path, base: BaseShape, *labels: str) -> Path:
    """Write an adapter that is accepted because its weights are finite."""
    classifier = classifier_config(*labels) if labels else None
    config = adapter_config(base, task="classification" if labels else "generation", classifier=classifier)
    tensors = {name: torch.full_like(tensor, HUGE) for name, tensor in random_tensors(config).items()}
    write_artifact(path, config, tensors, torch.bfloat16)
    return path


def make_adapters(folder: Path, base: BaseShape) -> list[Path]:
    random_artifact(folder / "good.safetensors", base, seed=3, scale=0.3)
    huge = write_huge(folder / "huge.safetensors", base)
    return [folder / "good.safetensors", huge, write_huge(folder / "judge.safetensors", base, "a", "b", "c")]


def ask(client: Client, model: str, prompt: str) -> str:
    return client.complete(prompt, model=model, max_tokens=12, temperature=0).choices[0].text


def answers(client: Client, base: str) -> list[str]:
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        return list(pool.map(lambda prompt: ask(client, base, prompt) + ask(client, "good", prompt), PROMPTS))


def expect_errors(client: Client) -> None:
    """Send every kind of request to the adapters that overflow."""
    params: list[CompletionParams] = [{}, {"temperature": 0}, {"logprobs": 3}, {"echo": True, "logprobs": 1}, {"n": 3}]
    for asked in params:
        with pytest.raises(NumericalError, match=r"'huge@1': the result is not finite") as error:
            client.complete("Every head", model="huge", **asked)
        assert (error.value.status, error.value.code) == (500, "numerical_error")
    with pytest.raises((NumericalError, StreamError), match=r"huge@1"):
        list(client.stream.complete("Every head", model="huge", max_tokens=4))
    with pytest.raises(NumericalError, match=r"judge@1"):
        client.classify(["Every head", "x"], model="judge")
    with pytest.raises(NumericalError, match=r"huge@1"):
        client.embed("Every head", model="huge")


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_adapter_that_overflows_is_an_error_to_its_owner_and_nothing_to_others(tmp_path: Path, dtype: str) -> None:
    make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    settings = {"base": base.folder, "runner": "torch", "dtype": dtype, "kv_cache_mib": 1, "block_size": 4}
    with running_server(tmp_path, threads=1, **settings) as server:  # type: ignore[arg-type]
        with Client(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
            for path in make_adapters(tmp_path, base.shape):
                client.adapters.push(path.stem, path)
            alone = answers(client, base.name)
            over = threading.Event()

            def attack() -> None:
                while not over.is_set():
                    expect_errors(client)

            with ThreadPoolExecutor(1) as pool:
                attacking = pool.submit(attack)
                try:
                    beside = [answers(client, base.name) for _ in range(3)]
                finally:
                    over.set()
                attacking.result()
            assert beside == [alone] * 3
            assert answers(client, base.name) == alone
        check_metrics_and_log(server)


def check_metrics_and_log(server: RunningServer) -> None:
    lines = [event for event in server.events("request failed") if event["code"] == "numerical_error"]
    assert {event["adapter"] for event in lines} == {"huge@1", "judge@1"}
    assert len({event["request_id"] for event in lines}) == len(lines)
    metrics = httpx2.get(f"{server.base_url}/metrics", headers=server.headers).text
    counted = re.search(r"^headmix_numerical_errors_total ([\d.]+)$", metrics, re.MULTILINE)
    assert counted is not None
    assert float(counted[1]) > 0


async def test_the_asynchronous_client_raises_the_same(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    with running_server(tmp_path, base=base.folder, runner="torch", threads=1, kv_cache_mib=1) as server:
        async with AsyncClient(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
            await client.adapters.push("huge", write_huge(tmp_path / "huge.safetensors", base.shape))
            with pytest.raises(NumericalError, match=r"huge@1"):
                await client.complete("Every head", model="huge", max_tokens=4)
