"""A tiny random Llama in GGUF, with a byte-level tokenizer, written as llama.cpp's tools write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize

CHAT_TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, LAYERS = 32, 4, 2, 8, 64, 2


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    pre_tokenizer: str = "smollm",
    kinds: Mapping[str, str] = MappingProxyType({}),
    more: Callable[[GGUFWriter], None] = lambda _: None,
) -> None:
    """Write the model; its vocabulary is three special tokens, the 256 bytes and one merged token.

    `kinds` maps name suffixes to the types that matrices are stored in, for example "attn_q": "Q4_1" and "": "Q8_0"
    for all others; matrices without one are float32. `more` may add fields and tensors.
    """
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_byte_characters(), "ĊĊ"]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_token_types([3, 3, 3, *[1] * 257])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    generator = np.random.default_rng(seed)
    for name, shape in _shapes(len(tokens)).items():
        values = np.ones(shape) if len(shape) == 1 else generator.normal(0, 0.2, shape)
        kind = next((kind for end, kind in kinds.items() if name.removesuffix(".weight").endswith(end)), "F32")
        number = GGMLQuantizationType[kind if len(shape) > 1 else "F32"]
        writer.add_tensor(name, quantize(values.astype(np.float32), number), raw_dtype=number)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes(vocab: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes |= {
            f"{block}.attn_norm.weight": (HIDDEN,),
            f"{block}.attn_q.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{block}.attn_k.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{block}.attn_v.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{block}.attn_output.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{block}.ffn_norm.weight": (HIDDEN,),
            f"{block}.ffn_gate.weight": (FFN, HIDDEN),
            f"{block}.ffn_up.weight": (FFN, HIDDEN),
            f"{block}.ffn_down.weight": (HIDDEN, FFN),
        }
    return shapes


def _byte_characters() -> list[str]:
    """Return GPT-2's printable characters for the 256 bytes, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + hidden.index(byte)) for byte in range(256)]
