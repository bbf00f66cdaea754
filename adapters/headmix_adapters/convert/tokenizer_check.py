"""Checks that an adapter is served the same token ids for a text that it was trained on.

An adapter from elsewhere was trained with a tokenizer as transformers loads it. That is not always what tokenizer.json
says, which headmix trains and serves with: for some classes transformers builds the tokenizer from its own code. Both
encode the same texts here, and their ids are compared. Loads transformers.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers import __version__ as transformers_version
from transformers.utils import logging as transformers_logging

from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.text.tokenizer import BaseTokenizer, TokenizerError, read_tokenizer

SUBJECT = "tokenizer"
_TEXTS = (
    "The quick brown fox doesn't jump.",
    " one leading space, two  inside and one trailing ",
    "   three leading spaces\n\n\ttab, newlines\r\n and more   ",
    "Call 0800 1234567 or 3.14159; 10,000 of 25%.",
    "naïve café, façade, Straße, ﬁne, e\u0301",
    "Привет, мир! Γειά σου. שלום עולם مرحبا بالعالم",
    "你好，世界。日本語のテキスト 한국어 ไทย हिन्दी",
    "emoji 🙂👩‍👩‍👧 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u200b\ufeff",
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # <tag/> https://a.b/c?d=e&f=g",
    "ALL CAPS and CamelCase_snake-kebab",
    "[INST] hi [/INST]",
    "<|user|>\nhi<|end|>\n<|assistant|>",
    "[CLS] [SEP] <bos> <|endoftext|>",
)
_IDS_SHOWN = 12


def check_tokenizer(base: ResolvedBase, adapter_folder: Path | None = None) -> None:
    """Compare the base's tokenizer, as served, with the one transformers loads.

    If `adapter_folder` contains the tokenizer saved by training, transformers loads that one instead of the base's.

    Raises:
        ConvertError: they give different ids for a text, or one of them cannot be read.
    """
    source, owner = base.folder, "the base's tokenizer"
    if adapter_folder is not None and (adapter_folder / "tokenizer.json").is_file():
        source, owner = adapter_folder, "the tokenizer in the adapter's folder"
    try:
        served = read_tokenizer(base.folder)
    except TokenizerError as error:
        raise ConvertError(SUBJECT, str(error)) from error
    theirs = _load(source, base.folder, owner)
    for text in _probes(served):
        for special in (False, True):
            expected: list[int] = theirs(text, add_special_tokens=special).input_ids
            actual = served.encode(text, add_special_tokens=special)
            if actual != expected:
                raise ConvertError(SUBJECT, _difference(text, actual, expected, owner))


def _load(source: Path, base: Path, owner: str) -> PreTrainedTokenizerBase:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, config=AutoConfig.from_pretrained(base))
    except Exception as error:  # the libraries below raise bare Exception
        raise ConvertError(SUBJECT, f"transformers cannot read {owner} ({type(error).__name__})") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return loaded


def _probes(served: BaseTokenizer) -> Iterator[str]:
    """Yield texts of several scripts and kinds, and for each token that is matched whole, a text that contains it."""
    yield from _TEXTS
    for token in served.whole_tokens():
        yield f"{token}one {token} two{token}"


def _difference(text: str, actual: list[int], expected: list[int], owner: str) -> str:
    """Return the message; it names no path on this machine, since a client may read it."""
    same = next((at for at, pair in enumerate(zip(actual, expected, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(actual), len(expected)) if same is None else same
    return (
        f"the adapter was trained on other token ids than it would be served with: for "
        f"{json.dumps(text, ensure_ascii=False)} transformers {transformers_version} reads {owner} as "
        f"{_shown(expected, at)}, and the base's tokenizer.json says {_shown(actual, at)}. Save training's tokenizer "
        "into the base's folder (save_pretrained), or allow the mismatch where the adapter was trained on the second"
    )


def _shown(ids: list[int], at: int) -> str:
    """Return some ids, starting at the first difference."""
    part = ", ".join(map(str, ids[at : at + _IDS_SHOWN]))
    return f"[{'..., ' if at else ''}{part}{', ...' if len(ids) > at + _IDS_SHOWN else ''}]"
