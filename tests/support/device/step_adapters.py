"""One step's additions in one layer, and their expected values from the method's reference, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.reference import term_delta
from headmix_adapters.sites import iter_terms
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan
from tests.support.device.images import Adapter


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What a layer passes to the adapters: inputs, and projections that the base has already computed."""

    x: Tensor  # [tokens, D]
    qkv: Tensor  # [tokens, (H + 2 G) * P]
    attention: Tensor  # [tokens, H * P]
    out: Tensor  # [tokens, D]
    gate_up: Tensor  # [tokens, U]
    inner: Tensor  # [tokens, I]


def random_batch(base: BaseShape, tokens: int, seed: int) -> StepBatch:
    """Draw a batch; the projections are not products of the inputs, since only the key's values matter."""
    drawn = torch.Generator().manual_seed(seed)

    def rows(width: int) -> Tensor:
        return torch.randn(tokens, width, generator=drawn)

    heads, inner = base.num_heads * base.head_dim, base.intermediate_size
    return StepBatch(
        rows(base.hidden_size),
        rows(heads + 2 * base.num_kv_heads * base.head_dim),
        rows(heads),
        rows(base.hidden_size),
        rows(inner * (2 if base.gated_mlp else 1)),
        rows(inner),
    )


def added(step: StepAdapters, batch: StepBatch, layer: int) -> dict[str, Tensor]:
    """Return the projections after a step's additions, by name."""
    qkv, out, gate_up, down = (tensor.clone() for tensor in (batch.qkv, batch.out, batch.gate_up, batch.out))
    step.add_qkv(layer, batch.x, qkv)
    step.add_o(layer, batch.attention, out)
    step.add_gate_up(layer, batch.x, gate_up)
    step.add_down(layer, batch.inner, down)
    return {"qkv": qkv, "o": out, "gate_up": gate_up, "down": down}


def expected(
    batch: StepBatch,
    layer: int,
    base: BaseShape,
    adapters: Mapping[int, Adapter],
    spans: Sequence[SlotSpan],
) -> dict[str, Tensor]:
    """Return the same projections by the method's reference, one row at a time."""
    queries, keys = base.num_heads * base.head_dim, base.num_kv_heads * base.head_dim
    results = {name: t.clone() for name, t in (("qkv", batch.qkv), ("o", batch.out), ("gate_up", batch.gate_up))}
    results["down"] = batch.out.clone()
    q, k, v = torch.split(results["qkv"], [queries, keys, keys], dim=-1)
    outs = {"q": q, "k": k, "v": v, "o": results["o"], "gate_up": results["gate_up"], "down": results["down"]}
    raw_key = batch.qkv[:, queries : queries + keys]
    inputs = {"x": batch.x, "k": raw_key, "a": batch.attention, "m": batch.x, "i": batch.inner}
    for rows, use in [(span.rows, use) for span in spans for use in span.uses]:
        adapter = adapters.get(use.slot)
        if adapter is None or layer not in adapter.layers:
            continue
        for term in iter_terms(adapter.config.sites):
            name = f"layers.{layer}.{term.prefix}"
            A, B, bias = (adapter.tensors.get(f"{name}.{part}") for part in ("A", "B", "bias"))
            assert A is not None
            assert B is not None
            for row in rows:
                delta = term_delta(term, inputs[term.term.input][row], A, B, bias)
                outs[term.term.site][row] += use.scale * delta
    return results


def assert_rows_match(
    step: StepAdapters,
    batch: StepBatch,
    layer: int,
    adapters: Mapping[int, Adapter],
    spans: Sequence[SlotSpan],
    base: BaseShape,
) -> None:
    """Assert that a step adds what the reference says."""
    wanted = expected(batch, layer, base, adapters, spans)
    for name, found in added(step, batch, layer).items():
        assert torch.allclose(found, wanted[name], atol=2e-5, rtol=2e-5), (
            f"{name} of layer {layer} is off by {(found - wanted[name]).abs().max():.2e}"
        )
