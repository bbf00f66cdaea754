"""Head parts leave as PEFT's block-diagonal LoRA: it computes the same, and comes back as the same file."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from peft import BdLoraConfig
from safetensors.torch import load_file, save_file

from harness.adapters.artifacts import random_artifact
from harness.adapters.peft_lora import RENAMED
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.export.export import export_peft_lora
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_adapters.presets import Ranks, kernel_mix_sites
from tests.adapters.convert.conftest import MakeBase, MakePeft
from tests.adapters.convert.peft.export.test_export import ENCODERS, own_answer, peft_answer

pytestmark = pytest.mark.filterwarnings(RENAMED)

BLOCKS = Sites(
    q=SiteConfig(head=HeadPart(rank=2, base="x", scale=0.7, bias=False)),
    k=SiteConfig(shared=SharedPart(rank=2, scale=1.5)),
    v=SiteConfig(head=HeadPart(rank=3, base="x", scale=1.5, bias=False)),
    o=SiteConfig(head=HeadPart(rank=1, base="a", scale=0.1, bias=False)),
    gate_up=SiteConfig(shared=SharedPart(rank=2, scale=0.5)),
    down=SiteConfig(shared=SharedPart(rank=1)),
)
ON_KEY = Sites(v=SiteConfig(head=HeadPart(rank=3, base="k", bias=False)))


@pytest.mark.parametrize("sites", [BLOCKS, ON_KEY], ids=["every site", "value on the key"])
@pytest.mark.parametrize("model_type", ["llama", "bert", "roberta"])
def test_peft_gives_the_answers_of_the_exported_blocks(
    model_type: str, sites: Sites, make_base: MakeBase, tmp_path: Path, ids: torch.Tensor
) -> None:
    base, path, folder = make_base(model_type), tmp_path / "a.safetensors", tmp_path / "peft"
    if sites is ON_KEY and model_type in ENCODERS:
        pytest.skip("the key's own bias makes one for the value, which these blocks do not have")
    random_artifact(path, base.shape, sites, dtype=torch.float32, scale=0.3, layers=[0, 2])
    export_peft_lora(path, folder, base, to="peft-bdlora")
    assert json.loads((folder / "adapter_config.json").read_text())["use_bdlora"]["nblocks"] in (2, 4)
    task_type = None if model_type in ENCODERS else "CAUSAL_LM"
    expected = own_answer(path, base, ids, task_type)
    torch.testing.assert_close(peft_answer(folder, base, ids, task_type), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_converted_block_diagonal_lora_goes_out_and_comes_back_as_the_same_file(
    dtype: torch.dtype, make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base, there, again = make_base("llama"), tmp_path / "there.safetensors", tmp_path / "again.safetensors"
    setting = BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=4)
    folder, _ = make_peft(base, r=12, lora_alpha=7, target_modules=["q_proj", "o_proj"], use_bdlora=setting)
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
    digest = save_converted(convert_source(folder, base), there)
    export_peft_lora(there, tmp_path / "out", base, to="peft-bdlora")
    assert save_converted(convert_source(tmp_path / "out", base), again) == digest
    own = load_file(weights)
    assert all(torch.equal(own[name], tensor) for name, tensor in load_file(tmp_path / "out" / weights.name).items())


def test_head_parts_of_fewer_key_heads_come_back_with_the_same_tensors(make_base: MakeBase, tmp_path: Path) -> None:
    base, path, again = make_base("llama"), tmp_path / "a.safetensors", tmp_path / "again.safetensors"
    # A part on gate_up leaves as two modules' LoRAs, which come back with twice the rank.
    sites = msgspec.structs.replace(BLOCKS, gate_up=None)
    random_artifact(path, base.shape, sites, dtype=torch.float32, scale=0.3)
    export_peft_lora(path, tmp_path / "peft", base, to="peft-bdlora")
    converted = convert_source(tmp_path / "peft", base)
    save_converted(converted, again)
    assert converted.config.sites == sites
    before, after = load_tensors(path), load_tensors(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("model_type", "sites", "message"),
    [
        ("gpt2", BLOCKS, "base.model_type: PEFT has no block-diagonal LoRA for gpt2 bases"),
        ("llama", Sites(q=SiteConfig(shared=SharedPart(rank=2))), "sites: no site has a head part: --to peft-lora"),
        ("llama", kernel_mix_sites(Ranks(1, 1, 1, 0)), "sites.q: its shared part beside the head part is no block"),
        ("llama", kernel_mix_sites(Ranks(1, 0, 0, 0)), "sites.q.head.bias: use_bdlora has no biases: --to peft-lora"),
        ("bert", ON_KEY, "sites.v.head.bias: use_bdlora has no biases"),
    ],
)
def test_what_blocks_cannot_express_is_refused_by_name(
    model_type: str, sites: Sites, message: str, make_base: MakeBase, tmp_path: Path
) -> None:
    base, path = make_base(model_type), tmp_path / "a.safetensors"
    random_artifact(path, base.shape, sites, dtype=torch.float32, scale=0.3)
    with pytest.raises(ConvertError) as caught:
        export_peft_lora(path, tmp_path / "peft", base, to="peft-bdlora")
    assert message in str(caught.value)
    assert not (tmp_path / "peft").exists()
