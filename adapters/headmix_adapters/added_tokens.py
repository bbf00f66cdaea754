"""How tokens that an adapter adds are found in text. Training and serving must cut the same text into the same ids.

A word is matched literally wherever it stands, before any normalising, and shown when text is decoded. Its id is not
decided here: the first word's is the base's vocabulary size, wherever a tokenizer would put it.
"""

from collections.abc import Sequence

import tokenizers


def literal_tokens(words: Sequence[str]) -> list[tokenizers.AddedToken]:
    """Return the words in the form `tokenizers.Tokenizer.add_tokens` and transformers' `add_tokens` take."""
    return [tokenizers.AddedToken(word, normalized=False, special=False) for word in words]
