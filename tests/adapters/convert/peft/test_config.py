"""Every field of PEFT's LoRA config is understood, known to have no effect, or refused by its name."""

import dataclasses
import json
from pathlib import Path

import pytest
from peft import LoraConfig

from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.config import FIELDS_READ, FIELDS_WITHOUT_EFFECT, read_peft_config

CHANGE_THE_MATHEMATICS = {
    *("use_qalora", "target_parameters", "alora_invocation_tokens", "layer_replication", "arrow_config"),
    *("velora_config", "monteclora_config", "kasa_config"),
}


def test_no_field_of_pefts_config_is_overlooked() -> None:
    fields = {field.name for field in dataclasses.fields(LoraConfig)} - {"peft_version"}
    known = FIELDS_READ | FIELDS_WITHOUT_EFFECT
    assert fields - known == CHANGE_THE_MATHEMATICS
    assert not known & CHANGE_THE_MATHEMATICS


@pytest.mark.parametrize("name", sorted(CHANGE_THE_MATHEMATICS))
def test_a_field_that_changes_what_is_computed_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", name: {"a": 1}}))
    with pytest.raises(ConvertError) as caught:
        read_peft_config(tmp_path)
    assert caught.value.subject == name


@pytest.mark.parametrize("name", sorted(FIELDS_WITHOUT_EFFECT))
def test_bookkeeping_is_ignored_whatever_it_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", name: {"a": 1}}))
    assert read_peft_config(tmp_path).rank == 8
