"""All inference routes take the same steps in the same order, from shared code."""

from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api import routes
from headmix_server.core.messages import Classify, Embed, Generate

BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "completions": {"prompt": "hi"},
    "responses": {"input": "hi"},
    "classify": {"input": "hi"},
    "embeddings": {"input": "hi"},
    "rerank": {"query": "hi", "documents": ["you"]},
    "score": {"text_1": "hi", "text_2": "you"},
    "moderations": {"input": "hi"},
}
GENERATES = ("chat/completions", "completions", "responses")
PAIRS = ("rerank", "score")
FILES = ("chat", "completions", "responses", "classify", "embeddings", "pairs", "moderations", "tokens")


async def ask(rig: ApiRig, route: str, **changes: Any) -> tuple[int, str]:
    body = {"model": BASE} | BODIES[route] | changes
    response = await rig.client.post(f"/v1/{route}", json=body)
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("route", BODIES)
async def test_an_unknown_model_is_the_same_error_on_every_route(rig: ApiRig, route: str) -> None:
    assert await ask(rig, route, model="nobody") == (404, "model_not_found")
    assert not [*rig.engine.of(Generate), *rig.engine.of(Classify), *rig.engine.of(Embed)]


@pytest.mark.parametrize("route", [route for route in BODIES if route != "embeddings"])
async def test_a_model_of_another_task_is_refused_before_its_texts_are_read(rig: ApiRig, route: str) -> None:
    rig.publish("spam", b"1", labels=("ham", "spam"))
    model = "spam" if route in (*GENERATES, *PAIRS) else BASE
    assert await ask(rig, route, model=model) == (400, "task_mismatch")
    assert not [*rig.engine.of(Generate), *rig.engine.of(Classify), *rig.engine.of(Embed)]


@pytest.mark.parametrize("route", BODIES)
async def test_without_an_engine_every_route_returns_503_after_resolving_the_model(
    base_folder: Path, tmp_path: Path, route: str
) -> None:
    async with api_rig(base_folder, tmp_path, connected=False) as rig:
        rig.publish("spam", b"1", labels=("ham", "spam"), problem="multi_label")
        model = "spam" if route in ("classify", "moderations") else BASE
        assert await ask(rig, route, model=model) == (503, "engine_unavailable")
        assert await ask(rig, route, model="nobody") == (404, "model_not_found")


@pytest.mark.parametrize("name", FILES)
def test_a_route_repeats_none_of_the_steps(name: str) -> None:
    source = (Path(routes.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    steps = ("resolve_model", "require_ready", "vocabulary_of", "fetcher", "bounds_of", "record_of", "engine.ask")
    assert [step for step in steps if step in source] == []
