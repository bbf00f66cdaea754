"""A converted BD-LoRA answers as PEFT does, with a head part wherever each head has its own blocks."""

import json
from typing import Any

import pytest
import torch
from peft import BdLoraConfig
from safetensors.torch import load_file, save_file

from harness.adapters.peft_lora import RENAMED
from headmix_adapters.config import HeadPart, SharedPart
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.block_diagonal import BlockDiagonal, read_block_diagonal, written_out
from headmix_adapters.convert.source import convert_source
from tests.adapters.convert.conftest import MakeBase, MakePeft
from tests.adapters.convert.peft.test_lora import assert_same

pytestmark = pytest.mark.filterwarnings(RENAMED)

IN_B = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"]
IN_A = ["o_proj", "down_proj"]


def settings(nblocks: int, **more: Any) -> BdLoraConfig:
    fields: dict[str, Any] = {"target_modules_bd_a": IN_A, "target_modules_bd_b": IN_B, "nblocks": nblocks}
    return BdLoraConfig(**(fields | more))


@pytest.mark.parametrize("nblocks", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("rslora", [True, False])
def test_a_block_diagonal_lora_answers_as_pefts(
    nblocks: int, rslora: bool, make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    """The base has 4 heads of 12 in 2 groups: blocks are whole groups, heads, parts of heads, or lie across them."""
    base = make_base("llama")
    targets = ["q_proj", "v_proj", "o_proj"]
    folder, oracle = make_peft(
        base, r=12, lora_alpha=7, use_rslora=rslora, target_modules=targets, use_bdlora=settings(nblocks)
    )
    converted = assert_same(folder, oracle, base, ids)
    for site in converted.config.sites.present().values():
        assert (site.head is None, site.shared is None) == (nblocks == 1, nblocks > 1)


def test_as_many_blocks_as_heads_give_each_head_its_block_and_no_more(
    make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base("llama")
    folder, oracle = make_peft(base, r=8, lora_alpha=4, target_modules=["q_proj", "o_proj"], use_bdlora=settings(4))
    converted = assert_same(folder, oracle, base, ids)
    q, o = converted.config.sites.q, converted.config.sites.o
    assert q is not None
    assert o is not None
    assert q.head == HeadPart(rank=2, base="x", scale=0.5, bias=False)
    assert o.head == HeadPart(rank=2, base="a", scale=0.5, bias=False)
    assert (converted.config.method, converted.notes) == ("kernel-mix", ())
    stored = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn"
    assert torch.equal(converted.tensors["layers.1.q.head.A"].flatten(0, 1), stored[f"{name}.q_proj.lora_A.weight"])
    assert torch.equal(converted.tensors["layers.1.q.head.B"].flatten(0, 1), stored[f"{name}.q_proj.lora_B.weight"])
    assert torch.equal(converted.tensors["layers.1.o.head.A"].flatten(0, 1), stored[f"{name}.o_proj.lora_A.weight"])


def test_fewer_blocks_than_heads_are_repeated(make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor) -> None:
    base = make_base("llama")
    folder, oracle = make_peft(base, r=6, target_modules=["q_proj"], use_bdlora=settings(2))
    converted = assert_same(folder, oracle, base, ids)
    assert converted.config.sites.q is not None
    assert converted.config.sites.q.head == HeadPart(rank=3, base="x", scale=8 / 6, bias=False)
    assert converted.notes == ("site q: blocks that several heads share were repeated for each of them",)


@pytest.mark.parametrize("model_type", ["llama", "bert", "roberta"])
def test_every_projection_and_layers_of_several_ranks_answer_as_pefts(
    model_type: str, make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base(model_type)
    llama = model_type == "llama"
    targets = [*IN_B, *IN_A] if llama else ["query", "key", "value", "attention.output.dense", "intermediate.dense"]
    of = {} if llama else {"target_modules_bd_a": ["output.dense"], "target_modules_bd_b": ["self", "intermediate"]}
    ranks = {r"layers?\.1\..*(q_proj|value)": 8}
    folder, oracle = make_peft(
        base,
        task_type="CAUSAL_LM" if llama else None,
        r=4,
        rank_pattern=ranks,
        target_modules=targets,
        use_bdlora=settings(2, **of),
    )
    converted = assert_same(folder, oracle, base, ids)
    sites = converted.config.sites.present()
    assert {name for name, site in sites.items() if site.head} == {"q", "v", "o"}
    assert "site k: block-diagonal factors were written out, since the site has no such head part" in converted.notes


@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
@pytest.mark.filterwarnings("ignore:.*have invalid shape.*")
def test_a_block_diagonal_and_a_plain_lora_mix_and_keep_the_bias_of_a_whole_b(
    make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base("llama")
    chosen = settings(4, match_strict=False, target_modules_bd_b=["q_proj"])
    folder, oracle = make_peft(
        base, r=4, lora_bias=True, target_modules=["q_proj", "v_proj", "o_proj"], use_bdlora=chosen
    )
    converted = assert_same(folder, oracle, base, ids)
    q, v, o = (converted.config.sites.present()[name] for name in "qvo")
    assert q.head == HeadPart(rank=1, base="x", scale=2.0, bias=False)
    assert (v.shared, v.head) == (SharedPart(rank=4, scale=2.0), HeadPart(rank=1, base="x"))
    assert o.head == HeadPart(rank=1, base="a", scale=1.0, bias=True)


def test_a_head_part_of_too_large_a_rank_is_refused_with_its_rank(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=514, target_modules=["q_proj"], use_bdlora=settings(2))
    with pytest.raises(ConvertError, match=r"sites.q.head.rank: 257 is not between 1 and 256"):
        convert_source(folder, base)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "use_bdlora: [1] is not an object"),
        ({"nblocks": 0}, "use_bdlora.nblocks: 0 is not a positive integer"),
        ({"nblocks": True}, "use_bdlora.nblocks: true is not a positive integer"),
        ({"nblocks": 5, "target_modules_bd_b": ["q_proj"]}, "its rank is 4 (B: 20), the config says 4"),
        ({"nblocks": 2, "target_modules_bd_b": "q_proj"}, 'target_modules_bd_b: "q_proj" is not a list of module'),
        ({"nblocks": 2, "match_strict": "yes"}, 'use_bdlora.match_strict: "yes" is neither true nor false'),
        ({"nblocks": 2, "diagonal": "z"}, 'use_bdlora.diagonal: "z" is not understood by this version'),
        ({"nblocks": 2}, "q_proj is in neither list of modules, and match_strict is true"),
        (
            {"target_modules_bd_a": ["q"], "target_modules_bd_b": ["q_proj"]},
            "q_proj is in both target_modules_bd_a and",
        ),
        ({"nblocks": 2, "target_modules_bd_b": ["q_proj"]}, "its rank is 4 (B: 8), the config says 4"),
        ({"nblocks": 2, "target_modules_bd_b": ["q_proj"] * 1025}, "1025 names; at most 1024 are read"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(
    value: object, message: str, make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=4, target_modules=["q_proj"])
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_bdlora": value}))
    with pytest.raises(ConvertError) as caught:
        convert_source(folder, base)
    assert message in str(caught.value)


def test_half_precision_blocks_stay_as_they_are_stored(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=4, target_modules=["q_proj"], use_bdlora=settings(4))
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    assert convert_source(folder, base).dtype == torch.bfloat16


def test_blocks_are_written_out_along_the_diagonal() -> None:
    expected = torch.tensor([[1.0, 0], [2, 0], [0, 3], [0, 4]])
    assert torch.equal(written_out("B", torch.tensor([[1.0], [2], [3], [4]]), 2), expected)
    with pytest.raises(ConvertError, match=r"q.lora_B.weight: its 4 rows are not those of 3 blocks \(use_bdlora"):
        written_out("q.lora_B.weight", torch.ones(4, 1), 3)
    assert read_block_diagonal(None) is None
    assert read_block_diagonal({}) is None
    assert read_block_diagonal({"nblocks": 3}) == BlockDiagonal(3, (), (), strict=True)
