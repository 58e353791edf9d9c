"""Makes the folder of a tiny model for real engines: config and tokenizer, no weights. It knows no engine.

Engines fill it with dummy weights (`weights: dummy`), the same on every replica, so greedy answers are the same everywhere: good
for tests of behaviour, meaningless as text. It needs only the package `tokenizers`, no network and some seconds.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHAPES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD_ID, END_ID = 0, 2
HEAD_SIZE = 32  # the smallest that the CPU attention kernels take
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def write_tiny_model(
    folder: Path,
    shape: str = "llama",
    *,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vocabulary: int = 4096,
    context_tokens: int = 2048,
) -> Path:
    """The folder, whole or not there at all; one that exists is left as it is when it holds the same config.

    By default 1,024 bytes of KV a token in float32 (2 layers × 2 KV heads × 32 × key and value × 4 bytes). Every id below
    `vocabulary` is a token. ValueError for an unknown shape, for sizes that do not fit, or a folder with something else in it.
    """
    config = _config(shape, layers, heads, kv_heads, vocabulary, context_tokens)
    if folder.exists() and any(folder.iterdir()):
        if _holds(folder, config):
            return folder
        raise ValueError(f"{folder}: holds something other than this tiny model; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _write(aside, config)
        os.chmod(aside, 0o755)
        aside.replace(folder)
    except OSError:
        if not _holds(folder, config):  # else another process was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _config(shape: str, layers: int, heads: int, kv_heads: int, vocabulary: int, context_tokens: int) -> dict[str, Any]:
    if shape not in SHAPES:
        raise ValueError(f"shape is {shape!r}; allowed: {', '.join(SHAPES)}")
    smallest = 256 + len(SPECIAL)
    if vocabulary < smallest:
        raise ValueError(
            f"vocabulary is {vocabulary}; allowed: {smallest} or more (every byte and {len(SPECIAL)} special tokens)"
        )
    if min(layers, heads, kv_heads, context_tokens) < 1 or heads % kv_heads:
        raise ValueError(f"heads is {heads} and kv_heads {kv_heads}; allowed: sizes of 1 or more, heads a multiple of kv_heads")
    hidden = HEAD_SIZE * heads
    return {
        "architectures": [SHAPES[shape]],
        "model_type": shape,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": context_tokens,
        "rope_theta": 10000.0,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
        "torch_dtype": "float32",
        **(
            {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
            if shape == "llama"
            else {"use_sliding_window": False}
        ),
    }


def _holds(folder: Path, config: dict[str, Any]) -> bool:
    path = folder / "config.json"
    try:
        return (folder / "tokenizer.json").is_file() and json.loads(path.read_text()) == config
    except (OSError, ValueError):
        return False


def _write(folder: Path, config: dict[str, Any]) -> None:
    _write_tokenizer(folder / "tokenizer.json", config["vocab_size"])
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "bos_token": None,
        "eos_token": SPECIAL[END_ID],
        "pad_token": SPECIAL[PAD_ID],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT,
    }
    files = {"tokenizer_config.json": tokenizer, "generation_config.json": {"eos_token_id": END_ID, "pad_token_id": PAD_ID}}
    for name, content in {**files, "config.json": config}.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def _write_tokenizer(path: Path, vocabulary: int) -> None:
    """Byte-level BPE over made-up words and numbers: enough of them that every id up to the last is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(vocabulary), trainer)
    if (size := tokenizer.get_vocab_size()) != vocabulary:
        raise ValueError(f"vocabulary is {vocabulary}; the made-up text yields only {size} tokens: ask for fewer")
    tokenizer.save(str(path))


def _words(vocabulary: int) -> Iterator[str]:
    """Syllables in every combination, then numbers; each twice, for a pair seen once is never merged."""
    for first in "bcdfghjklmnprstvwz":
        for vowel in "aeiouy":
            for last in "bcdfghjklmnprstvwxz":
                yield from (f" {first}{vowel}{last}",) * 2
    for n in range(5 * vocabulary):
        yield f" {n * 7919 % 100_003}"
