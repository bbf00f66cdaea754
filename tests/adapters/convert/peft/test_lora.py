"""A converted PEFT adapter answers the same as before; one that cannot is refused, with what is wrong named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from harness.adapters.peft_lora import RENAMED, load_model
from headmix_adapters.artifact.open import adapted_layers
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import SharedPart, SiteConfig
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.heads.heads import HeadWish
from headmix_adapters.convert.result import Converted, save_converted
from headmix_adapters.convert.source import ConvertOptions, convert_source
from headmix_adapters.inject import load_adapter
from tests.adapters.convert.conftest import MakeBase, MakePeft

pytestmark = pytest.mark.filterwarnings(RENAMED)

ATTENTION = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "gpt2": ["c_attn", "attn.c_proj"],
    "bert": ["query", "key", "value", "attention.output.dense"],
    "roberta": ["query", "key", "value", "attention.output.dense"],
}
MLP = {
    "llama": ["gate_proj", "up_proj", "down_proj"],
    "qwen2": ["gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_fc", "mlp.c_proj"],
    "bert": ["intermediate.dense", r"output.dense"],
    "roberta": ["intermediate.dense", r"output.dense"],
}
TASKS = {"llama": "CAUSAL_LM", "qwen2": "CAUSAL_LM", "gpt2": "CAUSAL_LM", "bert": None, "roberta": None}


def peft_answer(model: PeftModel, ids: torch.Tensor) -> torch.Tensor:
    """Logits if the model has a head, hidden states otherwise."""
    with torch.no_grad():
        output = model(input_ids=ids)
    answer = output.logits if "logits" in output else output.last_hidden_state
    assert isinstance(answer, torch.Tensor)
    return answer


def converted_answer(path: Path, base: ResolvedBase, converted: Converted, ids: torch.Tensor) -> torch.Tensor:
    save_converted(converted, path)
    generates = base.shape.model_type not in ("bert", "roberta")
    model: PreTrainedModel = load_model(base, "CAUSAL_LM" if generates else None)
    adapted = load_adapter(model, path)
    with torch.no_grad():
        if converted.config.task == "classification":
            answer = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        elif generates:
            answer = model(input_ids=ids).logits
        else:
            answer = adapted.hidden_states(ids, torch.ones_like(ids), None)
    assert isinstance(answer, torch.Tensor)
    return answer


def assert_same(
    folder: Path, oracle: PeftModel, base: ResolvedBase, ids: torch.Tensor, wish: HeadWish | None = None
) -> Converted:
    converted = convert_source(folder, base, ConvertOptions(head=wish or HeadWish()))
    answer = converted_answer(folder.parent / "out.safetensors", base, converted, ids)
    expected = peft_answer(oracle, ids)
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)
    with oracle.disable_adapter():
        assert (peft_answer(oracle, ids) - expected).abs().max() > 1e-2
    return converted


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2", "bert", "roberta"])
def test_a_lora_on_every_projection_answers_as_peft_does(
    model_type: str, make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base(model_type)
    targets = ATTENTION[model_type] + MLP[model_type]
    folder, oracle = make_peft(base, task_type=TASKS[model_type], r=3, lora_alpha=7, target_modules=targets)
    converted = assert_same(folder, oracle, base, ids)
    assert set(converted.config.sites.present()) == {"q", "k", "v", "o", "gate_up", "down"}
    assert converted.config.method == "lora"


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 5}},
        {"alpha_pattern": {r"layers.[02].self_attn.o_proj": 2.5}},
        {"rank_pattern": {"down_proj": 1}, "alpha_pattern": {"up_proj": 9}, "use_rslora": True},
        {"layers_to_transform": [1]},
        {"lora_dropout": 0.5},
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda config: ",".join(config),
)
def test_what_peft_lets_one_choose_changes_nothing_of_the_answer(
    config: dict[str, Any], make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base("llama")
    targets = ATTENTION["llama"] + MLP["llama"]
    folder, oracle = make_peft(base, **({"r": 4, "lora_alpha": 6, "target_modules": targets} | config))
    assert_same(folder, oracle, base, ids)


def test_equal_scales_stay_in_the_config_and_unequal_ones_go_into_b(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(
        base, r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.0.self_attn.v_proj": 2}
    )
    converted = convert_source(folder, base)
    q, v = converted.config.sites.q, converted.config.sites.v
    assert q == SiteConfig(shared=SharedPart(rank=4, scale=1.5))
    assert v == SiteConfig(shared=SharedPart(rank=4, scale=1.0))
    assert converted.notes == ("site v: 2 different scales were multiplied into B",)


@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("llama", ["q_proj", "v_proj", "o_proj"]),
        ("gpt2", ["c_attn", "attn.c_proj"]),
        ("bert", ["query", "key", "value", "attention.output.dense"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
@pytest.mark.filterwarnings("ignore:.*have invalid shape.*")  # PEFT mistakes a bias for a damaged matrix
def test_biases_of_b_are_kept_exactly(
    model_type: str, targets: list[str], make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base(model_type)
    folder, oracle = make_peft(base, task_type=TASKS[model_type], lora_bias=True, target_modules=targets, lora_alpha=3)
    converted = assert_same(folder, oracle, base, ids)
    assert converted.config.method == "kernel-mix"


@pytest.mark.parametrize(("model_type", "layers"), [("llama", [0, 2]), ("gpt2", [1]), ("bert", [0]), ("roberta", [2])])
def test_a_classifier_of_peft_gives_the_same_scores(
    model_type: str, layers: list[int], make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base(model_type)
    folder, oracle = make_peft(
        base, task_type="SEQ_CLS", r=2, target_modules=ATTENTION[model_type], layers_to_transform=layers
    )
    converted = assert_same(folder, oracle, base, ids, HeadWish(labels=("good", "bad", "so so")))
    assert converted.config.classifier is not None
    assert converted.config.classifier.labels == ("good", "bad", "so so")
    assert adapted_layers(converted.tensors) == tuple(layers)


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("bert", {"target_modules": "all-linear"}),
        ("roberta", {"target_modules": "all-linear"}),
        ("bert", {"target_modules": ["query", "pooler.dense"], "lora_bias": True}),
        ("bert", {"target_modules": ["query"], "modules_to_save": ["pooler"]}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
@pytest.mark.filterwarnings("ignore:.*have invalid shape.*")
def test_what_peft_adapts_of_a_head_beside_the_layers_is_part_of_the_head(
    model_type: str, config: dict[str, Any], make_base: MakeBase, make_peft: MakePeft, ids: torch.Tensor
) -> None:
    base = make_base(model_type)
    folder, oracle = make_peft(base, task_type="SEQ_CLS", r=2, lora_alpha=3, **config)
    assert_same(folder, oracle, base, ids)


def test_half_precision_stays_as_it_is_stored(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    assert convert_source(folder, base).dtype == torch.bfloat16


Edit = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def field(name: str, value: object) -> Edit:
    return lambda config, _: config.update({name: value})


def tensor(name: str, value: torch.Tensor | None) -> Edit:
    def edit(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (field("peft_type", "IA3"), 'peft_type: "IA3" is not LORA'),
        (field("use_dora", True), "k_proj.lora_magnitude_vector: missing, and use_dora is true"),
        (field("trainable_token_indices", [1]), "trainable_token_indices: the file holds no rows of the input"),
        (field("alora_invocation_tokens", [1]), "alora_invocation_tokens: an activated LoRA"),
        (field("some_new_variant", {"a": 1}), 'some_new_variant: {"a": 1} is not understood by this version'),
        (tensor(f"{Q}.base_layer.bias", torch.ones(48)), "q_proj.base_layer.bias: a retrained bias of the base"),
        (tensor(f"{Q}.base_layer.weight", torch.ones(48, 32)), "q_proj.base_layer.weight: it is not this base's"),
        (field("init_lora_weights", "pissa_niter_4"), 'init_lora_weights: "pissa_niter_4" changes the base'),
        (field("task_type", "TOKEN_CLS"), 'task_type: "TOKEN_CLS" is neither'),
        (field("task_type", "SEQ_CLS"), "modules_to_save: task_type is SEQ_CLS, but"),
        (field("r", 0), "r: 0 is not a positive integer"),
        (field("r", 9), "model.layers.0.self_attn.k_proj.lora_A.weight: its rank is 2 (B: 2), the config says 9"),
        (field("lora_alpha", None), "lora_alpha: null is not a finite number"),
        (field("rank_pattern", {"(": 2}), "rank_pattern.(: not a regular expression"),
        (field("rank_pattern", {"(?=q)q_proj": 2}), "rank_pattern.(?=q)q_proj: cannot be matched in linear time"),
        (tensor("x" * 1025, torch.ones(1)), "its name has 1025 characters, at most 1024 are read"),
        (tensor(f"{Q}.lora_B.weight", None), "model.layers.0.self_attn.q_proj.lora_B.weight: missing"),
        (tensor(f"{Q}.lora_magnitude_vector", torch.ones(48)), "lora_magnitude_vector: a DoRA magnitude"),
        (tensor("base_model.model.model.embed_tokens.lora_embedding_A", torch.ones(2, 512)), "LoRA on an embedding"),
        (
            tensor("base_model.model.lm_head.weight", torch.ones(512, 32)),
            "lm_head.weight: retrained rows of the base's",
        ),
        (
            tensor(f"{Q}.lora_A.weight", torch.ones(2, 31)),
            "model.layers.0.self_attn.q_proj: its LoRA maps 31 to 48 values, the base has [32, 48]",
        ),
        (
            tensor(f"{Q}.lora_A.weight", torch.ones(2, 32, dtype=torch.int8)),
            "model.layers.0.self_attn.q_proj.lora_A.weight: its dtype torch.int8 is not a plain float",
        ),
        (
            tensor("base_model.model.model.layers.1.self_attn.k_proj.lora_B.bias", torch.ones(24)),
            "model.layers.1.self_attn.k_proj: lora_bias: an artifact has no bias on site k",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(
    edit: Edit, message: str, make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj", "k_proj"])
    config, path = json.loads((folder / "adapter_config.json").read_text()), folder / "adapter_model.safetensors"
    tensors = load_file(path)
    edit(config, tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, path)
    with pytest.raises(ConvertError) as caught:
        convert_source(folder, base)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("base_model.model.lm_head", (512, 32)),
        ("base_model.model.model.layers.3.self_attn.q_proj", (48, 32)),
        ("base_model.model.model.layers.0.self_attn.rotary", (32, 32)),
        ("base_model.model.vision.layers.0.self_attn.q_proj", (48, 32)),
    ],
)
def test_a_lora_where_the_base_has_no_site_is_refused_by_its_module(
    name: str, shape: tuple[int, int], make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    extra = {f"{name}.lora_A.weight": torch.ones(2, shape[1]), f"{name}.lora_B.weight": torch.ones(shape[0], 2)}
    save_file(load_file(path) | extra, path)
    with pytest.raises(ConvertError) as caught:
        convert_source(folder, base)
    assert caught.value.subject == name.removeprefix("base_model.model.")


def test_a_lora_that_was_never_trained_is_refused(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    save_file({n: t * ("lora_A" in n) for n, t in load_file(path).items()}, path)
    with pytest.raises(ConvertError, match="zero effect"):
        convert_source(folder, base)


def test_labels_must_be_as_many_as_the_head_has(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("gpt2")
    folder, _ = make_peft(base, task_type="SEQ_CLS", target_modules=["c_attn"])
    with pytest.raises(ConvertError, match="labels: 2 are given, the classification head has 3"):
        convert_source(folder, base, ConvertOptions(head=HeadWish(labels=("a", "b"))))


def test_a_folder_that_is_not_an_adapter_is_refused_as_such(tmp_path: Path, make_base: MakeBase) -> None:
    with pytest.raises(ConvertError, match=r"a folder with adapter_config.json or pytorch_model.bin"):
        convert_source(tmp_path, make_base("llama"))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConvertError, match=r"adapter_model.safetensors: missing; adapter_model.bin is a pickle"):
        convert_source(tmp_path, make_base("llama"))
