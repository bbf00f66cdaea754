"""The sampler on the CPU by the native library: one call per step, rows in parallel on torch's threads.

Tested against `kernels.sampling.reference`. Needs `kernels.native` loaded.
"""

import torch
from torch import Tensor

from headmix_server.kernels.sampling.choice import Choices
from headmix_server.kernels.sampling.plan import SamplingPlan


def native_choose(logits: Tensor, added: Tensor, plan: SamplingPlan) -> Choices:
    """See `kernels.sampling.choice.Choose`."""
    rows = logits.shape[0]
    choices = Choices(
        tokens=torch.empty(rows, dtype=torch.int64, device="cpu"),
        logprobs=torch.zeros(rows, device="cpu"),
        top_tokens=torch.zeros(rows, plan.alternatives, dtype=torch.int64, device="cpu"),
        top_logprobs=torch.zeros(rows, plan.alternatives, device="cpu"),
    )
    torch.ops.headmix.sample(
        *(logits, added, *plan.tables),
        *(choices.tokens, choices.logprobs, choices.top_tokens, choices.top_logprobs),
    )
    return choices
