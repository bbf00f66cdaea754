"""One tiny random Llama for all tests in this folder; a test that attaches must detach."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from harness.bases.tiny_model import make_tiny_llama


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_llama(folder)
    return folder


@pytest.fixture
def model(tiny_folder: Path) -> LlamaForCausalLM:
    loaded = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    loaded.train(mode=False)
    return loaded


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(3, 500, (2, 9), generator=torch.Generator().manual_seed(5))
