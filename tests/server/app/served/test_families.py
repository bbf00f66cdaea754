"""`headmix serve` with the real runner on several kinds of bases: over HTTP they answer like transformers."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.bases.families import FAMILIES
from harness.bases.gguf_files import write_tiny_gguf
from harness.exactness import Case, answer_by_transformers
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base
from headmix_adapters.base.embedded import EMBEDDED
from headmix_server.kernels.native.build import default_cache_dir
from headmix_server.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

TEXT = "Every head has its own kernel"
LABELS = classifier_config("yes", "no", "maybe", pooling="mean", kind="mlp-tanh")


def post(server: RunningServer, route: str, body: dict[str, object]) -> httpx2.Response:
    return httpx2.post(f"{server.base_url}/v1/{route}", headers=server.headers, json=body, timeout=60)


def upload(server: RunningServer, path: Path) -> None:
    with path.open("rb") as file:
        form = {"data": {"name": path.stem}, "files": {"file": (path.name, file)}}
        answer = httpx2.post(f"{server.base_url}/v1/adapters", headers=server.headers, timeout=60, **form)  # type: ignore[arg-type]
    assert answer.status_code == 201, answer.text


def make_gpt2(folder: Path) -> Path:
    FAMILIES["gpt2"].make(folder / "gpt2")
    return folder / "gpt2"


def make_gguf(folder: Path) -> Path:
    write_tiny_gguf(folder / "tiny.gguf")
    return folder / "tiny.gguf"


@pytest.mark.parametrize("make", [make_gpt2, make_gguf], ids=["gpt2", "gguf"])
def test_a_decoder_continues_texts_with_an_uploaded_adapter_as_transformers_does(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    base = resolve_base(str(path), cache_dir=tmp_path / "bases")
    default_cache_dir().mkdir(parents=True, exist_ok=True)
    (tmp_path / "native").symlink_to(default_cache_dir())  # the converted base is this test's own, the kernels are not
    cache = {"HEADMIX_CACHE": str(tmp_path)}
    with running_server(tmp_path, base=path, runner="torch", threads=1, kv_cache_mib=8, env=cache) as server:
        adapter = tmp_path / "poet.safetensors"
        random_artifact(adapter, base.shape, seed=3, scale=0.3)
        upload(server, adapter)
        tokenizer = load_tokenizer(base.folder)
        prompt = tokenizer.encode(TEXT)
        body = {"prompt": prompt, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
        for name, file in ((base.name, None), ("poet", adapter)):
            answer = post(server, "completions", {"model": name, **body})
            assert answer.status_code == 200, answer.text
            expected = answer_by_transformers(model, Case(name, prompt, file, 6)).tokens
            assert answer.json()["choices"][0]["text"] == tokenizer.decode(expected)


def make_roberta(folder: Path) -> str:
    FAMILIES["roberta"].make(folder / "roberta")
    return str(folder / "roberta")


ENCODERS: list[Callable[[Path], str]] = [make_roberta]
if find_spec(EMBEDDED["minilm-l6"].package):
    ENCODERS.append(lambda _: "minilm-l6")


@pytest.mark.parametrize("make", ENCODERS, ids=["roberta", "minilm-l6"][: len(ENCODERS)])
def test_an_encoder_classifies_and_embeds_as_transformers_does_and_refuses_to_generate(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    base = resolve_base(make(tmp_path))
    folder = Path(base.name) if base.name in EMBEDDED else base.folder
    with running_server(tmp_path, base=folder, runner="torch", threads=1) as server:
        adapter = tmp_path / "judge.safetensors"
        random_artifact(adapter, base.shape, seed=4, scale=0.1, classifier=LABELS)
        upload(server, adapter)
        prompt = load_tokenizer(base.folder).encode(TEXT)
        model: PreTrainedModel = AutoModel.from_pretrained(base.folder, dtype=torch.float32)
        classified = post(server, "classify", {"model": "judge", "input": TEXT})
        assert classified.status_code == 200, classified.text
        expected = answer_by_transformers(model, Case("judge", prompt, adapter, 0)).probs
        assert classified.json()["data"][0]["probs"] == pytest.approx(expected, abs=1e-4)
        embedded = post(server, "embeddings", {"model": base.name, "input": TEXT})
        assert embedded.status_code == 200, embedded.text
        vector = answer_by_transformers(model, Case("base", prompt, None, 0)).vector
        assert embedded.json()["data"][0]["embedding"] == pytest.approx(vector, abs=1e-4)
        refused = post(server, "completions", {"model": base.name, "prompt": TEXT})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "task_mismatch")
