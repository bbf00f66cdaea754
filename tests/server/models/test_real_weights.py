"""The real encoder that comes as a package computes what transformers computes, if it is installed."""

from collections.abc import Sequence
from importlib.util import find_spec

import pytest
import torch
from transformers import AutoModel

from headmix_adapters.base import resolve_base
from headmix_adapters.base.embedded import EMBEDDED
from headmix_server.core.messages import Embed
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import EmbeddingParams
from headmix_server.llm.session import EngineSession, build_engine
from headmix_server.text.tokenizer import load_tokenizer

NAME = "minilm-l6"
INSTALLED = [NAME] if find_spec(EMBEDDED[NAME].package) else []
TEXTS = (
    "A cat sits on the mat.",
    "The kitten lay down on the rug, and slept.",
    "Quarterly earnings fell short of what analysts had expected, so the share price dropped by four per cent.",
)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", INSTALLED)
def test_the_embedded_encoder_gives_transformers_vectors_and_they_mean_something(name: str) -> None:
    base = resolve_base(name)
    tokenizer = load_tokenizer(base.folder)
    prompts = [tokenizer.encode(text) for text in TEXTS]
    engine = build_engine(base, Settings(base=name))
    session = EngineSession(engine)
    params = EmbeddingParams(pooling="mean", normalize=True)
    for index, prompt in enumerate(prompts):
        session.submit(Embed(request_id=str(index), tenant="t", prompt=prompt, adapter=None, params=params))
    session.drain()
    engine.close()
    vectors = [session.answers[str(index)].vector for index in range(len(TEXTS))]
    oracle = AutoModel.from_pretrained(base.folder, dtype=torch.float32)
    for prompt, vector in zip(prompts, vectors, strict=True):
        with torch.inference_mode():
            states = oracle(input_ids=torch.tensor([prompt])).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(dim=0), dim=-1)
        torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-4, rtol=1e-4)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.3
