"""Added tokens through the whole data path: read, scored and generated with their own adapter only.

The oracle is the transformers model with its embeddings enlarged by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import make_tiny_llama
from harness.exactness import Case, compare
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape, Sites
from headmix_adapters.inject import LanguageModel, load_adapter
from headmix_server.core.messages import Classified, Classify, Embed, Embedded, Failed, Generate, Output, TokenOutput
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import UNSCORED, EmbeddingParams, SamplingParams, TokenLogprob
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import adapter_ref, build_engine

VOCAB = 512
WORDS = ("<a>", "<b>", "<c>")
PROMPT = [30, VOCAB + 2, 41, 52, VOCAB, VOCAB + 2, 77]
LOUD = 4.0
"""The scale of added rows at which an adapter often generates its own tokens."""


@dataclass
class Bench:
    """An engine on a tiny base, and the transformers model of the same weights."""

    engine: Engine
    oracle: LlamaForCausalLM
    base: BaseShape
    folder: Path

    def adapter(self, name: str, sites: Sites, words: Sequence[str] = WORDS, *, seed: int = 0, labels: int = 0) -> Path:
        """Write a random adapter; without words it adds no tokens."""
        path = self.folder / f"{name}.safetensors"
        head = classifier_config(*(f"label {n}" for n in range(labels))) if labels else None
        random_artifact(
            path,
            self.base,
            sites,
            seed=seed,
            classifier=head,
            dtype=torch.float32,
            scale=LOUD if sites == Sites() else 0.3,
            added_tokens=tuple(words),
        )
        return path

    def answer(self, *requests: Generate | Classify | Embed) -> dict[str, list[Output]]:
        """Run requests together."""
        outputs: dict[str, list[Output]] = {request.request_id: [] for request in requests}
        for request in requests:
            self.engine.submit(request)
        while not self.engine.idle:
            for output in self.engine.step():
                outputs[output.request_id].append(output)
        self.engine.check_integrity()
        return outputs


@pytest.fixture(params=[True, False], ids=["tied head", "untied head"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    torch.set_num_threads(1)
    oracle = make_tiny_llama(tmp_path / "base", {"tie_word_embeddings": request.param})
    base = resolve_base(str(tmp_path / "base"))
    engine = build_engine(base, Settings(base="tiny", max_batch_tokens=16, kv_cache_mib=1, block_size=4))
    yield Bench(engine, oracle, base.shape, tmp_path)
    engine.close()


def generate(name: str, path: Path | None, prompt: list[int] | None = None, **sampling: object) -> Generate:
    params = {"max_tokens": 12, "temperature": 0, "logprobs": 3, "prompt_logprobs": True, "ignore_eos": True}
    return Generate(
        request_id=name,
        tenant="t",
        prompt=PROMPT if prompt is None else prompt,
        adapter=None if path is None else adapter_ref(path),
        sampling=SamplingParams(**(params | sampling)),  # type: ignore[arg-type]  # the struct's names and types
    )


def said(outputs: list[Output]) -> tuple[list[int], list[TokenLogprob], list[TokenLogprob]]:
    """Return the tokens, their log-probabilities and those of the prompt."""
    tokens: list[int] = []
    scores: list[TokenLogprob] = []
    prompt: list[TokenLogprob] = []
    for output in outputs:
        assert isinstance(output, TokenOutput), output
        tokens += output.tokens
        scores += output.logprobs or []
        prompt += output.prompt_logprobs or []
    return tokens, scores, prompt


def enlarge(oracle: LlamaForCausalLM, rows: Tensor) -> int:
    """Add embedding rows to the model by hand; return how many ids it can then generate."""
    tied = bool(oracle.config.tie_word_embeddings)
    embedding = cast("nn.Embedding", oracle.get_input_embeddings())
    weight = torch.cat([embedding.weight.detach(), rows])
    table = nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight)
    oracle.set_input_embeddings(table)
    if tied:
        oracle.lm_head = nn.Linear(table.embedding_dim, table.num_embeddings, bias=False)
        oracle.lm_head.weight = table.weight
    return table.num_embeddings if tied else VOCAB


@torch.inference_mode()
def check_against(model: nn.Module, size: int, prompt: list[int], outputs: list[Output]) -> list[int]:
    """Compare a greedy answer with a transformers model that can generate `size` ids; return the tokens."""
    tokens, scores, prompt_scores = said(outputs)
    logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, :-1]
    assert logits.shape[1] == size
    expected = logits.log_softmax(-1)
    assert tokens == expected[len(prompt) - 1 :].argmax(-1).tolist()
    for at, score in enumerate([*prompt_scores, *scores]):
        token = [*prompt, *tokens][at + 1]
        assert score.token == token
        assert score.logprob == pytest.approx(float(expected[at, token]) if token < size else UNSCORED, abs=1e-4)
        assert [value for _, value in score.top] == pytest.approx(expected[at].topk(3).values.tolist(), abs=1e-4)
    return tokens


def test_answers_are_those_of_transformers_with_enlarged_embeddings(bench: Bench) -> None:
    path = bench.adapter("loud", Sites())
    outputs = bench.answer(generate("r", path))["r"]
    size = enlarge(bench.oracle, load_tensors(path)["added_tokens.embedding"])
    tokens = check_against(bench.oracle, size, PROMPT, outputs)
    assert any(token >= VOCAB for token in tokens) == bench.oracle.config.tie_word_embeddings


def test_with_terms_of_the_method_answers_are_those_of_the_training_side(bench: Bench) -> None:
    path = bench.adapter("both", MIXED_SITES[0])
    outputs = bench.answer(generate("r", path))["r"]
    with torch.inference_mode():
        adapted = load_adapter(bench.oracle, path)
        assert isinstance(adapted, LanguageModel)
        size = VOCAB + (len(WORDS) if bench.oracle.config.tie_word_embeddings else 0)
        check_against(bench.oracle, size, PROMPT, outputs)


def test_in_a_mixed_batch_each_answers_as_alone_and_only_its_own_adapter_says_an_added_token(bench: Bench) -> None:
    loud, other = bench.adapter("loud", Sites()), bench.adapter("other", Sites(), WORDS[:1], seed=5)
    plain = bench.adapter("plain", MIXED_SITES[1], ())
    text = [token for token in PROMPT if token < VOCAB]
    requests = [
        generate("loud", loud),
        generate("base", None, text),
        generate("plain", plain, text),
        generate("other", other, [min(VOCAB, token) for token in PROMPT]),
        generate("loud without", loud, text),
        *(generate(f"hot {n}", None, text, temperature=2.0, seed=n, logprobs=None) for n in range(6)),
    ]
    together = bench.answer(*requests)
    for request in requests:
        alone, crowd = said(bench.answer(request)[request.request_id]), said(together[request.request_id])
        assert alone[0] == crowd[0], request.request_id
        for one, two in zip([*alone[1], *alone[2]], [*crowd[1], *crowd[2]], strict=True):
            assert one.logprob == pytest.approx(two.logprob, abs=1e-4)
        limit = {"loud": VOCAB + 3, "loud without": VOCAB + 3, "other": VOCAB + 1}.get(request.request_id, VOCAB)
        shown = [*crowd[0], *(token for score in crowd[1] for token, _ in score.top)]
        assert max(shown) < (limit if bench.oracle.config.tie_word_embeddings else VOCAB)


def test_classifications_and_embeddings_read_added_tokens(bench: Bench) -> None:
    judge = bench.adapter("judge", MIXED_SITES[0], labels=3)
    params = EmbeddingParams(pooling="mean", normalize=False)
    ref = adapter_ref(judge)
    outputs = bench.answer(
        Classify(request_id="classify", tenant="t", prompt=PROMPT, adapter=ref),
        Embed(request_id="embed", tenant="t", prompt=PROMPT, adapter=ref, params=params),
    )
    (classified,), (embedded,) = outputs["classify"], outputs["embed"]
    assert isinstance(classified, Classified)
    assert isinstance(embedded, Embedded)
    with torch.inference_mode():
        adapted = load_adapter(bench.oracle, judge)
        inputs = torch.tensor([PROMPT])
        logits = adapted(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[0]
        states = bench.oracle.model(input_ids=inputs).last_hidden_state[0]
    assert classified.probs == pytest.approx(logits.softmax(-1).tolist(), abs=1e-4)
    assert embedded.vector == pytest.approx(states.mean(0).tolist(), abs=1e-4)


def test_an_id_that_is_not_the_rows_own_fails_that_row_alone(bench: Bench) -> None:
    other, plain = bench.adapter("other", Sites(), WORDS[:1]), bench.adapter("plain", MIXED_SITES[1], ())
    outputs = bench.answer(
        generate("base", None, [5, VOCAB]),
        generate("plain", plain, [5, VOCAB]),
        generate("beyond", other, [5, VOCAB + 1]),
        generate("good", other, [5, VOCAB]),
    )
    for name in ("base", "plain", "beyond"):
        (failed,) = outputs[name]
        assert isinstance(failed, Failed)
        assert "token id" in failed.message
    assert len(said(outputs["good"])[0]) == 12


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reads_and_says_them_as_on_the_training_side(tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    family = FAMILIES[name]
    oracle = family.make(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    engine = build_engine(base, Settings(base="tiny", max_batch_tokens=48, kv_cache_mib=1))
    judge, writer = tmp_path / "judge.safetensors", tmp_path / "writer.safetensors"
    head = classifier_config("a", "b", pooling="mean")
    random_artifact(judge, base.shape, MIXED_SITES[0], classifier=head, scale=0.3, added_tokens=WORDS)
    random_artifact(writer, base.shape, MIXED_SITES[1], scale=1.0, added_tokens=WORDS[:2])
    cases = [Case("base", PROMPT[:1], None, 8), Case("writer", [*PROMPT[:1], VOCAB + 1, 9, VOCAB], writer, 8)]
    verdict = compare(engine, oracle, [Case("judge", PROMPT, judge, 0), *(cases if family.causal else [])])
    engine.close()
    assert verdict.wrong == ()
