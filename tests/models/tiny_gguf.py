"""A GGUF of a Llama of two layers, quantised in part, and the weights that it stands for."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from transformers.convert_slow_tokenizer import bytes_to_unicode

HIDDEN, HEADS, KEYS, LAYERS, INNER = 64, 4, 2, 2, 96
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "ab", "cd"]


def write_gguf(path: Path, chat_template: str | None = CHATML) -> dict[str, np.ndarray]:
    """Returns the weights as transformers names and lays them out."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    weights: dict[str, np.ndarray] = {}

    def add(name: str, ours: str, *shape: int, heads: int = 0) -> None:
        drawn = rng.standard_normal(shape, dtype=np.float32)
        kind = Kind.Q8_0 if len(shape) == 2 else Kind.F32
        raw = gguf.quantize(drawn, kind)
        values = gguf.dequantize(raw, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
        if heads:  # llama.cpp puts the two halves of each head's rotation beside one another
            values = values.reshape(heads, -1, 2, HIDDEN).swapaxes(1, 2).reshape(shape)
        weights[f"model.{ours}.weight"] = values

    add("token_embd.weight", "embed_tokens", len(TOKENS), HIDDEN)
    add("output_norm.weight", "norm", HIDDEN)
    for layer in range(LAYERS):
        there, here = f"blk.{layer}", f"layers.{layer}"
        size = HIDDEN // HEADS
        add(f"{there}.attn_norm.weight", f"{here}.input_layernorm", HIDDEN)
        add(f"{there}.ffn_norm.weight", f"{here}.post_attention_layernorm", HIDDEN)
        add(f"{there}.attn_q.weight", f"{here}.self_attn.q_proj", HIDDEN, HIDDEN, heads=HEADS)
        add(f"{there}.attn_k.weight", f"{here}.self_attn.k_proj", KEYS * size, HIDDEN, heads=KEYS)
        add(f"{there}.attn_v.weight", f"{here}.self_attn.v_proj", KEYS * size, HIDDEN)
        add(f"{there}.attn_output.weight", f"{here}.self_attn.o_proj", HIDDEN, HIDDEN)
        add(f"{there}.ffn_gate.weight", f"{here}.mlp.gate_proj", INNER, HIDDEN)
        add(f"{there}.ffn_up.weight", f"{here}.mlp.up_proj", INNER, HIDDEN)
        add(f"{there}.ffn_down.weight", f"{here}.mlp.down_proj", HIDDEN, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights
