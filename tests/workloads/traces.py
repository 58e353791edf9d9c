"""Where the tests find the working slices of real traces, and small traces made by hand."""

from pathlib import Path

import pytest

from workloads.conversation import Conversation, Provenance, Turn
from workloads.request import Segment
from workloads.trace_table import Trace

_SLICES = Path(__file__).parents[3] / "shared" / "traces"


def slice_file(name: str) -> Path:
    """A file of the slices beside the repository; the test is skipped where they are absent."""
    path = _SLICES / name
    if not path.is_file():
        pytest.skip(f"no trace slice {name}")
    return path


AZURE_CONV = "azure_llm_2023/AzureLLMInferenceTrace_conv.csv"
AZURE_CODE = "azure_llm_2023/AzureLLMInferenceTrace_code.csv"
MOONCAKE = "mooncake_conversation/conversation_trace.jsonl"
SHAREGPT = "sharegpt_sample/ShareGPT_V3_unfiltered_cleaned_split.sample.json"
SHAREGPT_EDGES = "sharegpt_sample/sharegpt_edge_cases.json"


def provenance() -> Provenance:
    return {
        "source": "by hand",
        "licence": "none",
        "citation": "",
        "file": "",
        "sha256": "",
        "rows_read": 0,
        "rows_dropped": {},
        "rows_changed": {},
        "token_counts": "exact",
        "synthetic": True,
        "has_timestamps": False,
        "has_sessions": True,
        "notes": [],
    }


def trace_of(*conversations: Conversation) -> Trace:
    return Trace.of("by hand", conversations, provenance())


def chat(name: str, *lengths: tuple[int, int], think_s: float = 5.0, **more: object) -> Conversation:
    """A conversation of (user, reply) token lengths with unique content."""
    turns = tuple(Turn(u, r, None, None if i == 0 else think_s) for i, (u, r) in enumerate(lengths))
    return Conversation(name, turns, **more)  # type: ignore[arg-type]


def blocks(*ids: int, tokens: int = 512) -> tuple[Segment, ...]:
    return tuple(Segment(i, tokens) for i in ids)


def same(one: Trace, other: Trace) -> bool:
    """Whether two traces hold the same conversations of the same origin, texts included."""
    return (one.source, one.provenance, one.conversations) == (other.source, other.provenance, other.conversations)
