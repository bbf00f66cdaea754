"""An adapter from elsewhere is refused if transformers gives other ids for its base's texts than serving does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from peft import PeftModel
from transformers import AutoTokenizer

from harness.adapters.peft_lora import RENAMED
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import tiny_shape
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.source import ConvertOptions, convert_source
from headmix_adapters.convert.tokenizer_check import check_tokenizer

pytestmark = pytest.mark.filterwarnings(RENAMED)


def base(folder: Path) -> ResolvedBase:
    return ResolvedBase("tiny", folder, tiny_shape())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_families_of_the_matrix_are_read_alike(make_base: Callable[[str], ResolvedBase], model_type: str) -> None:
    check_tokenizer(make_base(model_type))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_transformers_takes_from_its_file_passes(tmp_path: Path, kind: str) -> None:
    config = {"pad_token": "<pad>", "additional_special_tokens": ["<extra>"]}
    check_tokenizer(base(write_tokenizer(tmp_path, kind, config=config)))


@pytest.mark.parametrize(
    ("kind", "tokenizer_class", "text"),
    [
        ("llama2", "LlamaTokenizer", " one leading space"),
        ("byte-level", "Qwen2Tokenizer", "naïve café"),
        ("metaspace", "LlamaTokenizer", "The quick"),
    ],
)
def test_a_tokenizer_that_transformers_builds_otherwise_is_refused_with_the_text(
    tmp_path: Path, kind: str, tokenizer_class: str, text: str
) -> None:
    folder = write_tokenizer(tmp_path, kind, tokenizer_class=tokenizer_class)
    with pytest.raises(ConvertError, match=r"tokenizer: .*other token ids.* for \"" + text) as refused:
        check_tokenizer(base(folder))
    assert str(tmp_path) not in str(refused.value)


def test_digits_that_transformers_would_join_are_noticed(tmp_path: Path) -> None:
    """The class is GPT-2's, like SmolLM2's on the hub, and transformers drops the file's rule of one token per digit.

    SmolLM2's own vocabulary has no token of several digits, so its ids stay the same.
    """
    folder = write_tokenizer(tmp_path, "byte-level")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, content["pre_tokenizer"]]}
    # A token of several digits, which the rule never produces.
    content["model"]["merges"].append(["0", "8"])
    content["model"]["vocab"]["08"] = len(content["model"]["vocab"])
    file.write_text(json.dumps(content))
    check_tokenizer(base(folder))
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("PreTrainedTokenizerFast", "GPT2Tokenizer"))
    with pytest.raises(ConvertError, match="Call 0800"):
        check_tokenizer(base(folder))


def test_saving_what_transformers_reads_into_the_base_settles_it(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, "llama2", tokenizer_class="LlamaTokenizer")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    check_tokenizer(base(folder))


def test_a_difference_in_a_declared_token_alone_is_noticed(tmp_path: Path) -> None:
    """The adapter's folder contains its training tokenizer, in which a token of the base has another flag."""
    folder = write_tokenizer(tmp_path / "base", "byte-level")
    adapter = tmp_path / "adapter"
    shutil.copytree(folder, adapter)
    check_tokenizer(base(folder), adapter)
    file = adapter / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"][1]["lstrip"] = True
    file.write_text(json.dumps(content))
    with pytest.raises(ConvertError, match=r"<\|im_start\|>one .* reads the tokenizer in the adapter's folder"):
        check_tokenizer(base(folder), adapter)
    check_tokenizer(base(folder))


def test_a_tokenizer_that_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "tokenizer.json").write_text("{}")
    with pytest.raises(ConvertError, match="transformers cannot read the tokenizer in the adapter's folder"):
        check_tokenizer(base(write_tokenizer(tmp_path / "base", "byte-level")), adapter)


def test_conversion_refuses_the_mismatch_unless_it_is_allowed(
    make_base: Callable[[str], ResolvedBase], make_peft: Callable[..., tuple[Path, PeftModel]]
) -> None:
    shared = make_base("llama")
    folder, _ = make_peft(shared, target_modules=["q_proj"])
    other = tokenizers.Tokenizer.from_file(str(shared.folder / "tokenizer.json"))
    other.normalizer = tokenizers.normalizers.Lowercase()
    other.save(str(folder / "tokenizer.json"))
    with pytest.raises(ConvertError, match="tokenizer: the adapter was trained on other token ids"):
        convert_source(folder, shared)
    assert convert_source(folder, shared, ConvertOptions(allow_base_mismatch=True)).tensors
