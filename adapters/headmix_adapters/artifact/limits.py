"""How large an artifact may be. Owns the numbers; `rules`, `header` and `verify` enforce them."""

from dataclasses import dataclass

MIB = 1 << 20

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
FLOAT32_SMALLEST = 2.0**-126
"""Smaller magnitudes are denormal in float32, and some of the hardware that serves adapters flushes them to 0."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits on what is accepted; ranks are per term, sizes in bytes.

    A term of `gate_up` may have twice `max_rank`: it holds the ranks of two projections, the gate's and the up
    projection's. `max_config_bytes` bounds the whole description as JSON; `max_words_chars` the total length of all
    labels, and that of all added tokens; `max_template_bytes` the chat template; `max_metadata_bytes` and
    `max_metadata_depth` the free-form `training` object.
    """

    max_rank: int = 256
    max_bytes: int = 256 * MIB
    max_labels: int = 4096
    max_header_bytes: int = 4 * MIB
    max_added_tokens: int = 4096
    max_examples: int = 4
    max_example_chars: int = 1000
    max_template_bytes: int = MIB // 16
    max_config_bytes: int = MIB
    max_words_chars: int = 1 << 17
    max_metadata_bytes: int = MIB // 16
    max_metadata_depth: int = 16

    def most_rank(self, site: str) -> int:
        """Return the largest rank of a term of a site."""
        return 2 * self.max_rank if site == "gate_up" else self.max_rank
