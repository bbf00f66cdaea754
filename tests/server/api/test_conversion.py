"""A PEFT LoRA uploaded as its two files becomes an artifact like any other, or is refused by name."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save

from headmix_adapters.artifact import open_artifact
from headmix_adapters.artifact.tensors import load_tensors
from tests.support.api_rig import ApiRig

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
    # The converting process loads torch, which takes its time on a busy machine.
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
    response = await upload(rig, CONFIG | {"use_dora": True})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_adapter")
    (fault,) = response.json()["error"]["faults"]
    assert fault.startswith("use_dora: DoRA")
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


async def test_a_second_conversion_at_the_same_time_is_told_to_come_back(rig: ApiRig) -> None:
    busy: threading.Lock = rig.state.converter._busy
    with busy:
        response = await upload(rig)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert (await upload(rig)).status_code == 201
