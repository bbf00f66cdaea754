"""A GGUF file that conversion would change is refused with the reason; supported files convert."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter, RopeScalingType

from harness.bases.gemma_gguf import write_tiny_gemma_gguf
from harness.bases.gguf_files import HEAD_DIM, write_tiny_gguf
from headmix_adapters.base.gguf.limits import refuse_lossy


def test_a_plain_llama_is_converted(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", more=lambda writer: writer.add_key_length(HEAD_DIM))
    refuse_lossy(GGUFReader(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (lambda writer: writer.add_rope_scaling_type(RopeScalingType.YARN), "rotary frequencies are scaled"),
        (
            lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(4, np.float32)),
            "rotary frequencies are scaled",
        ),
        (lambda writer: writer.add_expert_count(8), "mixture of experts"),
        (lambda writer: writer.add_key_length(2 * HEAD_DIM), "8 of 16 dimensions of a head are rotated"),
    ],
    ids=["scaling", "frequencies", "experts", "partial rotation"],
)
def test_what_the_conversion_would_lose_is_refused(
    tmp_path: Path, more: Callable[[GGUFWriter], None], reason: str
) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", more=more)
    with pytest.raises(ValueError, match=reason):
        refuse_lossy(GGUFReader(tmp_path / "tiny.gguf"))


def test_a_usual_gemma_3_is_converted(tmp_path: Path) -> None:
    write_tiny_gemma_gguf(tmp_path / "tiny.gguf")
    refuse_lossy(GGUFReader(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"head_dim": 128}, r"its gemma3\.attention\.key_length is 128, the conversion assumes 256"),
        ({"window": None}, r"it lacks gemma3\.attention\.sliding_window"),
        ({"more": lambda writer: writer.add_uint32("gemma3.attention.sliding_window_pattern", 4)}, "pattern is 4"),
        ({"more": lambda writer: writer.add_float32("gemma3.rope.freq_base_swa", 5e4)}, "freq_base_swa is 50000"),
        ({"more": lambda writer: writer.add_final_logit_softcapping(30.0)}, r"final_logit_softcapping is 30\.0"),
        ({"more": lambda writer: writer.add_attn_logit_softcapping(50.0)}, r"attn_logit_softcapping is 50\.0"),
        ({"more": lambda writer: writer.add_rope_scaling_type(RopeScalingType.LINEAR)}, "frequencies are scaled"),
    ],
    ids=["27B", "no window", "pattern", "local frequencies", "softcapping", "attention softcapping", "scaling"],
)
def test_a_gemma_3_of_other_numbers_than_transformers_assumes_is_refused(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    write_tiny_gemma_gguf(tmp_path / "tiny.gguf", **more)
    with pytest.raises(ValueError, match=reason):
        refuse_lossy(GGUFReader(tmp_path / "tiny.gguf"))


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "other.gguf", "gptneox")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="architecture 'gptneox' are not converted"):
        refuse_lossy(GGUFReader(tmp_path / "other.gguf"))
