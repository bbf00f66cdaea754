"""A PEFT LoRA uploaded as its two files becomes an artifact like any other, or is refused with the fault named."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save

from harness.server.api_rig import TENANT, ApiRig
from headmix_adapters.artifact import open_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.convert import isolated
from tests.support.clocks.waiting import until

pytestmark = pytest.mark.slow

URL = "/v1/adapters"
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj"]}


def lora() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    module = "base_model.model.model.layers.1.self_attn.q_proj"
    return {
        f"{module}.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{module}.lora_B.weight": torch.randn(32, 2, generator=generator),
    }


async def upload(
    rig: ApiRig,
    config: object = CONFIG,
    tensors: dict[str, torch.Tensor] | None = None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    files = {"file": ("adapter_model.safetensors", save(lora() if tensors is None else tensors))}
    data = {"name": "tone", "config": config if isinstance(config, str) else json.dumps(config), **more}
    # The converting process loads torch, which takes a while on a busy machine.
    return await rig.client.post(URL, data=data, files=files, timeout=100)


async def test_a_peft_lora_is_stored_as_the_artifact_it_equals(rig: ApiRig, tmp_path: Path) -> None:
    response = await upload(rig)
    assert response.status_code == 201, response.text
    adapter = response.json()
    assert (adapter["method"], adapter["task"], adapter["version"]) == ("lora", "generation", 1)
    assert adapter["sites"] == {"q": {"shared": {"rank": 2, "scale": 1.5}}}
    path = tmp_path / "back.safetensors"
    path.write_bytes((await rig.client.get(f"{URL}/tone/file")).content)
    assert open_artifact(path).config.base == rig.state.base.shape
    sent = lora()
    assert all(torch.equal(a, b) for a, b in zip(load_tensors(path).values(), sent.values(), strict=True))
    again = await upload(rig)
    assert (again.status_code, again.json()["digest"]) == (200, adapter["digest"])


async def test_a_head_has_the_labels_sent_with_it(rig: ApiRig) -> None:
    tensors = lora() | {"base_model.model.score.weight": torch.ones(2, 32)}
    response = await upload(rig, CONFIG | {"task_type": "SEQ_CLS"}, tensors, {"labels": '["good", "bad"]'})
    assert (response.status_code, response.json()["labels"]) == (201, ["good", "bad"])


async def test_what_cannot_be_converted_is_refused_by_field_and_stores_nothing(rig: ApiRig) -> None:
    response = await upload(rig, CONFIG | {"peft_type": "LOHA"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_adapter")
    (fault,) = response.json()["error"]["faults"]
    assert fault.startswith("peft_type: ")
    assert (await rig.client.get(URL)).json()["data"] == []


async def test_malformed_fields_name_themselves(rig: ApiRig) -> None:
    for fields in ({"labels": "good,bad"}, {"problem": "ranking"}):
        response = await upload(rig, more=fields)
        assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(fields)))
    alone = {"name": "tone", "labels": '["a"]'}
    response = await rig.client.post(URL, data=alone, files={"file": ("a", b"x")})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "labels")
    response = await upload(rig, "x" * 70_000)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "config")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the process refuse everything, without loading torch."""
    refuse = f"print('[\"x: no\"]', end=''); exit({isolated.REFUSED})"
    monkeypatch.setattr(isolated, "COMMAND", (sys.executable, "-c", refuse))


@pytest.mark.usefixtures("refusing")
async def test_an_upload_waits_its_turn_behind_another_conversion(rig: ApiRig) -> None:
    turns = rig.state.converter.turns
    async with turns.turn("other"):
        waiting = asyncio.create_task(upload(rig))
        await until(lambda: turns.waiting == 1)
    assert (await waiting).status_code == 422


async def test_uploads_beyond_a_tenants_queue_are_refused_with_a_retry_time(rig: ApiRig) -> None:
    turns = rig.state.converter.turns
    async with turns.turn("other"), asyncio.TaskGroup() as group:
        waiting = [group.create_task(upload(rig)) for _ in range(rig.state.settings.conversions_waiting)]
        await until(lambda: turns.waiting == len(waiting))
        response = await upload(rig)
        assert (response.status_code, response.json()["error"]["param"]) == (429, "config")
        assert response.headers["retry-after"] == "5"
        for task in waiting:
            task.cancel()
    await until(lambda: not turns.waiting)


async def test_a_conversion_ends_with_its_client_and_leaves_nothing(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = tmp_path / "artifacts" / "incoming"
    begun = tmp_path / "begun"
    busy = f"import os; f = open({str(begun)!r}, 'w'); f.write(str(os.getpid())); f.close()\nwhile True: pass"
    monkeypatch.setattr(isolated, "COMMAND", (sys.executable, "-c", busy))
    leaving = asyncio.create_task(upload(rig))
    await until(lambda: begun.exists() and begun.read_text() != "")
    leaving.cancel()
    process = Path("/proc", begun.read_text())
    await until(lambda: not process.exists() and not list(incoming.iterdir()))
    assert not rig.state.converter.turns.waiting
    async with asyncio.timeout(60), rig.state.converter.turns.turn("next"):
        pass


async def test_a_pattern_that_would_backtrack_for_minutes_is_matched_at_once(rig: ApiRig) -> None:
    assert (await upload(rig, CONFIG | {"rank_pattern": {"([a-z_0-9.]+)+!": 8}})).status_code == 201


async def test_a_lora_and_what_it_becomes_are_not_both_charged(rig: ApiRig) -> None:
    size = (await upload(rig)).json()["size_bytes"]
    assert (await rig.client.delete(f"{URL}/tone")).status_code == 200
    rig.state.limits.change(TENANT, {"stored_bytes": max(size, len(save(lora())))}, actor="test")
    assert (await upload(rig)).status_code == 201
    assert rig.state.incoming.arrived(TENANT) == 0
