"""The format in which a base's matrices are stored and multiplied, chosen once when it is loaded.

A format also determines memory use: a packed head needs the table of token embeddings next to it even if the two are
tied, and a base must stay within 1.3 times its format's size.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.quantize import RowQuantizer
from headmix_server.kernels.stored.bfloat16 import Unit
from headmix_server.kernels.stored.pack import pack
from headmix_server.kernels.stored.weights import StoredWeights
from headmix_server.models.formats.bfloat16_linear import BFloat16Linear, rounded_linear
from headmix_server.models.formats.int8_linear import MakeInt8, int8_linear, int8_table
from headmix_server.models.formats.linear import Linear, PlainLinear, plain_linear
from headmix_server.models.formats.packed_linear import pack_linear
from headmix_server.models.formats.stored_linear import StoredMatrix, StoredTable, linear_of, stored_linear
from headmix_server.models.layers.token_table import PlainTable, TokenTable, narrow_exactly

TABLE_SHARE = 0.3
"""The maximum size of a tied table next to its packed head, as a share of the whole base in its format."""


class LinearFormat(Protocol):
    """Makes every matrix of a base. A format may keep or drop the tensors it is given, but must not write to them."""

    @property
    def name(self) -> str:
        """Its name in the log."""
        ...

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """Make a projection of W (out, in)."""
        ...

    def table(self, rows: Tensor) -> TokenTable:
        """Make the look-up of an embedding table [vocab, D]."""
        ...

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """Make look-up and head from one table [vocab, D]; `parameters` counts the whole base, table included."""
        ...


class PlainFormat:
    """Torch's own products: the reference, and the fallback everywhere."""

    name = "plain"

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return plain_linear(weight, bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return PlainTable(rows, rows.dtype)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`: one tensor for both, whatever the base's size."""
        return self.table(rows), self.linear(rows)


class PackedFormat:
    """Float32 on a CPU in oneDNN's order."""

    name = "packed"

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return pack_linear(weight, bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return narrow_exactly(rows)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`: a table that dominates a small base is stored once, unpacked."""
        table = self.table(rows)
        if table.nbytes > TABLE_SHARE * parameters * rows.itemsize:
            get_logger("models").info("the head is not packed: its table is too large a part of this base")
            return PlainTable(rows, rows.dtype), PlainLinear(rows)
        return table, self.linear(rows)


class StoredFormat:
    """Float32 on a CPU with the checkpoint's own values where they are narrower; `rest` stores the others.

    A table and its tied head share the same blocks.
    """

    name = "stored"

    def __init__(self, rest: LinearFormat) -> None:
        self._rest = rest

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return self._rest.linear(weight, bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return self._rest.table(rows)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`."""
        return self._rest.tied(rows, parameters)

    def stored_linear(self, parts: Sequence[StoredMatrix], bias: Tensor | None = None) -> Linear:
        """Make a projection of matrices whose results are concatenated."""
        return stored_linear(parts, bias)

    def stored_table(self, rows: StoredMatrix) -> TokenTable:
        """Make the look-up of an embedding table."""
        return StoredTable(pack(rows.rows, rows.kind))

    def stored_tied(self, rows: StoredMatrix) -> tuple[TokenTable, Linear]:
        """Make look-up and head from one table."""
        packed = pack(rows.rows, rows.kind)
        return StoredTable(packed), linear_of([packed])


class BFloat16Format:
    """Bfloat16 on a CPU, by one of the processor's units; without one, stored in bfloat16 and multiplied in float32.

    A table and its tied head share the same blocks.
    """

    name = "bfloat16"

    def __init__(self, unit: Unit | None) -> None:
        self._unit = unit

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return self._multiplied(_pack_rounded(weight), bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return StoredTable(_pack_rounded(rows))

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`: stored once for both, whatever the base's size."""
        packed = _pack_rounded(rows)
        return StoredTable(packed), self._multiplied(packed, None)

    def _multiplied(self, packed: StoredWeights, bias: Tensor | None) -> Linear:
        if self._unit is None:
            return linear_of([packed], bias)
        return BFloat16Linear(packed, torch.empty(0) if bias is None else bias, self._unit)


class RoundedFormat:
    """Bfloat16 on a CPU by torch's own products, used where there are no native kernels."""

    name = "bfloat16, plain"

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return rounded_linear(weight, bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return PlainTable(rows.bfloat16(), torch.float32)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`: stored once for both unless the rows must be padded for their products."""
        head = rounded_linear(rows)
        narrow = head.plain.weight if head.plain.padding == 0 else rows.bfloat16()
        return PlainTable(narrow, torch.float32), head


class Int8Format:
    """Integers of 8 bits on a CPU; `make` makes oneDNN's product or the native one."""

    name = "int8"

    def __init__(self, quantize: RowQuantizer, make: MakeInt8 = int8_linear) -> None:
        self._quantize = quantize
        self._make = make

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`."""
        return self._make(weight, bias, self._quantize)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return int8_table(rows)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`: always stored twice, for products with unpacked integers are 100 times slower."""
        return self.table(rows), self.linear(rows)


def _pack_rounded(weight: Tensor) -> StoredWeights:
    return pack(weight.bfloat16(), "BF16")


PLAIN = PlainFormat()
