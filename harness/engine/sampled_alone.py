"""The sampler without a runner: it chooses tokens for rows that are all new to it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from headmix_server.core.runner import BatchRow, RowFailed, Sampled
from headmix_server.core.types import SamplingParams
from headmix_server.device.adapters.added_tokens import AddedScores
from headmix_server.device.exchange import Readback
from headmix_server.device.sampler import Sampler
from headmix_server.kernels.sampling.choice import SamplingBackend, fastest_sampling

_NOTHING_ADDED: Mapping[int, Tensor] = MappingProxyType({})


def sample(
    logits: Tensor,
    rows: Sequence[tuple[BatchRow, SamplingParams]],
    added: Mapping[int, Tensor] = _NOTHING_ADDED,
    backend: SamplingBackend | None = None,
) -> list[Sampled | RowFailed]:
    """Choose a token for each row; all are of different, new sequences; see `Sampler.choose`."""
    more = AddedScores.stack([added.get(index) for index in range(len(rows))], logits.device)
    sampler, back = Sampler(backend or fastest_sampling(logits.device)), Readback()
    pending = sampler.choose(logits, rows, more, back)
    back.fetch()
    return pending.read()
