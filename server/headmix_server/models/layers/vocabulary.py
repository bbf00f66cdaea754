"""Input and output of tokens: the table of embedding rows, and the head that scores the next token."""

from dataclasses import dataclass

from headmix_server.models.formats.linear import Linear
from headmix_server.models.layers.token_table import TokenTable
from headmix_server.models.loading.weights import Checkpoint

HEAD = "lm_head.weight"


@dataclass(frozen=True, eq=False, slots=True)
class Vocabulary:
    """`embed` returns the embedding rows of token ids, `scores` every token's logit: [rows, D] -> [rows, vocab].

    `tied`: embedding and head share the same rows.
    """

    embed: TokenTable
    scores: Linear
    tied: bool


def take_vocabulary(checkpoint: Checkpoint, name: str, shape: tuple[int, int], *, tied: bool) -> Vocabulary:
    """Read the table `name` and its head; a tied checkpoint may contain the head as a second copy."""
    if tied:
        return Vocabulary(*checkpoint.tied(name, shape), tied=True)
    table = checkpoint.table(name, shape)
    return Vocabulary(table, checkpoint.linear(HEAD.removesuffix(".weight"), *shape, bias=False), tied=False)
