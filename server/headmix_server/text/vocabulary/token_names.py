r"""A unique name for every token of a vocabulary, for log-probabilities.

A token is named by the text it adds. If that is part of a character, or another token adds the same text, it is named
by its bytes as OpenAI writes them, `bytes:\xe2\x82`, and as a last resort by its id, `token_id:17`, as vLLM does.
"""

from typing import Protocol


class Vocabulary(Protocol):
    """The parts of a tokenizer that names depend on; `tokenizer.Tokenizer` implements it and documents the methods."""

    vocab_size: int

    def piece(self, token: int) -> str | None:
        """See `Tokenizer`."""

    def is_hidden(self, token: int) -> bool:
        """See `Tokenizer`."""

    def fallback_byte(self, token: int) -> int | None:
        """See `Tokenizer`."""

    def token_bytes(self, token: int) -> bytes | None:
        """See `Tokenizer`."""


def plain_name(vocabulary: Vocabulary, token: int) -> str:
    """Return a token's name if no other token adds the same text."""
    raw = vocabulary.token_bytes(token)
    if raw is None:
        return vocabulary.piece(token) or id_name(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return bytes_name(raw)


def bytes_name(raw: bytes) -> str:
    """Return bytes as OpenAI shows part of a character."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def id_name(token: int) -> str:
    """Return the name of last resort."""
    return f"token_id:{token}"


def renamed_tokens(vocabulary: Vocabulary) -> dict[int, str]:
    """Return the names of tokens that add the same text as another one; in each such group, one token keeps the text.

    This decodes the whole vocabulary, which takes up to a second.
    """
    owners: dict[str, int] = {}
    others: list[int] = []
    for token in range(vocabulary.vocab_size):
        name = plain_name(vocabulary, token)
        owner = owners.setdefault(name, token)
        if owner == token:
            continue
        # A whole token takes precedence over a byte or a special token.
        better = _is_whole(vocabulary, token) and not _is_whole(vocabulary, owner)
        owners[name] = token if better else owner
        others.append(owner if better else token)
    renamed: dict[int, str] = {}
    for token in others:
        raw = vocabulary.token_bytes(token)
        by_bytes = id_name(token) if raw is None else bytes_name(raw)
        renamed[token] = by_bytes if owners.setdefault(by_bytes, token) == token else id_name(token)
    return renamed


def _is_whole(vocabulary: Vocabulary, token: int) -> bool:
    return not vocabulary.is_hidden(token) and vocabulary.fallback_byte(token) is None
