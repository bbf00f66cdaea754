"""Tokens in and tokens out: the table of embedding rows and the head that scores the next token."""

from dataclasses import dataclass

from headmix_server.models.formats.linear import Linear
from headmix_server.models.layers.token_table import TokenTable
from headmix_server.models.loading.weights import Checkpoint

HEAD = "lm_head.weight"


@dataclass(frozen=True, eq=False, slots=True)
class Vocabulary:
    """`embed` returns the embedding rows of token ids, `scores` every token's logit: [rows, D] -> [rows, vocab].

    `tied`: the rows that are read are those that score.
    """

    embed: TokenTable
    scores: Linear
    tied: bool


def take_vocabulary(checkpoint: Checkpoint, name: str, shape: tuple[int, int], *, tied: bool) -> Vocabulary:
    """Read the table `name` and its head, which a tied checkpoint may hold a second time."""
    rows, form = checkpoint.take(name, shape), checkpoint.form
    if tied:
        return Vocabulary(*form.tied(rows, checkpoint.parameters), tied=True)
    return Vocabulary(form.table(rows), form.linear(checkpoint.take(HEAD, shape)), tied=False)
