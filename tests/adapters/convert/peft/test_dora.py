"""A converted DoRA answers as PEFT does where an artifact can hold the whole change, and is refused where it can't."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from harness.adapters.peft_lora import RENAMED, load_model
from headmix_adapters.artifact import Limits
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import HeadPart
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.dora import require_room
from headmix_adapters.convert.peft.module_lora import ModuleLora
from headmix_adapters.convert.source import convert_source
from tests.adapters.convert.conftest import MakeBase, MakePeft
from tests.adapters.convert.peft.test_lora import assert_same

pytestmark = pytest.mark.filterwarnings(RENAMED)


def reloaded(folder: Path, base: ResolvedBase, task_type: str | None) -> PeftModel:
    """Spread the magnitudes, which the fixture draws around 0, around those of the base, and load PEFT's model."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if "magnitude" in name:
            tensors[name] = 2.0 + tensor
    save_file(tensors, path)
    model = PeftModel.from_pretrained(load_model(base, task_type), folder)
    model.train(mode=False)
    return model


@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("llama", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("gpt2", ["c_attn", "attn.c_proj"]),
        ("bert", ["query", "value", "attention.output.dense"]),
    ],
)
def test_the_whole_change_answers_as_pefts_dora(
    model_type: str, targets: list[str], make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base, task_type = make_base(model_type), None if model_type == "bert" else "CAUSAL_LM"
    folder, _ = make_peft(base, task_type=task_type, r=2, lora_alpha=3, use_dora=True, target_modules=targets)
    converted = assert_same(folder, reloaded(folder, base, task_type), base, ids)
    q, o = converted.config.sites.q, converted.config.sites.o
    assert q is not None
    assert o is not None
    assert q.head == HeadPart(rank=base.shape.head_dim, base="x", bias=False)
    assert o.head == HeadPart(rank=base.shape.head_dim, base="a", bias=False)
    assert converted.notes[0].startswith("use_dora: ")
    assert "modules became the whole change of their weights" in converted.notes[0]


def test_half_precision_is_widened_since_products_are_stored(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, use_dora=True, target_modules=["q_proj"])
    reloaded(folder, base, "CAUSAL_LM")
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    assert convert_source(folder, base).dtype == torch.float32


def refusal(folder: Path, base: ResolvedBase) -> str:
    with pytest.raises(ConvertError) as caught:
        convert_source(folder, base)
    return str(caught.value)


def test_what_an_artifact_cannot_hold_is_refused_by_name(
    make_base: MakeBase, make_peft: MakePeft, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, use_dora=True, target_modules=["gate_proj"])
    path, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    monkeypatch.setattr(Limits, "most_rank", lambda *_: 31)
    name = "model.layers.0.mlp.gate_proj.lora_magnitude_vector"
    assert refusal(folder, base) == (
        f"{name}: DoRA rescales every row of a 48 x 32 matrix: on site gate_up that takes rank 32, "
        "and an artifact has at most 31"
    )
    tensors = load_file(path)
    save_file({stored: tensor for stored, tensor in tensors.items() if name not in stored}, path)
    assert refusal(folder, base) == f"{name}: missing, and use_dora is true"
    save_file(tensors | {f"base_model.model.{name}": torch.ones(3)}, path)
    assert refusal(folder, base) == f"{name}: its shape is [3], the module's weight has [48, 32]"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": False}))
    assert "lora_magnitude_vector: a DoRA magnitude, and use_dora is false" in refusal(folder, base)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True, "use_bdlora": {"nblocks": 2}}))
    assert refusal(folder, base) == "use_dora: PEFT does not combine DoRA with use_bdlora"


def test_changes_of_more_bytes_than_an_artifact_has_are_refused_before_they_are_computed() -> None:
    lora = ModuleLora("q", torch.ones(1, 512), torch.ones(1024, 1), None, 1.0, None, torch.ones(1024))
    with pytest.raises(ConvertError, match=r"use_dora: .* the changes of 2 modules take 4 MiB, .* at most 3"):
        require_room([lora, lora], Limits(max_bytes=3 << 20))
