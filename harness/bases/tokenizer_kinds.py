"""Folders with a small tokenizer of each kind used by bases: they differ in spaces, unknown characters and ends."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from harness.bases.base_folder import CORPUS, QWEN_PATTERN

BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
ROWS = 700
"""The embedding rows that config.json declares: more than any of the tokenizers' vocabularies."""


def byte_level() -> tokenizers.Tokenizer:
    """GPT-2's kind: a token is a string of bytes."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(CORPUS, _byte_level_trainer())
    return backend


def qwen2() -> tokenizers.Tokenizer:
    """Qwen's kind: byte-level with separate digits and composed characters."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(tokenizers.Regex(QWEN_PATTERN), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(CORPUS, _byte_level_trainer())
    return backend


def llama2() -> tokenizers.Tokenizer:
    """Llama 2's, TinyLlama's and Mistral's kind: `▁` for spaces, bytes as a last resort, a space before every text."""
    backend = _byte_fallback(_SENTENCEPIECE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def gemma() -> tokenizers.Tokenizer:
    """Gemma's kind: like Llama 2's, without the space before the text."""
    backend = _byte_fallback(_GEMMA)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def metaspace() -> tokenizers.Tokenizer:
    """The kind whose decoder drops the first token's space."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=_MARKS, show_progress=False))
    _begin_with_bos(backend, _SENTENCEPIECE)
    return backend


def unigram() -> tokenizers.Tokenizer:
    """T5's and XLM-RoBERTa's kind."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=_MARKS, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return backend


def wordpiece() -> tokenizers.Tokenizer:
    """BERT's kind: `##` before a piece that continues a word."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=marks, show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return backend


_MARKS = ["<unk>", "<s>", "</s>"]
_SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_GEMMA = {
    "unk_token": "<unk>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
_BYTE_LEVEL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}

Kind = tuple[Callable[[], tokenizers.Tokenizer], Mapping[str, str]]
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "byte-level": (byte_level, _BYTE_LEVEL),
        "qwen2": (qwen2, _BYTE_LEVEL),
        "llama2": (llama2, _SENTENCEPIECE),
        "gemma": (gemma, _GEMMA),
        "metaspace": (metaspace, _SENTENCEPIECE),
        "unigram": (unigram, _SENTENCEPIECE),
        "wordpiece": (wordpiece, _BERT),
    }
)


def write_tokenizer(
    folder: Path,
    kind: str,
    *,
    tokenizer_class: str | None = "PreTrainedTokenizerFast",
    model_type: str = "llama",
    config: Mapping[str, object] = MappingProxyType({}),
    files: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """Write a tokenizer of a kind to a folder; `config` extends tokenizer_config.json, `files` are more JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    make, roles = KINDS[kind]
    backend = make()
    backend.save(str(folder / "tokenizer.json"))
    own = {} if tokenizer_class is None else {"tokenizer_class": tokenizer_class}
    contents = {
        "tokenizer_config.json": {**own, **roles, **config},
        "config.json": {"model_type": model_type, "vocab_size": ROWS},
        **files,
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _byte_level_trainer() -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _byte_fallback(roles: Mapping[str, str]) -> tokenizers.Tokenizer:
    """Train with `▁` for spaces, then make a model with every byte as a token."""
    marks = sorted(roles.values(), key="<unk>".__ne__)
    draft = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    draft.pre_tokenizer = pre_tokenizers.Metaspace()
    draft.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=[*marks, *BYTE_TOKENS], show_progress=False)
    )
    description = json.loads(draft.to_str())
    description["added_tokens"] = description["added_tokens"][: len(marks)]
    description["pre_tokenizer"] = None
    backend = tokenizers.Tokenizer.from_str(json.dumps(description))
    _begin_with_bos(backend, roles)
    return backend


def _begin_with_bos(backend: tokenizers.Tokenizer, roles: Mapping[str, str]) -> None:
    first = roles["bos_token"]
    backend.add_special_tokens([AddedToken(text, special=True) for text in roles.values()])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, backend.token_to_id(first))]
    )
