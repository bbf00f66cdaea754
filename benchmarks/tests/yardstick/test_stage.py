"""The contenders' inputs: no contender gets the same prompt twice, so no cache from an earlier turn helps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.yardstick.sizes import QUICK
from benchmarks.yardstick.stage import Stage
from benchmarks.yardstick.tiny import write_tiny_bases


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(*write_tiny_bases(tmp_path / "bases"), tmp_path, QUICK)
    yield stage
    stage.release()


def test_prompts_differ_between_contenders_rounds_and_requests_and_repeat_when_asked_again(stage: Stage) -> None:
    turns = [(who, number) for who in ("headmix", "transformers") for number in range(3)]
    prompts = [tuple(prompt) for turn in turns for prompt in stage.prompts(*turn, count=8, length=12)]
    assert len(set(prompts)) == len(prompts) == 48
    assert {len(prompt) for prompt in prompts} == {12}
    assert stage.prompts("headmix", 1) == stage.prompts("headmix", 1)


def test_others_get_the_checkpoint_without_what_headmix_keeps_beside_it(stage: Stage) -> None:
    base = stage.generator.folder
    (base / "stored_tensors.safetensors").write_bytes(b"not weights")
    names = {path.name for path in base.iterdir()} - {"stored_tensors.safetensors"}
    assert {path.name for path in stage.checkpoint.iterdir()} == names
    assert (stage.checkpoint / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_an_engine_is_made_once_for_each_choice_of_settings_until_it_is_released(stage: Stage) -> None:
    engine, narrow = stage.engine(), stage.engine(adapter_slots=3)
    assert stage.engine() is engine
    assert (narrow.limits.adapter_slots, engine is narrow) == (3, False)
    stage.release()
    assert stage.engine() is not engine
