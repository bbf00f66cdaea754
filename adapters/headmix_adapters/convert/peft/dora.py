"""DoRA (`use_dora`): LoRAs that also rescale every row of the base's own matrix, written out as the change that makes.

A module computes m / ||W + s B A|| * (W + s B A) x, row by row. Without W x that is a change of the whole matrix, which
has no low rank. A head part of the heads' own size holds any change of q, v and o; other sites only one that is narrow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from headmix_adapters.artifact import Limits
from headmix_adapters.config import BaseShape
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.module_lora import Factor, ModuleLora
from headmix_adapters.families import Part
from headmix_adapters.presets import HEAD_BASES

FIELD = "use_dora"
MIB = 1 << 20
_FLOAT32 = 4


def require_room(loras: Sequence[ModuleLora], limits: Limits) -> str:
    """Return the note about DoRA's modules.

    Raises:
        ConvertError: the changes of their weights take more room than an artifact may have.
    """
    scaled = [lora for lora in loras if lora.magnitude is not None]
    size = _FLOAT32 * sum(lora.B.shape[0] * lora.A.shape[1] for lora in scaled)
    if size > limits.max_bytes:
        raise ConvertError(
            FIELD,
            f"DoRA rescales the base's weights; the changes of {len(scaled)} modules take {size / MIB:.0f} MiB, and an "
            f"artifact has at most {limits.max_bytes // MIB}",
        )
    return f"use_dora: {len(scaled)} modules became the whole change of their weights, {size / MIB:.1f} MiB"


def written_out(lora: ModuleLora, parts: Sequence[Part], weight: Tensor, base: BaseShape, limits: Limits) -> ModuleLora:
    """Return a module's DoRA as the plain product of its whole change; `weight` is the base's own, (out, in).

    Raises:
        ConvertError: its tensors do not fit, or a site of the module cannot hold the change.
    """
    name = f"{lora.name}.lora_magnitude_vector"
    rows, columns = lora.B.shape[0], lora.A.shape[1]
    if lora.magnitude is None or lora.magnitude.shape != (rows,) or weight.shape != (rows, columns):
        shape = None if lora.magnitude is None else list(lora.magnitude.shape)
        raise ConvertError(name, f"its shape is {shape}, the module's weight has {list(weight.shape)}")
    if lora.bias is not None and lora.bias.any():
        raise ConvertError(f"{lora.name}.lora_B.bias", "DoRA with a bias of B is not understood by this version")
    for part in parts:
        rank = base.head_dim if part.site in HEAD_BASES else min(rows, columns)
        most = limits.most_rank(part.site)
        if rank > most:
            raise ConvertError(
                name,
                f"DoRA rescales every row of a {rows} x {columns} matrix: on site {part.site} that takes rank "
                f"{rank}, and an artifact has at most {most}",
            )
    weight = weight.double()
    changed = weight + lora.scale * (lora.B.double() @ lora.A.double())
    scale = lora.magnitude.double() / torch.linalg.vector_norm(changed, dim=1)
    return _product(lora.name, (scale[:, None] * changed - weight).float(), {part.site for part in parts})


def _product(name: str, change: Tensor, sites: set[str]) -> ModuleLora:
    """Return the change as a product with an identity, on the side where it makes head parts or a small rank."""
    rows, columns = change.shape
    blocks: Factor | None = "A" if sites == {"o"} else "B" if sites & {"q", "v"} else None
    if blocks == "A" or (blocks is None and columns < rows):
        return ModuleLora(name, torch.eye(columns), change, None, 1.0, blocks)
    return ModuleLora(name, change, torch.eye(rows), None, 1.0, blocks)
