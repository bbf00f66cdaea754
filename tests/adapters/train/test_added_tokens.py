"""Tokens a recipe adds are found in its data, numbered from the base's vocabulary size, and the only ones learned."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from harness.bases.tiny_model import make_tiny_llama
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.inject import LanguageModel, load_adapter
from headmix_adapters.text.tokenizer import BaseTokenizer, read_tokenizer
from headmix_adapters.train.added_tokens import AddedVocabulary
from headmix_adapters.train.data.examples import Encoded, Example
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter
from tests.adapters.train.conftest import RecipeMaker

WORDS = ("<subject>", "<object>")
# The tiny base has 512 rows.
SUBJECT, OBJECT = 512, 513


@pytest.fixture
def fresh(tiny_folder: Path) -> BaseTokenizer:
    return read_tokenizer(tiny_folder)


@pytest.fixture
def added_material(recipe: RecipeMaker, tmp_path: Path) -> Material:
    """Material whose answers repeat the added token of the prompt."""
    rows = [{"prompt": f"The fox {word}", "completion": word} for word in WORDS]
    for split in ("train", "eval"):
        (tmp_path / f"generation.{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows * 8))
    made = recipe("generation", adapter={"preset": "gpt2-nlg", "layers": [1, 3]}, epochs=20)
    return load_material(msgspec.structs.replace(made, added_tokens=WORDS), tmp_path)


def test_words_are_found_in_text_and_numbered_from_the_vocabulary_size(fresh: BaseTokenizer) -> None:
    before = fresh.encode("The fox")
    vocabulary = AddedVocabulary(fresh, WORDS, 600)
    ids = vocabulary.tokenizer.encode("The fox<object>The fox<subject>")
    label = vocabulary.tokenizer.encode("<subject>")
    assert fresh.token_id("<subject>") is None
    encoded = vocabulary.renumber(Encoded([Example(ids, [-100, *label]), Example(ids, 3)], 0, 0))
    assert encoded.examples[0].input_ids == [*before, 601, *before, 600]
    assert encoded.examples[0].labels == [-100, 600]
    assert encoded.examples[1].labels == 3


def test_a_base_token_and_a_vocabulary_beyond_the_bases_rows_are_refused(fresh: BaseTokenizer) -> None:
    with pytest.raises(RecipeError, match=r"'<\|im_end\|>' is a token of the base"):
        AddedVocabulary(fresh, ("<new>", "<|im_end|>"), 512)
    with pytest.raises(RecipeError, match="more tokens than the base's 100 rows"):
        AddedVocabulary(fresh, ("<new>",), 100)


def test_added_tokens_are_learned_and_generated(added_material: Material, reporter: Reporter, tmp_path: Path) -> None:
    result = train_adapter(added_material, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.base is None
    tensors = load_tensors(result.artifact)
    assert tensors["added_tokens.embedding"].shape == (2, 32)
    base = added_material.model
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    loaded = load_adapter(base, result.artifact)
    assert isinstance(loaded, LanguageModel)
    for example in added_material.eval.examples[:2]:
        assert isinstance(example.labels, list)
        prompt = [token for token, label in zip(example.input_ids, example.labels, strict=True) if label == -100]
        said = loaded.generate(torch.tensor([prompt], device=base.device), max_new_tokens=1, do_sample=False)[0, -1]
        assert said == prompt[-1]
        assert prompt[-1] in (SUBJECT, OBJECT)
    loaded.adapter.detach()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in base.state_dict().items())


def test_answers_with_added_tokens_need_a_tied_head(added_material: Material, tmp_path: Path) -> None:
    folder = tmp_path / "untied"
    make_tiny_llama(folder, {"tie_word_embeddings": False})
    recipe = msgspec.structs.replace(added_material.recipe, base=str(folder))
    with pytest.raises(RecipeError, match="not tied"):
        load_material(recipe, tmp_path)
