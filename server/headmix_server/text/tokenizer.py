"""The base's tokenizer, read from its folder with the `tokenizers` library alone (transformers would load torch).

Owns which ids are special, which end a generation, and the bytes behind one token. It knows neither adapters nor HTTP;
`text.extended` adds an adapter's words to a copy.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import tokenizers
from tokenizers.processors import TemplateProcessing

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerError(Exception):
    """The folder holds no tokenizer that can be read."""


class Tokenizer:
    """Text to token ids and back; immutable once loaded and safe to share between threads.

    `special_tokens` maps `bos_token` and its like to their text; `eos_ids` are the ids that end a generation;
    `byte_level` says that tokens are written in GPT-2's alphabet of bytes.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str], eos_ids: frozenset[int]
    ) -> None:
        self._backend = backend
        self.byte_level = '"ByteLevel"' in _section(backend, "decoder")
        self.special_tokens = MappingProxyType(dict(special_tokens))
        self.eos_ids = eos_ids
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)

    def copy_backend(self) -> tokenizers.Tokenizer:
        """Return the library's tokenizer as a copy that may be changed."""
        return tokenizers.Tokenizer.from_str(self._backend.to_str())

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of `text`, with the special tokens the base expects around it unless told otherwise."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes one token stands for; a token may hold only part of a UTF-8 character."""
        piece = self._backend.id_to_token(token)
        if piece is None:
            return b""
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        if self.byte_level and all(character in _BYTES for character in piece):
            return bytes(_BYTES[character] for character in piece)
        return self.decode([token], skip_special_tokens=False).encode()


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` and the configs beside it.

    Raises:
        TokenizerError: a file is missing or cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"{folder} holds no tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path} cannot be read: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    config = _read_json(folder / "tokenizer_config.json")
    special = _special_tokens({**_read_json(folder / "special_tokens_map.json"), **config})
    _wrap_with_special_tokens(backend, config, special)
    return Tokenizer(backend, special, _eos_ids(folder, backend, special))


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} is not a JSON object")
    return content


def _section(backend: tokenizers.Tokenizer, name: str) -> str:
    return json.dumps(json.loads(backend.to_str()).get(name))


def _special_tokens(config: Mapping[str, object]) -> dict[str, str]:
    tokens = {}
    for name in _SPECIAL:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def _wrap_with_special_tokens(
    backend: tokenizers.Tokenizer, config: Mapping[str, object], special: Mapping[str, str]
) -> None:
    """Follow transformers: an explicit `add_bos_token` or `add_eos_token` replaces the file's own post-processor."""
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return
    bos = special.get("bos_token") if config.get("add_bos_token") else None
    eos = special.get("eos_token") if config.get("add_eos_token") else None
    used = [token for token in (bos, eos) if token is not None]
    single = " ".join([*([bos] if bos else []), "$A", *([eos] if eos else [])])
    backend.post_processor = TemplateProcessing(
        single=single, special_tokens=[(token, _id_of(backend, token)) for token in dict.fromkeys(used)]
    )


def _id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    number = backend.token_to_id(token)
    if number is None:
        raise TokenizerError(f"the special token {token!r} is not in the vocabulary")
    return int(number)


def _eos_ids(folder: Path, backend: tokenizers.Tokenizer, special: Mapping[str, str]) -> frozenset[int]:
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        declared = _read_json(folder / name).get("eos_token_id")
        numbers = declared if isinstance(declared, list) else [declared]
        ids.update(number for number in numbers if isinstance(number, int))
        if ids:
            break
    if "eos_token" in special:
        ids.add(_id_of(backend, special["eos_token"]))
    return frozenset(ids)


def _byte_of_character() -> Mapping[str, int]:
    """Invert GPT-2's table, which shows printable bytes as themselves and the rest from U+0100 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): byte for byte in printable}
    shown.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return MappingProxyType(shown)


_BYTES = _byte_of_character()
