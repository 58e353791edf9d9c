"""Token ids of made-up prompts: exact counts, equal content equal tokens everywhere, and nothing else shared."""

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.content import content_id
from workloads.prompts.prompts_file import write_prompts
from workloads.prompts.token_ids import Ids, draw, prompt_ids, segment_ids
from workloads.prompts.vocabulary import Vocabulary
from workloads.request import Request, Segment

ROOT = Path(__file__).parents[2]
SEGMENTS = st.lists(st.builds(Segment, st.integers(0, (1 << 63) - 1), st.integers(0, 300)), max_size=8)
VOCABULARY = Vocabulary.of_size(4096, reserved=range(3))
GOLDEN = (Segment(7, 40_000), Segment((1 << 63) - 1, 1), Segment(0, 33))
GOLDEN_SHA256 = "91ad26ee5bd99ffe6bf2e0d0f4f98815993d441d9036c4da6da960ecd67f2ed6"


def sha256(ids: Ids) -> str:
    return hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest()


@settings(max_examples=150, deadline=None)
@given(SEGMENTS)
def test_a_prompt_is_its_segments_one_after_the_other(segments: list[Segment]) -> None:
    ids = prompt_ids(segments, VOCABULARY)
    assert ids.dtype == np.int32
    assert len(ids) == sum(s.tokens for s in segments)
    assert ids.tolist() == [i for s in segments for i in segment_ids(s, VOCABULARY).tolist()]
    assert set(ids.tolist()) <= set(range(3, 4096))


@pytest.mark.parametrize("tokens", [0, 1, 16_383, 16_384, 16_385, 100_000])
def test_a_longer_segment_of_the_same_content_begins_alike(tokens: int) -> None:
    longest = segment_ids(Segment(42, 120_000), VOCABULARY)
    assert np.array_equal(segment_ids(Segment(42, tokens), VOCABULARY), longest[:tokens])


def split_mix_64(seed: int, number: int) -> int:
    """Output `number` (from 1) of SplitMix64, as published: the state after so many steps, finalised."""
    z = (seed + number * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@pytest.mark.parametrize("content", [0, 7, (1 << 63) - 1])
@pytest.mark.parametrize("position", [0, 1, 16_383, 16_384, 39_999])
def test_an_id_is_a_number_of_the_published_generator(content: int, position: int) -> None:
    number = split_mix_64(split_mix_64(content, 1), position + 1)
    expected = 3 + (number >> 32) * 4093 // 2**32
    assert segment_ids(Segment(content, 40_000), VOCABULARY)[position] == expected


def test_a_prompt_without_segments_is_empty() -> None:
    assert prompt_ids((), VOCABULARY).tolist() == []


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_another_process_makes_the_same_prompt(hash_seed: str) -> None:
    code = (
        "from tests.workloads.test_prompts import GOLDEN, VOCABULARY, sha256\n"
        "from workloads.prompts.token_ids import prompt_ids\n"
        "print(sha256(prompt_ids(GOLDEN, VOCABULARY)), VOCABULARY.content_hash)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [GOLDEN_SHA256, VOCABULARY.content_hash]


def test_the_prompt_is_the_one_of_every_release_and_machine() -> None:
    assert sha256(prompt_ids(GOLDEN, VOCABULARY)) == GOLDEN_SHA256


@pytest.mark.parametrize("choices", [64, 128_000])
def test_no_two_of_100_000_contents_share_their_first_16_tokens(choices: int) -> None:
    usable = np.arange(choices, dtype=np.int32)
    first = np.empty((100_000, 16), dtype=np.int32)
    for i in range(50_000):
        draw(i, usable, first[2 * i])
        draw(content_id(1, i, 0, 0), usable, first[2 * i + 1])
    assert len({row.tobytes() for row in first}) == len(first)


def chi_square_z(counts: npt.NDArray[np.int64]) -> float:
    """How many standard deviations Pearson's statistic lies from its mean under equal probabilities."""
    expected = counts.sum() / counts.size
    statistic = float(((counts - expected) ** 2 / expected).sum())
    degrees = counts.size - 1
    return (statistic - degrees) / math.sqrt(2 * degrees)


def test_every_usable_id_is_as_likely_and_neighbours_are_independent() -> None:
    vocabulary = Vocabulary.of_size(1003, reserved=range(3))
    within = segment_ids(Segment(5, 500_000), vocabulary) - 3
    across = np.concatenate([segment_ids(Segment(i, 2), vocabulary) for i in range(50_000)]) - 3
    for ids in (within, across):
        assert abs(chi_square_z(np.bincount(ids, minlength=1000))) < 4
        pairs = ids[:-1:2] // 25 * 40 + ids[1::2] // 25
        assert abs(chi_square_z(np.bincount(pairs, minlength=1600))) < 4


def test_the_answer_an_engine_gave_stands_where_the_trace_had_its_own() -> None:
    question, reply, follow_up = Segment(1, 5), Segment(2, 3), Segment(3, 4)
    ids = prompt_ids((question, reply, follow_up), VOCABULARY, known={2: [9, 0, 4095], 8: [1]})
    assert ids[5:8].tolist() == [9, 0, 4095]
    plain = prompt_ids((question, reply, follow_up), VOCABULARY)
    assert np.array_equal(np.delete(ids, [5, 6, 7]), np.delete(plain, [5, 6, 7]))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ([1, 2], "content 2: 2 ids are known, its segment has 3 tokens"),
        ([1, 2, 4096], "content 2: id 4096 is known; 0 … 4095 allowed"),
        ([1, -1, 2], "content 2: id -1 is known; 0 … 4095 allowed"),
    ],
)
def test_a_known_answer_that_does_not_fit_is_refused(known: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_ids((Segment(2, 3),), VOCABULARY, known={2: known})


def test_reserved_ids_are_never_used() -> None:
    vocabulary = Vocabulary.of_size(10, reserved=(0, 9, 1234))
    assert vocabulary.usable.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(segment_ids(Segment(1, 1000), vocabulary).tolist()) == set(range(1, 9))
    assert vocabulary.content_hash != VOCABULARY.content_hash


@pytest.mark.parametrize(
    ("size", "reserved", "message"),
    [
        (1, (), "vocabulary of 1: 1 usable token ids below 1; at least 2 needed"),
        (3, (0, 2), "vocabulary of 3: 1 usable token ids below 3; at least 2 needed"),
        (0, (), "vocabulary: 0 ids; 1 … 2147483647 allowed"),
        (-5, (), "vocabulary: -5 ids; 1 … 2147483647 allowed"),
    ],
)
def test_a_vocabulary_without_choice_is_refused(size: int, reserved: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary.of_size(size, reserved)


def request(request_id: int, turn: int, tokens: int) -> Request:
    arrival_s, think_s = (0.25, None) if turn == 0 else (None, 1.5)
    return Request(request_id, 5, turn, arrival_s, think_s, (Segment(1, tokens),), 2, 17, 0)


def test_prompts_are_written_one_line_a_request(tmp_path: Path) -> None:
    out = tmp_path / "new" / "prompts.jsonl"
    assert write_prompts([request(0, 0, 2), request(1, 1, 3)], lambda r: prompt_ids(r.segments, VOCABULARY), out) == 2
    ids = segment_ids(Segment(1, 3), VOCABULARY).tolist()
    keys = {"session_id": 5, "max_tokens": 17}
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"request_id": 0, "turn": 0, "arrival_s": 0.25, "think_s": None, "prompt_token_ids": ids[:2], **keys},
        {"request_id": 1, "turn": 1, "arrival_s": None, "think_s": 1.5, "prompt_token_ids": ids, **keys},
    ]


@pytest.mark.parametrize("text", ["plain words", 'é "quoted"\n\u2028 next', "a lone \ud800 surrogate"])
def test_text_prompts_keep_every_character(tmp_path: Path, text: str) -> None:
    write_prompts([request(0, 0, 2)], lambda _: text, tmp_path / "prompts.jsonl")
    (line,) = (tmp_path / "prompts.jsonl").read_text().splitlines()
    assert json.loads(line)["prompt"] == text


def test_no_file_is_left_when_a_prompt_cannot_be_made(tmp_path: Path) -> None:
    def fail_at_second(made: Request) -> str:
        if made.request_id == 1:
            raise ValueError("no such prompt")
        return "one"

    with pytest.raises(ValueError, match="no such prompt"):
        write_prompts([request(0, 0, 2), request(1, 1, 3)], fail_at_second, tmp_path / "prompts.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.benchmark
def test_a_million_ids_take_20_ms() -> None:
    vocabulary = Vocabulary.of_size(128_256, reserved=range(256))

    def once() -> float:
        began_s = time.perf_counter()
        segment_ids(Segment(5, 1_000_000), vocabulary)
        return time.perf_counter() - began_s

    assert min(once() for _ in range(5)) <= 0.020
