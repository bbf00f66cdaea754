"""`headmix serve` scores pairs as transformers does, token types included, and as /v1/classify scores their tokens."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, PreTrainedModel

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.bases.families import FAMILIES
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base
from headmix_adapters.inject import ClassifierModel, load_adapter
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.reference import pool

pytestmark = pytest.mark.slow

QUERY = "Every head has its own kernel"
DOCUMENTS = ["The quick brown fox", "its own regression", "nothing stops the river, a stop there"]
HEAD = classifier_config("relevance", problem="regression", pooling="mean", kind="mlp-tanh")


def post(server: RunningServer, route: str, **body: Any) -> dict[str, Any]:
    answer = httpx2.post(f"{server.base_url}{route}", headers=server.headers, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


@torch.inference_mode()
def scores_by_transformers(model: PreTrainedModel, folder: Path, adapter: Path) -> list[float]:
    """Encode each pair as transformers does and run it through the adapter on the transformers model."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    adapted = load_adapter(model, adapter)
    assert isinstance(adapted, ClassifierModel)
    assert adapted.head is not None
    scores = []
    for document in DOCUMENTS:
        typed = model.config.model_type == "bert"  # the other models of this test have no second type
        inputs = tokenizer(QUERY, document, return_tensors="pt", return_token_type_ids=typed)
        states = backbone_of(model)(**inputs).last_hidden_state
        scores.append(float(adapted.head(states, inputs["attention_mask"], inputs["input_ids"])[0, 0]))
    adapted.adapter.detach()
    return scores


@torch.inference_mode()
def cosines_by_transformers(model: PreTrainedModel, folder: Path) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in (QUERY, *DOCUMENTS):
        states = backbone_of(model)(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state[0]
        vectors.append(pool(states, "last" if model.config.model_type == "llama" else "mean"))
    return [float(cosine_similarity(vectors[0], vector, dim=0)) for vector in vectors[1:]]


@pytest.mark.parametrize(("family", "joint"), [("bert", "[SEP]"), ("roberta", "</s></s>"), ("llama", "")])
def test_pairs_are_scored_as_by_transformers(tmp_path: Path, family: str, joint: str) -> None:
    torch.set_num_threads(1)
    model = FAMILIES[family].make(tmp_path / family)
    base, adapter = resolve_base(str(tmp_path / family)), tmp_path / "judge.safetensors"
    random_artifact(adapter, base.shape, seed=4, scale=0.3, classifier=HEAD)
    body = {"query": QUERY, "documents": DOCUMENTS}
    with running_server(tmp_path, base=base.folder, runner="torch", threads=1, kv_cache_mib=8) as server:
        file = {"file": ("judge.safetensors", adapter.read_bytes())}
        sent = httpx2.post(
            f"{server.base_url}/v1/adapters", headers=server.headers, data={"name": "judge"}, files=file, timeout=60
        )
        assert sent.status_code == 201, sent.text
        ranked = post(server, "/v1/rerank", model="judge", **body)
        scored = post(server, "/v1/score", model="judge", text_1=QUERY, text_2=DOCUMENTS)
        similar = post(server, "/v1/rerank", model=base.name, **body)
        joined = [f"{QUERY}{joint}{document}" for document in DOCUMENTS]
        tokens = [post(server, "/tokenize", model="judge", prompt=text)["count"] for text in joined]
        classified = post(server, "/v1/classify", model="judge", input=joined)
    expected = scores_by_transformers(model, base.folder, adapter)
    assert [item["score"] for item in scored["data"]] == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-2
    by_place = {item["index"]: item["relevance_score"] for item in ranked["results"]}
    assert [by_place[place] for place in range(3)] == pytest.approx(expected, abs=1e-4)
    assert list(by_place.values()) == sorted(by_place.values(), reverse=True)
    assert {ranked["method"], scored["method"], similar["method"]} == {"cross-encoder", "cosine"}
    cosines = {item["index"]: item["relevance_score"] for item in similar["results"]}
    assert [cosines[place] for place in range(3)] == pytest.approx(
        cosines_by_transformers(model, base.folder), abs=1e-4
    )
    # The same tokens as one text have the same score, except on a base whose tokens have types.
    if family != "llama":  # where the ends of two texts may merge into one token
        assert scored["usage"]["prompt_tokens"] == sum(tokens)
        single = [item["probs"][0] for item in classified["data"]]
        assert ([item["score"] for item in scored["data"]] == single) == (family == "roberta")
