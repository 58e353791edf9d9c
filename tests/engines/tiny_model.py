"""Writes the folder of a tiny Llama model: a config and a tokenizer, no weights (engines make dummy ones)."""

import json
from pathlib import Path
from typing import Any

VOCABULARY = 4096
CONTEXT_TOKENS = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# Two layers with 2 KV heads of 32: 1,024 bytes of KV a token in float32.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": CONTEXT_TOKENS,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float32",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
}
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def write_tiny_model(folder: Path) -> Path:
    """The folder, ready for `--load-format dummy`."""
    _write_tokenizer(folder / "tokenizer.json")
    files: dict[str, dict[str, Any]] = {
        "config.json": CONFIG,
        "generation_config.json": {"eos_token_id": 2, "pad_token_id": 0},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_TOKENS,
            "bos_token": None,
            "eos_token": SPECIAL[2],
            "pad_token": SPECIAL[0],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
    return folder


def _write_tokenizer(path: Path) -> None:
    """Byte-level BPE over made-up words, so that every id below the vocabulary's size is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = (f" {a}{b}{c}" for a in "abcdefghijklmnop" for b in "aeiouy" for c in "bcdfghjklmnpqrstvwxz" for _ in range(2))
    numbers = (f" {n * 7919 % 100_003}" for n in range(20_000))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *numbers], trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    tokenizer.save(str(path))
