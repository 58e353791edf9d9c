"""Prompts as text: exact token counts and surviving prefixes, for each family of tokenizer that real models use.

The tokenizers are trained here on made-up words; real ones are tried where a folder of them lies at hand
(`STAMPEDE_TOKENIZERS`, a folder with <model>/tokenizer.json).
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from workloads.draws import generator
from workloads.prompts.tokenizer_file import load_tokenizer
from workloads.prompts.vocabulary import Vocabulary
from workloads.prompts.words import FEWEST_WORDS, Words, prompt_text, segment_text
from workloads.request import Segment

ROOT = Path(__file__).parents[2]
LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel.alphabet()
SPECIALS = ["<unk>", "<s>", "</s>"]


def corpus() -> list[str]:
    """1500 lines of made-up words, a few common and many rare (Zipf)."""
    draws = generator(1, "tokenizer-corpus")
    syllables = [c + v for c in "bcdfghklmnprstvz" for v in "aeiou"]
    words = ["".join(draws.choice(syllables, n)) for n in draws.integers(1, 4, size=5000)]
    ranks = np.minimum(draws.zipf(1.15, size=(1500, 20)), len(words)) - 1
    return [" ".join(words[i] for i in line) + ", 42!" for line in ranks.tolist()]


def bpe(pre_tokenizer: pre_tokenizers.PreTokenizer, alphabet: list[str], word_end: str = "") -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=word_end) if word_end else models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2500, special_tokens=SPECIALS, initial_alphabet=alphabet, end_of_word_suffix=word_end, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def with_bos(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def gpt_2(add_prefix_space: bool = False) -> Tokenizer:
    tokenizer = bpe(pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space), BYTES)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama_3() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), behavior="isolated")
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = bpe(pre_tokenizers.Sequence([split, raw]), BYTES)
    tokenizer.decoder = decoders.ByteLevel()
    return with_bos(tokenizer)


def mistral() -> Tokenizer:
    tokenizer = bpe(pre_tokenizers.Metaspace(prepend_scheme="first"), [])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return with_bos(tokenizer)


def llama_2() -> Tokenizer:
    """Marks are put by normalizers and nothing is split: the whole text is one word of the BPE."""
    tokenizer = bpe(pre_tokenizers.Metaspace(), [])
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return with_bos(tokenizer)


def gemma() -> Tokenizer:
    tokenizer = llama_2()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    return tokenizer


def clip() -> Tokenizer:
    tokenizer = bpe(pre_tokenizers.Whitespace(), [], word_end="</w>")
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=2500, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def t5() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=2000, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return tokenizer


# family → (how it is made, the lead of its texts, tokens that it adds of its own)
FAMILIES: dict[str, tuple[Callable[[], Tokenizer], str, int]] = {
    "gpt-2": (gpt_2, " ", 0),
    "gpt-2 with prefix space": (lambda: gpt_2(add_prefix_space=True), "", 0),
    "llama-3": (llama_3, " ", 1),
    "mistral": (mistral, "", 1),
    "llama-2": (llama_2, "", 1),
    "gemma": (gemma, " ", 1),
    "clip": (clip, "", 0),
    "bert": (bert, "", 2),
    "t5": (t5, "", 1),
}
every_family = pytest.mark.parametrize("family", list(FAMILIES))
SEGMENTS = st.lists(st.builds(Segment, st.integers(0, (1 << 63) - 1), st.integers(0, 60)), max_size=6)


@cache
def tokenizer_of(family: str) -> Tokenizer:
    return FAMILIES[family][0]()


@cache
def words_of(family: str) -> Words:
    return Words.of_tokenizer(tokenizer_of(family), family)


def encoded(family: str, text: str) -> list[int]:
    return tokenizer_of(family).encode(text, add_special_tokens=False).ids


@every_family
def test_a_familys_texts_begin_as_its_tokenizer_wants(family: str) -> None:
    _, lead, specials = FAMILIES[family]
    words = words_of(family)
    assert (words.lead, words.specials) == (lead, specials)
    assert len(words.words) == len(set(words.words)) >= FEWEST_WORDS
    text = prompt_text((Segment(1, 10),), words)
    assert len(tokenizer_of(family).encode(text).ids) == 10 + specials


@every_family
@settings(max_examples=40, deadline=None)
@given(segments=SEGMENTS)
def test_a_text_has_the_wanted_tokens_and_those_of_its_prefixes_first(family: str, segments: list[Segment]) -> None:
    words = words_of(family)
    whole = encoded(family, prompt_text(segments, words))
    for n in range(len(segments) + 1):
        prefix = encoded(family, prompt_text(segments[:n], words))
        assert len(prefix) == sum(s.tokens for s in segments[:n])
        assert whole[: len(prefix)] == prefix


@every_family
def test_a_text_of_100_000_tokens_is_exact(family: str) -> None:
    text = prompt_text((Segment(1, 99_999), Segment(2, 1)), words_of(family))
    assert len(encoded(family, text)) == 100_000


@every_family
def test_a_longer_text_of_the_same_content_begins_alike(family: str) -> None:
    long, short = (segment_text(Segment(9, tokens), words_of(family)) for tokens in (500, 20))
    assert long.split()[:20] == short.split()
    assert segment_text(Segment(8, 20), words_of(family)) != short


@every_family
def test_made_up_ids_are_known_plain_and_not_special(family: str) -> None:
    tokenizer = tokenizer_of(family)
    vocabulary = Vocabulary.of_tokenizer(tokenizer, family)
    usable = vocabulary.usable.tolist()
    assert vocabulary.size == tokenizer.get_vocab_size()
    assert not set(usable) & set(tokenizer.get_added_tokens_decoder())
    assert all(tokenizer.decode([i]).isprintable() for i in usable)
    assert set(words_of(family).ids.tolist()) <= set(usable)
    assert len(usable) > 0.8 * vocabulary.size


@pytest.mark.parametrize("family", ["gpt-2", "llama-2"])
@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_another_process_makes_the_same_text(family: str, hash_seed: str, tmp_path: Path) -> None:
    tokenizer_of(family).save(str(tmp_path / "tokenizer.json"))
    code = (
        "import hashlib, sys; from pathlib import Path\n"
        "from workloads.prompts.words import Words, prompt_text\n"
        "from workloads.request import Segment\n"
        "words = Words.of_file(Path(sys.argv[1]))\n"
        "text = prompt_text((Segment(3, 5000), Segment(4, 1)), words)\n"
        "print(hashlib.sha256(text.encode()).hexdigest(), words.content_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    words = words_of(family)
    text = prompt_text((Segment(3, 5000), Segment(4, 1)), words)
    assert done.stdout.split() == [hashlib.sha256(text.encode()).hexdigest(), words.content_hash]


def test_bytes_broken_characters_and_placeholders_are_not_usable() -> None:
    tokens = ["<0x41>", "[unused7]", "<|reserved_9|>", "<unk>", "a\n", "a", "b", "▁c", "added", "▁"]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens([AddedToken("added")])
    assert Vocabulary.of_tokenizer(tokenizer, "by hand").usable.tolist() == [5, 6, 7]


def test_the_unknown_token_of_a_unigram_model_is_not_usable() -> None:
    tokenizer = Tokenizer(models.Unigram([("▁a", -1.0), ("what", 0.0), ("▁b", -1.0)], unk_id=1))
    tokenizer.decoder = decoders.Metaspace()
    assert Vocabulary.of_tokenizer(tokenizer, "by hand").usable.tolist() == [0, 2]


def test_half_of_a_character_is_not_usable() -> None:
    vocabulary = Vocabulary.of_tokenizer(tokenizer_of("gpt-2"), "gpt-2")
    halves = {tokenizer_of("gpt-2").token_to_id(c) for c in ("Ã", "©", "Ċ")}
    assert None not in halves
    assert not halves & set(vocabulary.usable.tolist())


def test_the_models_size_limits_the_ids_and_may_exceed_the_tokenizers() -> None:
    tokenizer = tokenizer_of("gpt-2")
    whole = Vocabulary.of_tokenizer(tokenizer, "gpt-2")
    smaller = Vocabulary.of_tokenizer(tokenizer, "gpt-2", vocab_size=1000)
    larger = Vocabulary.of_tokenizer(tokenizer, "gpt-2", vocab_size=50_000)
    assert smaller.usable.tolist() == [i for i in whole.usable.tolist() if i < 1000]
    assert (larger.size, larger.content_hash) == (50_000, whole.content_hash)
    assert max(Words.of_tokenizer(tokenizer, "gpt-2", vocab_size=1000).ids) < 1000
    with pytest.raises(ValueError, match="gpt-2: 0 usable token ids below 3; at least 2 needed"):
        Vocabulary.of_tokenizer(tokenizer, "gpt-2", vocab_size=3)
    with pytest.raises(ValueError, match="gpt-2: vocab_size: 0 ids; 1 … 2147483647 allowed"):
        Vocabulary.of_tokenizer(tokenizer, "gpt-2", vocab_size=0)


def test_truncation_and_padding_in_the_file_do_not_cut_a_prompt(tmp_path: Path) -> None:
    tokenizer = gpt_2()
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    words = Words.of_file(tmp_path / "tokenizer.json")
    assert words.words == words_of("gpt-2").words
    assert len(words.tokenizer.encode(prompt_text((Segment(1, 40),), words)).ids) == 40


def test_a_tokenizer_without_words_is_told_so() -> None:
    letters = Tokenizer(models.BPE({c: i for i, c in enumerate("abcdefghij")}, []))
    letters.decoder = decoders.Fuse()
    with pytest.raises(ValueError, match=r"^letters: fewer than 64 of its 10 words .* send token ids to this model instead"):
        Words.of_tokenizer(letters, "letters")


LETTER_PAIRS = [a + b for a in "abcdefghij" for b in "klmnopqrst"]


def melting_tokenizer(pairs: list[tuple[str, str]]) -> Tokenizer:
    """A BPE of the 100 words above, each one token, in which the named pairs of neighbours melt into one token."""
    melted = [(f"▁{a}", f"▁{b}") for a, b in pairs]
    vocabulary = [*"▁abcdefghijklmnopqrst", *LETTER_PAIRS, *("▁" + w for w in LETTER_PAIRS), *(a + b for a, b in melted)]
    merges = [*((w[0], w[1]) for w in LETTER_PAIRS), *(("▁", w) for w in LETTER_PAIRS), *melted]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(vocabulary)}, merges))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    return tokenizer


def test_a_word_that_melts_with_whatever_follows_is_found_and_left_out() -> None:
    words = Words.of_tokenizer(melting_tokenizer([("ak", w) for w in LETTER_PAIRS if w != "ak"]), "melting")
    assert "ak" not in words.words
    assert len(words.words) >= 90
    assert prompt_text((Segment(1, 10_000),), words)


def test_words_that_all_melt_are_not_trusted() -> None:
    everyone = melting_tokenizer([(a, b) for a in LETTER_PAIRS for b in LETTER_PAIRS if a < b])
    with pytest.raises(ValueError, match=r"^melting: fewer than 64 of its 100 words"):
        Words.of_tokenizer(everyone, "melting")


def test_a_text_whose_words_melt_together_is_never_handed_out() -> None:
    words = Words.of_tokenizer(melting_tokenizer([("ak", "bl")]), "pairs")
    assert {"ak", "bl"} <= set(words.words), "the few random runs at the start did not meet the pair"
    melted = 0
    for content in range(300):
        segment = Segment(content, 100)
        if " ak bl " in f" {segment_text(segment, words)} ":
            melted += 1
            with pytest.raises(ValueError, match=r"^pairs: a text of 100 words is encoded to 9\d tokens"):
                prompt_text((segment,), words)
        else:
            assert prompt_text((segment,), words) == segment_text(segment, words)
    assert melted > 0


def test_a_word_that_is_another_token_is_never_handed_out() -> None:
    words = words_of("gpt-2")
    wrong = replace(words, ids=words.ids[::-1])
    with pytest.raises(ValueError, match=r"^gpt-2: a text of 30 words is encoded to 30 tokens, or not word by word"):
        prompt_text((Segment(1, 30),), wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; a tokenizer is a tokenizer.json or a folder"),
        ("", "not a tokenizer.json"),
        ("{}", "not a tokenizer.json"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_one_clear_line(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json: " + message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def real_tokenizers() -> list[Path]:
    named = os.environ.get("STAMPEDE_TOKENIZERS")
    folders = [Path(named)] if named else [ROOT.parent / "shared"]
    return sorted(path for folder in folders for path in folder.rglob("tokenizer.json"))


def test_real_tokenizers_are_exact() -> None:
    files = real_tokenizers()
    if not files:
        pytest.skip("no tokenizer.json at hand; STAMPEDE_TOKENIZERS names a folder of them")
    for file in files:
        words = Words.of_file(file)
        segments = (Segment(1, 7), Segment(2, 1), Segment(3, 5000))
        whole = words.tokenizer.encode(prompt_text(segments, words), add_special_tokens=False).ids
        prefix = words.tokenizer.encode(prompt_text(segments[:2], words), add_special_tokens=False).ids
        assert (len(prefix), len(whole), whole[:8]) == (8, 5008, prefix), file
