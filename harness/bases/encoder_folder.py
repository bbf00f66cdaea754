"""An encoder base's folder without weights: a tiny tokenizer that adds BERT's or RoBERTa's special tokens to a text."""

import json
from collections.abc import Mapping
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from harness.bases.base_folder import CORPUS

BERT_MARKS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA_MARKS = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}


def write_wordpiece_folder(folder: Path) -> None:
    """Write BERT's kind of tokenizer: `[CLS] text [SEP]`, pairs with two types; the padding token has id 0."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=list(BERT_MARKS.values()), show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    _save(folder, backend, BERT_MARKS, pair="$A {last} $B:1 {last}:1")


def write_byte_level_folder(folder: Path) -> None:
    """Write RoBERTa's kind of tokenizer: `<s> text </s>`, pairs of one type; the padding token has id 1."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(ROBERTA_MARKS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    _save(folder, backend, ROBERTA_MARKS, pair="$A {last} {last} $B {last}")


def _save(folder: Path, backend: tokenizers.Tokenizer, marks: Mapping[str, str], *, pair: str) -> None:
    first, last = marks["cls_token"], marks["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} {pair.format(last=last)}",
        special_tokens=[(mark, backend.token_to_id(mark)) for mark in (first, last)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | dict(marks)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
