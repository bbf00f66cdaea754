"""The tokens a recipe adds to the base's vocabulary: found in the training texts, and numbered as in the artifact.

`headmix_adapters.text.tokenizer` defines how they are found, in serving too. Their ids start at the base's vocabulary
size, whatever ids the tokenizer itself would give them.
"""

from collections.abc import Sequence
from dataclasses import replace

from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_adapters.train.data.examples import Encoded, Example
from headmix_adapters.train.errors import RecipeError


class AddedVocabulary:
    """A recipe's added words in a copy of the base's tokenizer, and the ids they have in the model.

    `tokenizer` matches them; the tokenizer passed in is not changed.

    Raises:
        RecipeError: a word is already a token of the base, or the base has fewer embedding rows than tokens.
    """

    def __init__(self, tokenizer: BaseTokenizer, words: Sequence[str], first: int) -> None:
        if taken := [word for word in words if tokenizer.token_id(word) is not None]:
            raise RecipeError(f"added_tokens: {taken[0]!r} is a token of the base")
        self._inner = tokenizer.size
        self._shift = first - self._inner
        if words and self._shift < 0:
            raise RecipeError(f"added_tokens: the base's tokenizer has more tokens than the base's {first} rows")
        self.tokenizer = tokenizer.with_words(words) if words else tokenizer

    def renumber(self, encoded: Encoded) -> Encoded:
        """Return the examples with the tokenizer's ids replaced by the model's."""
        if not self._shift:
            return encoded
        return replace(encoded, examples=[self._renumbered(example) for example in encoded.examples])

    def _renumbered(self, example: Example) -> Example:
        labels = example.labels
        return replace(
            example,
            input_ids=self._ids(example.input_ids),
            labels=self._ids(labels) if isinstance(labels, list) else labels,
        )

    def _ids(self, ids: Sequence[int]) -> list[int]:
        return [token + self._shift if token >= self._inner else token for token in ids]


def require_sayable(examples: Sequence[Example], first: int) -> None:
    """Make sure that no answer contains an added token, for bases whose head is not tied to their embeddings.

    Raises:
        RecipeError: an answer does; the adapter would have no score for it.
    """
    if any(isinstance(example.labels, list) and max(example.labels) >= first for example in examples):
        raise RecipeError(
            "added_tokens: the base's output head is not tied to its embeddings, so added tokens can be read, "
            "but answers cannot hold them"
        )
