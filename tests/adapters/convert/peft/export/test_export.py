"""An exported adapter, loaded by PEFT itself, answers like the original: an independent check of the whole method."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from harness.adapters.artifacts import adapter_config, random_artifact, random_tensors
from harness.adapters.peft_lora import RENAMED, load_model
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import ClassifierConfig, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.export.export import export_peft_lora
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_adapters.inject import load_adapter
from headmix_adapters.presets import Ranks, kernel_mix_sites
from tests.adapters.convert.conftest import MakeBase

pytestmark = [
    pytest.mark.filterwarnings(RENAMED),
    pytest.mark.filterwarnings("ignore:.*lora_bias=True.*"),
]

KERNEL_MIX = kernel_mix_sites(Ranks(2, 3, 4, 2))
VALUE_ON_X = kernel_mix_sites(Ranks(2, 3, 0, 0), value_base="x")
EVERYTHING = Sites(
    q=SiteConfig(head=HeadPart(rank=2, base="x", scale=0.5), shared=SharedPart(rank=3, scale=2.0)),
    k=SiteConfig(shared=SharedPart(rank=2)),
    v=SiteConfig(head=HeadPart(rank=2, base="k", scale=1.5), shared=SharedPart(rank=1)),
    o=SiteConfig(head=HeadPart(rank=1, base="a", scale=-1.0), shared=SharedPart(rank=2)),
    gate_up=SiteConfig(shared=SharedPart(rank=2, scale=0.5)),
    down=SiteConfig(shared=SharedPart(rank=1)),
)
ENCODERS = ("bert", "roberta")


def own_answer(path: Path, base: ResolvedBase, ids: torch.Tensor, task_type: str | None) -> torch.Tensor:
    """Logits of the artifact attached to transformers' model, or hidden states of an encoder without a head."""
    adapted = load_adapter(load_model(base, None if task_type == "SEQ_CLS" else task_type), path)
    with torch.no_grad():
        if task_type is None:
            return adapted.hidden_states(ids, torch.ones_like(ids), None)
        logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert isinstance(logits, torch.Tensor)
    return logits


def peft_answer(folder: Path, base: ResolvedBase, ids: torch.Tensor, task_type: str | None) -> torch.Tensor:
    model = PeftModel.from_pretrained(load_model(base, task_type), folder)
    model.train(mode=False)
    with torch.no_grad():
        output = model(input_ids=ids)
        with model.disable_adapter():
            bare = model(input_ids=ids)
    key = "last_hidden_state" if task_type is None else "logits"
    assert (output[key] - bare[key]).abs().max() > 1e-2
    answer = output[key]
    assert isinstance(answer, torch.Tensor)
    return answer


@pytest.mark.parametrize("sites", [KERNEL_MIX, VALUE_ON_X, EVERYTHING], ids=["kernel-mix", "value on x", "everything"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2", "bert", "roberta"])
def test_peft_gives_the_answers_of_the_exported_adapter(
    model_type: str, sites: Sites, make_base: MakeBase, tmp_path: Path, ids: torch.Tensor
) -> None:
    base, path = make_base(model_type), tmp_path / "a.safetensors"
    random_artifact(path, base.shape, sites, dtype=torch.float32, scale=0.3, layers=[0, 2])
    export_peft_lora(path, tmp_path / "peft", base)
    task_type = None if model_type in ENCODERS else "CAUSAL_LM"
    expected = own_answer(path, base, ids, task_type)
    torch.testing.assert_close(peft_answer(tmp_path / "peft", base, ids, task_type), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "roberta"])
def test_a_classifier_goes_out_with_its_head(
    model_type: str, make_base: MakeBase, tmp_path: Path, ids: torch.Tensor
) -> None:
    base, path = make_base(model_type), tmp_path / "a.safetensors"
    head = ClassifierConfig(pooling="cls", kind="mlp-tanh", labels=("a", "b", "c"))
    if model_type == "gpt2":
        head = ClassifierConfig(pooling="last", kind="linear", labels=("a", "b", "c"))
        make_unbiased(base, path, head)
    else:
        random_artifact(path, base.shape, KERNEL_MIX, dtype=torch.float32, scale=0.3, classifier=head)
    export_peft_lora(path, tmp_path / "peft", base)
    expected = own_answer(path, base, ids, "SEQ_CLS")
    torch.testing.assert_close(peft_answer(tmp_path / "peft", base, ids, "SEQ_CLS"), expected, atol=1e-4, rtol=1e-4)


def make_unbiased(base: ResolvedBase, path: Path, head: ClassifierConfig) -> None:
    """A classifier whose bias is zero, as transformers' `score` layers have none."""
    config = adapter_config(base.shape, KERNEL_MIX, task="classification", classifier=head)
    tensors = random_tensors(config, scale=0.3)
    tensors["classifier.out_proj.bias"].zero_()
    write_artifact(path, config, tensors, torch.float32)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert"])
def test_there_and_back_again_computes_the_same(
    model_type: str, make_base: MakeBase, tmp_path: Path, ids: torch.Tensor
) -> None:
    base, path, again = make_base(model_type), tmp_path / "a.safetensors", tmp_path / "again.safetensors"
    random_artifact(path, base.shape, KERNEL_MIX, dtype=torch.float32, scale=0.3)
    export_peft_lora(path, tmp_path / "peft", base)
    converted = convert_source(tmp_path / "peft", base)
    save_converted(converted, again)
    assert list(converted.config.sites.present()) == ["q", "v", "o"]
    task_type = None if model_type in ENCODERS else "CAUSAL_LM"
    expected = own_answer(path, base, ids, task_type)
    torch.testing.assert_close(own_answer(again, base, ids, task_type), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_without_biases_goes_out_without(make_base: MakeBase, tmp_path: Path) -> None:
    base, path = make_base("llama"), tmp_path / "a.safetensors"
    random_artifact(path, base.shape, Sites(q=SiteConfig(shared=SharedPart(rank=2))), method="lora")
    export_peft_lora(path, tmp_path / "peft", base)
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["lora_bias"] is False
    assert all(name.endswith("weight") for name in load_file(tmp_path / "peft" / "adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("model_type", "classifier", "added_tokens", "message"),
    [
        ("llama", None, ("<a>",), "added_tokens.embedding: a PEFT LoRA cannot contain"),
        (
            "llama",
            ClassifierConfig(pooling="mean", kind="linear", labels=("a", "b")),
            (),
            "classifier: linear on the me",
        ),
        ("llama", ClassifierConfig(pooling="last", kind="linear", labels=("a", "b")), (), "classifier.out_proj.bias"),
        (
            "bert",
            ClassifierConfig(pooling="cls", kind="linear", labels=("a", "b")),
            (),
            "classifier: linear on the c",
        ),
    ],
)
def test_what_peft_cannot_express_is_refused_by_name(
    model_type: str,
    classifier: ClassifierConfig | None,
    added_tokens: tuple[str, ...],
    message: str,
    make_base: MakeBase,
    tmp_path: Path,
) -> None:
    base, path = make_base(model_type), tmp_path / "a.safetensors"
    random_artifact(path, base.shape, KERNEL_MIX, classifier=classifier, added_tokens=added_tokens)
    with pytest.raises(ConvertError) as caught:
        export_peft_lora(path, tmp_path / "peft", base)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "peft").exists()
