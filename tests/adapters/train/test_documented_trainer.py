"""The Trainer snippet in docs/training.md runs as it is."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from harness.adapters.artifacts import adapter_config
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.inject import load_adapter
from headmix_adapters.train.data.batches import ExampleDataset, collate
from headmix_adapters.train.data.examples import Example
from tests.support.doc_blocks import to_run


def test_the_documented_lines_train_with_transformers_trainer(tiny_folder: Path, tmp_path: Path) -> None:
    (snippet,) = to_run("docs/training.md", "python")
    model = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    names = {
        "Trainer": Trainer,
        "write_artifact": write_artifact,
        "model": model,
        "config": adapter_config(tiny_shape(), MIXED_SITES[0]),
        "rows": ExampleDataset([Example([5, 6, 7, 8], [-100, -100, 7, 8])] * 8),
        "collate": collate,
        "path": tmp_path / "a.safetensors",
        "arguments": TrainingArguments(
            output_dir=str(tmp_path / "run"), num_train_epochs=4, learning_rate=0.02, report_to="none", use_cpu=True,
            disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False, save_strategy="epoch",
        ),
    }  # fmt: skip
    text = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "labels": torch.tensor([[-100, -100, 7, 8]])}
    before = float(model(**text).loss.detach())
    exec(snippet.text, names)
    assert float(model(**text).loss.detach()) == before
    adapted = load_adapter(model, tmp_path / "a.safetensors")
    assert float(adapted(**text).loss.detach()) < before
    checkpoint = next((tmp_path / "run").glob("checkpoint-*")) / "model.safetensors"
    assert checkpoint.stat().st_size < 200_000
