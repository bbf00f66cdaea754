"""Target `peft-config`: a LoRA as PEFT saves one, with any adapter_config.json and tensors of any name and shape.

An input is one JSON object: the config's text and the tensors by name, each with its dtype and shape.
"""

import atexit
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from harness.bases.model_folder import write_model_folder
from harness.fuzz.targets.json_texts import Json, json_texts, odd_values
from harness.fuzz.targets.target import Target, kind_of
from headmix_adapters.artifact import ArtifactError, verify_artifact
from headmix_adapters.base import BaseError, ResolvedBase, resolve_base
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.config import FILE
from headmix_adapters.convert.peft.heads.heads import HeadWish
from headmix_adapters.convert.peft.lora import WEIGHTS, convert_peft_lora
from headmix_adapters.convert.result import save_converted

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "F64": torch.float64}
PREFIX = "base_model.model.model.layers"


class Lora(msgspec.Struct, frozen=True):
    """`tensors` are dtype and shape by name."""

    config: str
    tensors: dict[str, tuple[str, list[int]]]


@cache
def _base() -> ResolvedBase:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return resolve_base(str(write_model_folder(Path(folder.name) / "base")))


def check(data: bytes) -> str:
    """Convert; a success must be a valid artifact, a refusal must name its reason."""
    lora = msgspec.json.decode(data, type=Lora)
    base = _base()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FILE).write_text(lora.config, encoding="utf-8", errors="surrogatepass")
        save_file(_tensors(lora.tensors), folder / WEIGHTS)
        out = folder / "out.safetensors"
        try:
            save_converted(convert_peft_lora(folder, base, HeadWish()), out)
        except (ConvertError, BaseError) as error:
            return _refusal(str(error))
        except ArtifactError as error:
            return _refusal(str(error.faults[0]))
        verified = verify_artifact(out, base=base.shape)
        assert verified.layers, "an adapter without effect"
    return f"converted {verified.config.method} {sorted(verified.config.sites.present())}"


def _refusal(words: str) -> str:
    assert len(words) < 4000, "a refusal is a sentence"
    return f"refused: {kind_of(words)}"


def _tensors(given: Mapping[str, tuple[str, list[int]]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(-3, 4, shape, generator=generator).to(DTYPES[dtype])
        for name, (dtype, shape) in given.items()
    }


FIELDS = (
    *("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_bias"),
    *("init_lora_weights", "target_modules", "modules_to_save", "bias", "use_dora", "layer_replication"),
    *("fan_in_fan_out", "exclude_modules", "trainable_token_indices", "target_parameters", "megatron_config"),
    *("layers_to_transform", "peft_version", "eva_config", "corda_config", "alora_invocation_tokens", "lora_dropout"),
)
WORDS = (
    *("LORA", "LOHA", "CAUSAL_LM", "SEQ_CLS", "q_proj", "v_proj", "self_attn.q_proj", "score", "none", "all", "pissa"),
    *(
        "gaussian",
        "model.layers.0.self_attn.q_proj",
        r"([a-z_0-9.]+)+!",
        r"(?=a)b",
        "^q_proj$",
        r".*\.0\..*",
        "[",
        "a{1000}",
    ),
)
PLAIN: dict[str, Json] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
}


def _changed(changes: dict[str, Json], dropped: set[str]) -> Json:
    return {name: value for name, value in {**PLAIN, **changes}.items() if name not in dropped}


_PATTERNS = st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=12), odd_values(WORDS), max_size=3)
_VALUES = odd_values(WORDS) | _PATTERNS | st.integers(1, 4)
_CONFIGS = json_texts(
    st.builds(
        _changed,
        st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), _VALUES, max_size=3),
        st.sets(st.sampled_from(sorted(PLAIN)), max_size=1),
    )
    | odd_values(WORDS)
)


@st.composite
def _loras(draw: st.DrawFn) -> bytes:
    hidden, out = 32, 32
    tensors: dict[str, tuple[str, list[int]]] = {}
    for _ in range(draw(st.integers(0, 3))):
        layer, rank = draw(st.integers(0, 2)), draw(st.sampled_from([2, 2, 2, 1, 3, 0]))
        module = draw(
            st.sampled_from(["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj", "mlp", "é"])
        )
        dtype = draw(st.sampled_from([*DTYPES, "F32", "F32"]))
        width = draw(st.sampled_from([hidden, hidden, hidden, 16, 1]))
        height = draw(st.sampled_from([out, out, 16, 64, 31]))
        tensors[f"{PREFIX}.{layer}.{module}.lora_A.weight"] = (dtype, [rank, width])
        if draw(st.booleans()) or draw(st.booleans()):
            tensors[f"{PREFIX}.{layer}.{module}.lora_B.weight"] = (dtype, [height, rank])
    odd = st.sampled_from(
        [
            *("lora_A.weight", "base_model.model.score.weight", f"{PREFIX}.0.self_attn.q_proj.lora_B.bias", "x" * 2000),
            *(f"{PREFIX}.0.self_attn.q_proj.lora_magnitude_vector", f"{PREFIX}.{10**20}.mlp.lora_A.weight"),
        ]
    )
    shapes = st.lists(st.integers(0, 4), max_size=3)
    tensors |= draw(st.dictionaries(odd, st.tuples(st.sampled_from([*DTYPES]), shapes), max_size=1))
    config = draw(_CONFIGS).decode("utf-8", errors="replace")
    return json.dumps({"config": config, "tensors": tensors}).encode()


TARGET = Target(_loras(), check)
