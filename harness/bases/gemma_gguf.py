"""A tiny random Gemma 3 in GGUF, with a SentencePiece vocabulary, written as llama.cpp's tools write them."""

import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}"
    "<end_of_turn>\n{% endfor %}"
)
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, LAYERS, WINDOW = 64, 2, 1, 256, 256, 7, 8
"""Heads of 256, as conversion requires; seven layers, so that the sixth attends to everything."""

_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_CONTROL, _UNKNOWN, _NORMAL, _USER, _BYTE = 3, 2, 1, 4, 6


def write_tiny_gemma_gguf(
    path: Path,
    *,
    seed: int = 0,
    head_dim: int = HEAD_DIM,
    window: int | None = WINDOW,
    more: Callable[[GGUFWriter], None] = lambda _: None,
) -> None:
    """Write the model, its matrices in Q8_0; `more` may add fields and tensors."""
    pieces = ["\n\n", "  ", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = ["▁", *string.ascii_letters, *string.digits, *".,!?\n", "th", "▁th", "he", "▁the"]
    tokens = [*_SPECIAL, *pieces, *words]
    writer = GGUFWriter(path, "gemma3")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    if window is not None:
        writer.add_sliding_window(window)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    kinds = [*[_CONTROL] * 3, _UNKNOWN, *[_CONTROL] * 2, *[_USER] * 2, *[_BYTE] * 256, *[_NORMAL] * len(words)]
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    generator = np.random.default_rng(seed)
    for name, shape in _shapes(len(tokens), head_dim).items():
        values = 1 + generator.normal(0, 0.1, shape) if len(shape) == 1 else generator.normal(0, 0.1, shape)
        number = GGMLQuantizationType["F32" if len(shape) == 1 else "Q8_0"]
        writer.add_tensor(name, quantize(values.astype(np.float32), number), raw_dtype=number)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes(vocab: int, head_dim: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        shapes |= {f"{block}.{name}.weight": (HIDDEN,) for name in norms}
        shapes |= {f"{block}.{name}.weight": (head_dim,) for name in ("attn_q_norm", "attn_k_norm")}
        shapes |= {
            f"{block}.attn_q.weight": (HEADS * head_dim, HIDDEN),
            f"{block}.attn_k.weight": (KV_HEADS * head_dim, HIDDEN),
            f"{block}.attn_v.weight": (KV_HEADS * head_dim, HIDDEN),
            f"{block}.attn_output.weight": (HIDDEN, HEADS * head_dim),
            f"{block}.ffn_gate.weight": (FFN, HIDDEN),
            f"{block}.ffn_up.weight": (FFN, HIDDEN),
            f"{block}.ffn_down.weight": (HIDDEN, FFN),
        }
    return shapes
