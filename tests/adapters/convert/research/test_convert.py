"""Checkpoints in the layout of the authors' code give the reference's answers once converted to an artifact."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.peft_lora import load_model
from headmix_adapters.artifact import ArtifactError
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig, ClassifierConfig, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.heads.heads import HeadWish
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import ConvertOptions, convert_source
from headmix_adapters.inject import attach, load_adapter
from headmix_adapters.presets import Ranks, kernel_mix_sites
from tests.adapters.convert.conftest import MakeBase

State = dict[str, Tensor]
GPT2_OWNER = "transformer.h.{}.attn.adapter_controller_l.adapters.{}"
ROBERTA_OWNERS = tuple(
    f"roberta.encoder.layer.{{}}.attention.{owner}"
    for owner in ("ef_kernel_lora", "self.ef_attn_adapter", "output.ef_attn_adapter")
)


def research_names(tensors: State, *owners: str) -> State:
    """An artifact's layer tensors with the authors' names and layouts, under each of the owners; {} is the layer."""
    state: State = {}
    for name, tensor in tensors.items():
        kind, layer, *rest = name.split(".")
        if kind != "layers":
            continue
        site, part, which = rest
        if which == "bias" and site != "o":
            tensor = tensor.unsqueeze(1)  # (H, 1, P)
        if (site, part, which) == ("o", "head", "B"):
            tensor = torch.cat(list(tensor), dim=1)  # (D, H * r), a head's columns side by side
        module = f"W{site.upper()}_{'share_' if part == 'shared' else ''}LoRA"
        leaf = {"A": "lora_A", "B": "lora_B", "bias": "b"}[which]
        state |= {f"{owner.format(layer)}.{module}.{leaf}": tensor.clone() for owner in owners}
    return state


def gpt2_state(base: ResolvedBase, tensors: State, task: str = "e2e", rows: Tensor | None = None) -> State:
    """A full GPT-2 checkpoint as the authors save it: frozen weights, causal masks, unused norms, and the adapter."""
    model = load_model(base, "CAUSAL_LM")
    state = dict(model.state_dict())
    if rows is not None:
        state["transformer.wte.weight"] = torch.cat([state["transformer.wte.weight"], rows])
        state["lm_head.weight"] = state["transformer.wte.weight"]
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    state["transformer.h.0.attn.adapter_controller_l.post_layer_norm.weight"] = torch.ones(32)
    return state | research_names(tensors, GPT2_OWNER.format("{}", task))


def roberta_state(base: ResolvedBase, tensors: State) -> State:
    model = load_model(base, None)
    state = {f"roberta.{name}": tensor for name, tensor in model.state_dict().items()}
    head = {name: tensor for name, tensor in tensors.items() if name.startswith("classifier.")}
    return state | head | research_names(tensors, *ROBERTA_OWNERS)


def save(folder: Path, state: State) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(state, path)
    return path


def gpt2_adapter(base: ResolvedBase, sites: Sites | None = None, **changes: object) -> tuple[AdapterConfig, State]:
    config = adapter_config(base.shape, sites or kernel_mix_sites(Ranks(3, 2, 4, 2)), **changes)
    return config, random_tensors(config, scale=0.3)


def logits_of(path: Path, base: ResolvedBase, ids: Tensor) -> Tensor:
    model = load_model(base, "CAUSAL_LM")
    load_adapter(model, path)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


@pytest.mark.parametrize(
    "sites",
    [
        kernel_mix_sites(Ranks(3, 2, 4, 2)),
        kernel_mix_sites(Ranks(3, 2, 0, 0, output=False)),
        kernel_mix_sites(Ranks(1, 2, 2, 1), value_base="x"),
    ],
    ids=["full", "lite-qv", "value on x"],
)
def test_a_gpt2_checkpoint_becomes_the_adapter_it_holds(
    sites: Sites, make_base: MakeBase, tmp_path: Path, ids: Tensor
) -> None:
    base = make_base("gpt2")
    config, tensors = gpt2_adapter(base, sites)
    converted = convert_source(save(tmp_path, gpt2_state(base, tensors)), base)
    assert converted.config.sites == sites
    assert converted.tensors.keys() == tensors.keys()
    assert all(torch.equal(converted.tensors[name], tensor) for name, tensor in tensors.items())
    save_converted(converted, tmp_path / "a.safetensors")
    model = load_model(base, "CAUSAL_LM")
    attach(model, config).load(tensors)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    torch.testing.assert_close(logits_of(tmp_path / "a.safetensors", base, ids), expected)


def test_a_roberta_checkpoint_keeps_its_classification_head(make_base: MakeBase, tmp_path: Path, ids: Tensor) -> None:
    base = make_base("roberta")
    head = ClassifierConfig(pooling="cls", kind="mlp-tanh", labels=("entailment", "neutral", "contradiction"))
    config = adapter_config(base.shape, kernel_mix_sites(Ranks(1, 2, 2, 4)), task="classification", classifier=head)
    tensors = random_tensors(config, scale=0.3)
    options = ConvertOptions(head=HeadWish(labels=head.labels))
    converted = convert_source(save(tmp_path, roberta_state(base, tensors)), base, options)
    assert (converted.config.sites, converted.config.classifier) == (config.sites, head)
    assert converted.tensors.keys() == tensors.keys()
    assert all(torch.equal(converted.tensors[name], tensor) for name, tensor in tensors.items())
    save_converted(converted, tmp_path / "a.safetensors")
    load_adapter(load_model(base, None), tmp_path / "a.safetensors")


@pytest.mark.parametrize(("alpha", "scale"), [(8, 2.0), (1.5, 1.0), (0, 1.0)])
def test_shared_parts_are_scaled_as_the_config_beside_the_checkpoint_says(
    alpha: float, scale: float, make_base: MakeBase, tmp_path: Path
) -> None:
    base = make_base("gpt2")
    _, tensors = gpt2_adapter(base, kernel_mix_sites(Ranks(3, 2, 4, 4)))
    (tmp_path / "config.json").write_text(json.dumps({"lora_alpha": alpha}))
    converted = convert_source(save(tmp_path, gpt2_state(base, tensors)), base)
    assert converted.config.sites.q == SiteConfig(
        head=HeadPart(rank=3, base="x"), shared=SharedPart(rank=4, scale=scale)
    )


def test_one_of_several_tasks_is_taken_by_name(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("gpt2")
    _, first = gpt2_adapter(base)
    second = {name: tensor + 1 for name, tensor in first.items()}
    state = gpt2_state(base, first, "e2e") | gpt2_state(base, second, "webnlg")
    path = save(tmp_path, state)
    with pytest.raises(ConvertError, match=r"task: the checkpoint has several; choose one: e2e, webnlg"):
        convert_source(path, base)
    with pytest.raises(ConvertError, match=r"task: dart is not in the checkpoint, which has: e2e, webnlg"):
        convert_source(path, base, ConvertOptions(task="dart"))
    taken = convert_source(path, base, ConvertOptions(task="webnlg"))
    assert torch.equal(taken.tensors["layers.0.q.head.A"], second["layers.0.q.head.A"])


def test_rows_beyond_the_vocabulary_become_added_tokens(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("gpt2")
    _, tensors = gpt2_adapter(base)
    rows = torch.randn(2, 32)
    path = save(tmp_path, gpt2_state(base, tensors, rows=rows))
    with pytest.raises(ConvertError, match=r"transformer.wte.weight: 2 rows .* 0 added tokens are named"):
        convert_source(path, base)
    named = convert_source(path, base, ConvertOptions(added_tokens=("<subject>", "<object>")))
    assert named.config.added_tokens == ("<subject>", "<object>")
    assert torch.equal(named.tensors["added_tokens.embedding"], rows)
    save_converted(named, tmp_path / "a.safetensors")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<object>": 513, "<subject>": 512, "<old>": 3}))
    assert convert_source(path, base).config.added_tokens == ("<subject>", "<object>")


def test_tokens_named_for_a_vocabulary_that_was_not_resized_are_refused(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("gpt2")
    _, tensors = gpt2_adapter(base)
    with pytest.raises(ConvertError, match="added_tokens: names are given, but the vocabulary is the base's"):
        convert_source(save(tmp_path, gpt2_state(base, tensors)), base, ConvertOptions(added_tokens=("<a>",)))


Q = "transformer.h.1.attn.adapter_controller_l.adapters.e2e"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (f"{Q}.WQ_LoRA.lora_A", torch.ones(4, 3, 31), "layers.1.q.head.A: its shape is [4, 3, 31]"),
        (f"{Q}.WQ_LoRA.b", None, "layers.1.q.head.bias: missing"),
        (f"{Q}.WO_LoRA.lora_B", torch.ones(32, 9), "WO_LoRA.lora_B: its shape is [32, 9], not [32, 4 heads * rank]"),
        (f"{Q}.WQ_share_LoRA.b", torch.ones(32), "WQ_share_LoRA.b: a shared part has no bias"),
        ("transformer.ln_f.weight", torch.ones(32), "transformer.ln_f.weight: its values are not the base's"),
        ("transformer.wpe.weight", torch.ones(5, 32), "transformer.wpe.weight: its shape is [5, 32]"),
        ("transformer.prefix.weight", torch.ones(3), "transformer.prefix.weight: neither"),
        ("lm_head.weight", torch.ones(512, 32), "lm_head.weight: it differs from the input embedding"),
    ],
)
def test_a_checkpoint_that_is_not_understood_in_full_is_refused_by_tensor(
    name: str, tensor: Tensor | None, message: str, make_base: MakeBase, tmp_path: Path
) -> None:
    base = make_base("gpt2")
    _, tensors = gpt2_adapter(base)
    state = gpt2_state(base, tensors)
    state.pop(name, None)
    path = save(tmp_path, state if tensor is None else state | {name: tensor})
    with pytest.raises((ConvertError, ArtifactError)) as caught:
        save_converted(convert_source(path, base), tmp_path / "a.safetensors")
    assert message in str(caught.value)
    assert not (tmp_path / "a.safetensors").exists()


def test_another_frozen_model_may_be_accepted_on_purpose(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("gpt2")
    _, tensors = gpt2_adapter(base)
    path = save(tmp_path, gpt2_state(base, tensors) | {"transformer.ln_f.weight": torch.ones(32)})
    assert convert_source(path, base, ConvertOptions(allow_base_mismatch=True)).tensors


def test_the_names_roberta_repeats_a_module_under_must_agree(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("roberta")
    config = adapter_config(base.shape, kernel_mix_sites(Ranks(1, 2, 2, 4)))
    state = roberta_state(base, random_tensors(config))
    name = "roberta.encoder.layer.2.attention.output.ef_attn_adapter.WV_LoRA.lora_A"
    state[name] = state[name] + 1
    with pytest.raises(
        ConvertError, match=r"it differs from .*ef_kernel_lora.*, which should be the same tensor"
    ) as caught:
        convert_source(save(tmp_path, state), base)
    assert caught.value.subject == name


def test_code_in_a_checkpoint_never_runs(make_base: MakeBase, tmp_path: Path) -> None:
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "ran"
    torch.save({"weight": _Writes(trace)}, path)
    with pytest.raises(ConvertError, match=r"pytorch_model.bin: cannot be read as a file of tensors alone"):
        convert_source(path, make_base("gpt2"))
    assert not trace.exists()


class _Writes:
    """When pickled, an instruction to create a file on reading."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_file_without_an_adapter_is_refused_as_such(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("gpt2")
    path = save(tmp_path, {"transformer.ln_f.weight": torch.ones(32)})
    with pytest.raises(ConvertError, match="holds no tensors of an adapter of the authors' code"):
        convert_source(path, base)
