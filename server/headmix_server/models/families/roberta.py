"""The RoBERTa family: BERT's layers; positions are counted from the padding token's id + 1."""

from functools import partial

from headmix_server.models.encoder import Encoder, read_sizes
from headmix_server.models.layers.positions import after_padding
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Weights

PREFIX = "roberta."
PADDING = 1
"""The padding token's id if config.json gives none."""


def load(reader: ConfigReader, weights: Weights) -> Encoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    padding = reader.get("pad_token_id")
    if padding is None:
        padding = PADDING
    if not isinstance(padding, int) or padding < 0:
        reader.fault(f"pad_token_id={padding!r}")
        padding = PADDING
    sizes = read_sizes(reader, reserved_positions=padding + 1)
    reader.refuse_faults()
    return Encoder(sizes, weights(PREFIX), partial(after_padding, padding=padding))
