"""The sampler's result, and the choice of its implementation."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.sampling.plan import SamplingPlan


@dataclass(frozen=True, slots=True)
class Choices:
    """Every row's token [rows], `NO_TOKEN` where its scores are not finite, and the requested log-probabilities.

    `logprobs` [rows] and the most probable tokens [rows, alternatives], in descending order with ties in the order of
    their ids, are meaningful only for rows that requested them, and only as many as the row requested.
    """

    tokens: Tensor
    logprobs: Tensor
    top_tokens: Tensor
    top_logprobs: Tensor


Choose = Callable[[Tensor, Tensor, SamplingPlan], Choices]
"""Takes scores [rows, vocabulary], float32 or bfloat16, scores of added tokens [rows, n] float32, and the plan."""


@dataclass(frozen=True, slots=True)
class SamplingBackend:
    """One implementation."""

    name: str
    choose: Choose


def choose_sampling(device: torch.device) -> SamplingBackend:
    """Return the fastest implementation for scores on the device, and log the choice."""
    backend = fastest_sampling(device)
    get_logger("device").info("sampling", by=backend.name)
    return backend


def fastest_sampling(device: torch.device) -> SamplingBackend:
    """Return the fastest implementation for scores on the device."""
    if device.type == "cpu" and load_native():
        from headmix_server.kernels.sampling.native import native_choose

        return SamplingBackend("native", native_choose)
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from headmix_server.kernels.triton.sampling import triton_choose

        return SamplingBackend("triton", triton_choose)
    from headmix_server.kernels.sampling.reference import torch_choose

    return SamplingBackend("torch", torch_choose)
