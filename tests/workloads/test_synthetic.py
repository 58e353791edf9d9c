"""The shipped sample is what the generator makes, and is like the published statistics."""

import subprocess
import sys
from pathlib import Path

import pytest

from workloads.conversations_file import content_hash, read_conversations
from workloads.description import describe
from workloads.sources.synthetic import SAMPLE, SyntheticParameters, generate
from workloads.trace import load_trace


def test_the_shipped_sample_is_what_the_generator_makes(tmp_path: Path) -> None:
    out = tmp_path / "again.parquet"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "workloads.sources.synthetic", str(out)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shipped = load_trace("synthetic")
    assert content_hash(read_conversations(out)) == content_hash(shipped) == shipped.provenance["sha256"]
    assert SAMPLE.stat().st_size <= 300_000
    assert shipped.provenance["synthetic"] is True


def test_published_statistics_come_out() -> None:
    facts = describe(load_trace("synthetic"))
    assert facts["sessions"] == 8000
    assert facts["turns_per_session"]["mean"] == pytest.approx(3.5, rel=0.03)
    assert facts["user_tokens"]["mean"] == pytest.approx(118, rel=0.05)
    assert facts["user_tokens"]["p50"] == pytest.approx(17, abs=3)
    assert facts["output_tokens"]["mean"] == pytest.approx(633, rel=0.03)
    assert 0.63 <= facts["top_10_tenants_share"] <= 0.93
    assert facts["prefix_reuse"] > 0.83, "history as in ShareGPT, and shared system prompts on top"


def test_sessions_of_a_tenant_share_its_system_prompt() -> None:
    trace = generate(SyntheticParameters(sessions=300), seed=3)
    by_tenant: dict[int, set[int]] = {}
    for c in trace.conversations:
        by_tenant.setdefault(c.tenant, set()).add(c.prefix[0].content_id)
    assert len(by_tenant) > 20
    assert all(len(ids) == 1 for ids in by_tenant.values())
    assert len({next(iter(ids)) for ids in by_tenant.values()}) == len(by_tenant)


def test_another_seed_makes_another_trace() -> None:
    small = SyntheticParameters(sessions=50)
    assert content_hash(generate(small, 1)) == content_hash(generate(small, 1)) != content_hash(generate(small, 2))


def test_long_messages_are_drawn_again_not_clipped() -> None:
    short = {"user_median_tokens": 20.0, "reply_median_tokens": 50.0, "system_median_tokens": 80.0}
    trace = generate(SyntheticParameters(sessions=2000, message_max_tokens=100, **short), seed=0)  # type: ignore[arg-type]
    users = [t.user_tokens for c in trace.conversations for t in c.turns]
    assert max(users) <= 100
    assert users.count(100) < len(users) / 200


def test_a_median_beyond_the_longest_message_is_refused() -> None:
    with pytest.raises(ValueError, match=r"system_median_tokens is 3000\.0; allowed: above 0, up to message_max_tokens"):
        SyntheticParameters(message_max_tokens=100, user_median_tokens=1, reply_median_tokens=1)
