"""What a model's config says about its classification head goes into the artifact, because PEFT's files lack it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import UNSET
from peft import PeftModel

from harness.adapters.peft_lora import RENAMED, load_model
from harness.bases.families import FAMILIES
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_adapters.config import ClassifierConfig
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.export.export import export_peft_lora
from headmix_adapters.convert.peft.heads.head_config import read_head_config
from headmix_adapters.convert.peft.heads.heads import HeadWish
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import ConvertOptions, convert_source
from headmix_adapters.inject import ClassifierModel, load_adapter
from tests.adapters.convert.conftest import MakeBase, MakePeft
from tests.adapters.convert.peft.export.test_export import make_unbiased

pytestmark = pytest.mark.filterwarnings(RENAMED)

PAD = 0
DECODERS = [name for name, family in FAMILIES.items() if family.causal]
TEXTS = {
    "plain": [20, 30, 40, 50],
    "ends with the padding token": [20, 30, 40, PAD],
    "ends with several": [20, 30, PAD, PAD, PAD],
    "has it inside": [20, PAD, 30, 40],
    "inside and at the end": [20, PAD, 30, PAD],
    "holds nothing else": [PAD, PAD],
}


def target(model_type: str) -> list[str]:
    return ["c_attn"] if model_type == "gpt2" else ["q_proj"]


def classifier(base: ResolvedBase, folder: Path, wish: HeadWish | None = None) -> ClassifierConfig:
    head = convert_source(folder, base, ConvertOptions(head=wish or HeadWish())).config.classifier
    assert head is not None
    return head


def changed(base: ResolvedBase, folder: Path, fields: Mapping[str, Any]) -> ResolvedBase:
    """Copy a base with another config; None removes a field."""
    folder.mkdir()
    for path in base.folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    config = json.loads((base.folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return resolve_base(str(folder))


@torch.no_grad()
def scores(model: PeftModel | ClassifierModel, tokens: list[int]) -> torch.Tensor:
    ids = torch.tensor([tokens])
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits


@pytest.mark.parametrize("model_type", DECODERS)
def test_a_decoders_head_reads_the_last_token_that_is_no_padding(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path, model_type: str
) -> None:
    base = make_base(model_type)
    folder, oracle = make_peft(base, task_type="SEQ_CLS", target_modules=target(model_type))
    converted = convert_source(folder, base)
    save_converted(converted, tmp_path / "a.safetensors")
    adapted = load_adapter(load_model(base, "CAUSAL_LM"), tmp_path / "a.safetensors")
    assert isinstance(adapted, ClassifierModel)
    assert converted.config.classifier is not None
    assert converted.config.classifier.pad_token == PAD
    for tokens in TEXTS.values():
        torch.testing.assert_close(scores(adapted, tokens), scores(oracle, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pad_token_id", [None, -1, 100_000])
def test_without_a_padding_token_that_a_text_can_hold_it_reads_the_last(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path, pad_token_id: int | None
) -> None:
    base = changed(make_base("llama"), tmp_path / "base", {"pad_token_id": pad_token_id})
    folder, _ = make_peft(make_base("llama"), task_type="SEQ_CLS", target_modules=["q_proj"])
    assert classifier(base, folder).pad_token is UNSET


def test_a_familys_own_default_counts_where_the_config_says_nothing(make_base: MakeBase, tmp_path: Path) -> None:
    """transformers omits defaults from config.json: 0 for Gemma, none for Llama."""
    for model_type, expected in (("gemma3_text", 0), ("llama", None)):
        base = changed(make_base(model_type), tmp_path / model_type, {"pad_token_id": None})
        assert read_head_config(base.folder).pad_token == expected


def test_encoders_read_the_first_token_whatever_the_padding_token(make_base: MakeBase, make_peft: MakePeft) -> None:
    folder, _ = make_peft(make_base("bert"), task_type="SEQ_CLS", target_modules=["query"])
    head = classifier(make_base("bert"), folder)
    assert (head.pooling, head.pad_token) == ("cls", UNSET)


def test_labels_and_problem_of_the_config_are_taken_in_the_order_of_the_ids(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    names = {"2": "neutral", "0": "negative", "1": "positive"}
    fields = {"id2label": names, "problem_type": "multi_label_classification"}
    base = changed(make_base("llama"), tmp_path / "base", fields)
    folder, _ = make_peft(make_base("llama"), task_type="SEQ_CLS", target_modules=["q_proj"])
    head = classifier(base, folder)
    assert (head.labels, head.problem) == (("negative", "positive", "neutral"), "multi_label")
    said = classifier(base, folder, HeadWish(labels=("a", "b", "c"), problem="single_label"))
    assert (said.labels, said.problem) == (("a", "b", "c"), "single_label")
    plain = classifier(make_base("llama"), folder)
    assert (plain.labels, plain.problem) == (("LABEL_0", "LABEL_1", "LABEL_2"), "single_label")


def test_more_than_ten_labels_keep_their_order(make_base: MakeBase, tmp_path: Path) -> None:
    names = {str(number): f"label {number}" for number in reversed(range(12))}
    config = read_head_config(changed(make_base("llama"), tmp_path / "base", {"id2label": names}).folder)
    assert config.labels_of(12) == tuple(f"label {number}" for number in range(12))
    assert config.labels_of(2) == ("LABEL_0", "LABEL_1")


def test_the_config_that_training_saved_beside_the_adapter_counts(make_base: MakeBase, make_peft: MakePeft) -> None:
    """If a base has no padding token, training sets one, which none of PEFT's files has."""
    base = make_base("llama")
    folder, _ = make_peft(base, task_type="SEQ_CLS", target_modules=["q_proj"])
    config = json.loads((base.folder / "config.json").read_text()) | {"pad_token_id": 7}
    (folder / "config.json").write_text(json.dumps(config))
    assert classifier(base, folder).pad_token == 7
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(ConvertError, match=r"config\.json: it is of a gpt2, the base is a llama"):
        classifier(base, folder)


@pytest.mark.parametrize(("pad_token", "pad_token_id"), [(UNSET, "None"), (PAD, None), (9, "9")])
def test_export_says_how_to_load_a_head_that_reads_another_token(
    make_base: MakeBase, tmp_path: Path, pad_token: Any, pad_token_id: str | None
) -> None:
    head = ClassifierConfig(pooling="last", kind="linear", labels=("a", "b", "c"), pad_token=pad_token)
    make_unbiased(make_base("gpt2"), tmp_path / "a.safetensors", head)
    notes = export_peft_lora(tmp_path / "a.safetensors", tmp_path / "peft", make_base("gpt2"))
    assert [f"with pad_token_id={pad_token_id}," in note for note in notes] == ([] if pad_token_id is None else [True])
