"""The tiny model's folder: whole, repeatable, and every id a token."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from replicas.launch.tiny_model import write_tiny_model


@pytest.mark.parametrize(("shape", "architecture"), [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM")])
def test_its_config_names_the_shape_and_its_tokenizer_has_every_id(shape: str, architecture: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m", shape, vocabulary=4096)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["model_type"], config["vocab_size"]) == ([architecture], shape, 4096)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 4096
    assert all(tokenizer.id_to_token(i) for i in range(4096))
    text = "déjà vu, 12345\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    one, two = (write_tiny_model(tmp_path / name, vocabulary=600) for name in "ab")
    assert [p.read_bytes() for p in sorted(one.iterdir())] == [p.read_bytes() for p in sorted(two.iterdir())]


def test_a_folder_that_holds_it_is_kept_and_another_one_is_never_overwritten(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m", vocabulary=300)
    inode = (folder / "tokenizer.json").stat().st_ino
    assert write_tiny_model(folder, vocabulary=300).joinpath("tokenizer.json").stat().st_ino == inode
    with pytest.raises(ValueError, match="holds something other"):
        write_tiny_model(folder, vocabulary=301)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"], "nothing is left aside"


@pytest.mark.parametrize(
    ("shape", "sizes", "told"),
    [
        ("gpt2", {}, "shape is 'gpt2'; allowed: llama, qwen2"),
        ("llama", {"vocabulary": 100}, "vocabulary is 100; allowed: 259 or more"),
        ("llama", {"heads": 4, "kv_heads": 3}, "heads a multiple of kv_heads"),
    ],
)
def test_a_bad_shape_is_told_in_one_line_and_nothing_is_written(
    shape: str, sizes: dict[str, int], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        write_tiny_model(tmp_path / "m", shape, **sizes)
    assert not (tmp_path / "m").exists()
