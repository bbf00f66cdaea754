"""What `headmix train` writes is served as trained: the engine's answers are the trained model's own."""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoModelForCausalLM

from harness.exactness import Case, compare
from headmix_adapters.base import resolve_base
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter
from headmix_server.core.settings.settings import Settings
from headmix_server.llm.session import build_engine


def test_trained_adapters_serve_in_one_batch_as_they_answer_on_the_model(
    material: Callable[..., Material], reporter: Reporter, tiny_folder: Path, tmp_path: Path
) -> None:
    cases = []
    for task in ("classification", "generation"):
        artifact = tmp_path / f"{task}.safetensors"
        loaded = material(task, epochs=1)
        train_adapter(loaded, artifact, resume=False, reporter=reporter)
        prompts = [loaded.text.tokenizer.encode(text) for text in ("the fox climb", "the fox the fox sink")]
        cases += [Case(task, prompt, artifact, 12 if task == "generation" else 0) for prompt in prompts]
    engine = build_engine(resolve_base(str(tiny_folder)), Settings(base="tiny", kv_cache_mib=1))
    verdict = compare(engine, AutoModelForCausalLM.from_pretrained(tiny_folder), cases)
    engine.close()
    assert verdict.wrong == ()
    assert verdict.identical == len(cases)
