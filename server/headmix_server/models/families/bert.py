"""The BERT family: BERT, MiniLM and the sentence encoders derived from them."""

from headmix_server.models.encoder import Encoder, read_sizes
from headmix_server.models.layers.positions import as_they_are
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Weights

PREFIX = "bert."


def load(reader: ConfigReader, weights: Weights) -> Encoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    sizes = read_sizes(reader)
    reader.refuse_faults()
    return Encoder(sizes, weights(PREFIX), as_they_are)
