"""A converted GGUF is the same model with the same tokenizer, written atomically, by one converter at a time."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.bases import gemma_gguf
from harness.bases.gguf_files import CHAT_TEMPLATE, write_tiny_gguf
from headmix_adapters.base.gguf import convert as convert_gguf
from headmix_adapters.text.tokenizer import read_tokenizer


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    write_tiny_gguf(folder / "tiny.gguf")
    convert_gguf.convert(folder / "tiny.gguf", folder / "out")
    return folder / "tiny.gguf", folder / "out"


def test_the_converted_model_computes_what_the_gguf_does(converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    tokens = torch.tensor([[1, 70, 71, 72, 2]])
    original = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    copy = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(original(tokens).logits, copy(tokens).logits)


def test_weights_are_float32_and_a_tied_head_is_stored_once(converted: tuple[Path, Path]) -> None:
    weights = load_file(converted[1] / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert "model.embed_tokens.weight" in weights
    assert "lm_head.weight" not in weights


def test_the_config_is_a_plain_models(converted: tuple[Path, Path]) -> None:
    config = json.loads((converted[1] / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert json.loads((converted[1] / "generation_config.json").read_text())["eos_token_id"] == 2


def test_the_tokenizer_keeps_template_special_tokens_and_length(converted: tuple[Path, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 128
    assert (converted[1] / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    text = "Hi 42\n\n7 ü"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_stand_alone_where_the_gguf_says_so(converted: tuple[Path, Path]) -> None:
    # Because digits are separated before splitting, two line feeds before a digit are one token.
    assert AutoTokenizer.from_pretrained(converted[1]).tokenize("\n\n7") == ["ĊĊ", "7"]


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert_gguf.convert(tmp_path / "missing.gguf", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_failed_conversion_leaves_no_folder_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, folder: Path, __: object) -> None:
        (folder / "half").write_text("written")
        raise ValueError("broken file")

    monkeypatch.setattr(convert_gguf, "_write_folder", fail)
    with pytest.raises(ValueError, match="broken file"):
        convert_gguf.convert(tmp_path / "x.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(convert_gguf, "_write_folder", lambda _, folder, __: (folder / "whole").write_text("written"))
    convert_gguf.convert(tmp_path / "x.gguf", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_of_two_concurrent_converters_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    started, release = threading.Event(), threading.Event()

    def slow(_: Path, folder: Path, __: object) -> None:
        calls.append(folder)
        started.set()
        assert release.wait(30)
        (folder / "whole").write_text("written")

    monkeypatch.setattr(convert_gguf, "_write_folder", slow)
    threads = [threading.Thread(target=convert_gguf.convert, args=(tmp_path, tmp_path / "out")) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1
    assert (tmp_path / "out" / "whole").exists()


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gemma")
    gemma_gguf.write_tiny_gemma_gguf(folder / "tiny.gguf")
    convert_gguf.convert(folder / "tiny.gguf", folder / "out")
    return folder / "tiny.gguf", folder / "out"


def test_a_converted_gemma_3_computes_what_the_gguf_does(gemma: tuple[Path, Path]) -> None:
    gguf, folder = gemma
    tokens = torch.tensor([[2, *range(270, 290)]])  # longer than the window
    original = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    copy = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(original(tokens).logits, copy(tokens).logits)


def test_a_converted_gemma_3_ends_with_the_text_and_with_the_turn(gemma: tuple[Path, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gemma[1])
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<eos>", "<end_of_turn>")]
    assert json.loads((gemma[1] / "generation_config.json").read_text())["eos_token_id"] == ends
    assert (gemma[1] / "chat_template.jinja").read_text() == gemma_gguf.CHAT_TEMPLATE


@pytest.mark.parametrize("text", ["the hat", "  two  spaces", "a\n\nb", "ü 日", "<start_of_turn>user\nthe"])
def test_a_converted_gemma_3_reads_texts_as_transformers_reads_the_file(gemma: tuple[Path, Path], text: str) -> None:
    own = read_tokenizer(gemma[1])
    theirs = AutoTokenizer.from_pretrained(gemma[0].parent, gguf_file=gemma[0].name)
    assert own.encode(text) == theirs(text).input_ids
    assert own.encode(text)[0] == 2
    assert own.decode(own.encode(text)[1:], skip_special_tokens=False) == text
