"""What tools other than PEFT leave in a LoRA's folder changes nothing, or is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.adapters.peft_lora import RENAMED
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.result import Converted
from headmix_adapters.convert.source import convert_source
from tests.adapters.convert.conftest import MakeBase, MakePeft

pytestmark = pytest.mark.filterwarnings(RENAMED)

Tensors = dict[str, torch.Tensor]
PREFIX = "base_model.model."
CLASSIFIER_BASES = ("llama", "bert", "roberta")
HEADS = {"llama": "score", "bert": "classifier", "roberta": "classifier"}


def rewritten(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)
    return folder


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def in_front(words: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {words + name: tensor for name, tensor in tensors.items()}


def same(one: Converted, other: Converted) -> bool:
    assert one.config.sites == other.config.sites
    assert one.tensors.keys() == other.tensors.keys()
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def classifier_of(base: ResolvedBase, make_peft: MakePeft) -> Path:
    targets = ["q_proj"] if base.shape.model_type == "llama" else ["query"]
    folder, _ = make_peft(base, task_type="SEQ_CLS", r=2, target_modules=targets)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        in_front("_orig_mod."),
        in_front("module."),
        in_front("module.module."),
        in_front("_fsdp_wrapped_module."),
        in_front(PREFIX),
        in_front("_orig_mod.module."),
        renamed(PREFIX, ""),
        renamed(PREFIX, f"{PREFIX}_orig_mod."),
        renamed("self_attn.", "_checkpoint_wrapped_module.self_attn."),
        renamed(".weight", ".default.weight"),
        renamed(".weight", ".my-adapter.weight"),
        renamed("model.layers", "model.language_model.layers"),
        renamed(f"{PREFIX}model.layers", f"{PREFIX}language_model.model.layers"),
    ],
)
def test_names_that_wrappers_changed_mean_what_they_meant(
    change: Callable[[Tensors], Tensors], make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj", "down_proj"])
    as_saved = convert_source(folder, base)
    assert same(convert_source(rewritten(folder, change), base), as_saved)


@pytest.mark.parametrize("model_type", CLASSIFIER_BASES)
@pytest.mark.parametrize("adapter", [".default", ".mine", ""])
def test_a_head_in_raw_form_is_the_trained_copy(
    model_type: str, adapter: str, make_base: MakeBase, make_peft: MakePeft
) -> None:
    base, head = make_base(model_type), f"{PREFIX}{HEADS[model_type]}."
    folder = classifier_of(base, make_peft)
    as_saved = convert_source(folder, base)

    def raw(tensors: Tensors) -> Tensors:
        heads = {name: tensor for name, tensor in tensors.items() if name.startswith(head)}
        assert heads
        rest = {name: tensor for name, tensor in tensors.items() if name not in heads}
        trained = {name.replace(head, f"{head}modules_to_save{adapter}."): tensor for name, tensor in heads.items()}
        untrained = {name.replace(head, f"{head}original_module."): tensor * 0 + 7 for name, tensor in heads.items()}
        return rest | trained | untrained

    assert same(convert_source(rewritten(folder, raw), base), as_saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed(".classifier.", ".classifier.original_module."), "the untrained copy of a saved module, without"),
        (
            lambda tensors: tensors | {f"_orig_mod.{name}": tensor + 1 for name, tensor in tensors.items()},
            "the file holds this tensor twice, the other is",
        ),
        (
            lambda tensors: (
                renamed(".weight", ".one.weight")(tensors)
                | {f"{PREFIX}bert.encoder.layer.0.attention.self.key.lora_A.two.weight": torch.ones(2, 32)}
            ),
            r"the file holds several adapters \(one, two\)",
        ),
        (renamed("lora_", "lokr_"), r"adapter_model.safetensors: none of its \d+ tensors is a lora_A or lora_B \(the"),
    ],
)
def test_a_file_whose_names_leave_a_choice_is_refused(
    change: Callable[[Tensors], Tensors], message: str, make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("bert")
    folder = classifier_of(base, make_peft)
    with pytest.raises(ConvertError, match=message):
        convert_source(rewritten(folder, change), base)


@pytest.mark.parametrize(
    "fields",
    [
        {"torch_dtype": "bfloat16", "dtype": "bfloat16", "lora_dtype": "float32"},
        {"unsloth_version": "2026.3.3", "peft_version": "0.99.0", "swift_version": "4.0", "tuner_backend": "peft"},
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "lorap_emb_lr": 1e-6},
        {"loftq_config": {"loftq_bits": 4}, "corda_config": {"corda_method": "ipm"}, "eva_config": {"rho": 2.0}},
        {"task_type": "causal_lm", "peft_type": "lora"},
        {"task_type": "SEQ_2_SEQ_LM"},
        {"bias": "lora_only"},
        {"merge_weights": True, "enable_lora": None},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_bookkeeping_of_other_tools_changes_nothing(
    fields: dict[str, object], make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"])
    as_saved = convert_source(folder, base)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert same(convert_source(folder, base), as_saved)


def test_initialisations_that_change_the_base_are_refused_in_any_case(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"])
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": "PiSSA"}))
    with pytest.raises(ConvertError, match="changes the base's weights"):
        convert_source(folder, base)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_whole_state_dict_is_its_adapter_where_the_rest_is_the_bases_own(
    prefix: str, make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, model = make_peft(base, r=2, target_modules=["q_proj", "down_proj"])
    as_saved = convert_source(folder, base)
    whole = {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}
    converted = convert_source(rewritten(folder, lambda _: whole), base)
    assert same(converted, as_saved)
    (note,) = converted.notes
    assert "tensors equal the base's own and were left out" in note


def test_a_vocabulary_that_was_retrained_is_refused_and_one_that_was_not_is_left_out(
    make_base: MakeBase, make_peft: MakePeft
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    with pytest.raises(ConvertError, match="retrained rows of the base's vocabulary"):
        convert_source(folder, base)
    own = load_file(base.folder / "model.safetensors")
    rewritten(
        folder,
        lambda tensors: {
            name: tensor if "lora" in name else own[name.removeprefix(PREFIX)].bfloat16()
            for name, tensor in tensors.items()
        },
    )
    assert convert_source(folder, base).notes == ("2 tensors equal the base's own and were left out",)


def test_what_is_missing_is_reported_as_missing(make_base: MakeBase, make_peft: MakePeft) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, r=2, target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    path.rename(folder / "adapter_model-00001-of-00001.safetensors")
    (folder / "adapter_model.safetensors.index.json").write_text("{}")
    with pytest.raises(ConvertError, match=r"adapter_model\.safetensors: missing; .*index\.json names several files"):
        convert_source(folder, base)
    (folder / "adapter_config.json").write_text('{"rank": 16, "alpha": 32.0}')
    with pytest.raises(ConvertError, match=r"peft_type: missing: adapter_config\.json is not one that PEFT wrote"):
        convert_source(folder, base)
