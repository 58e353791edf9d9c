"""Our own seeded sessions, made from published statistics and labelled synthetic. It contains no row of any real trace.

`python -m workloads.sources.synthetic OUT.parquet` writes the shipped sample.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workloads.content import SYSTEM_PROMPT, content_id
from workloads.conversations_file import content_hash, is_conversations_file, read_conversations, write_conversations
from workloads.draws import generator
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.trace_table import SCHEMA, Trace, list_of

SAMPLE = Path(__file__).parents[2] / "samples" / "synthetic.parquet"


@dataclass(frozen=True, slots=True)
class SyntheticParameters:
    """What the sessions are drawn from: assistants with long system prompts that reason before they answer.

    ShareGPT, published: 3.5 turns a conversation on average, 37% of one turn; user messages mean 118, median 17, p95 493
    tokens. Answers: ServeGen's deepseek-r1 clients, 633 output tokens on average (rate-weighted), with the spread of ShareGPT's
    replies (p95/median 2.9). Tenants: ServeGen's ten busiest clients send 63–93% of requests; Zipf 1.1 over 64 gives 67%.
    Think times and system prompts have no public source: assumptions, to be replaced by one's own trace. Log-normal tails
    beyond `message_max_tokens` are drawn again, not clipped.
    """

    sessions: int = 8000
    mean_turns: float = 3.5
    single_turn_share: float = 0.37
    user_median_tokens: float = 19.3
    user_sigma: float = 1.97
    reply_median_tokens: float = 484.0
    reply_sigma: float = 0.735
    message_max_tokens: int = 8192
    tenants: int = 64
    zipf_exponent: float = 1.1
    system_median_tokens: float = 3000.0
    system_sigma: float = 0.6
    think_median_s: float = 10.0
    think_sigma: float = 1.0
    think_step_s: float = 0.1

    def __post_init__(self) -> None:
        for name in ("user_median_tokens", "reply_median_tokens", "system_median_tokens"):
            if not 0 < getattr(self, name) <= self.message_max_tokens:  # else drawing again would hardly ever end
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: above 0, up to message_max_tokens")


def generate(parameters: SyntheticParameters | None = None, seed: int = 0) -> Trace:
    """Sessions with growing history behind their tenant's system prompt; the same seed makes the same trace."""
    p = parameters or SyntheticParameters()
    prompt_tokens = _lengths(seed, "synthetic-system", p.tenants, p.system_median_tokens, p.system_sigma, p.message_max_tokens)
    tenants = _zipf_tenants(p, seed)
    turns = _turn_counts(p, seed)
    total = int(turns.sum())
    user = _lengths(seed, "synthetic-user", total, p.user_median_tokens, p.user_sigma, p.message_max_tokens)
    reply = _lengths(seed, "synthetic-reply", total, p.reply_median_tokens, p.reply_sigma, p.message_max_tokens)
    think = generator(seed, "synthetic-think").lognormal(np.log(p.think_median_s), p.think_sigma, total)
    steps = np.maximum(1, np.rint(think / p.think_step_s))
    first = np.zeros(total, dtype=bool)
    first[np.cumsum(turns) - turns] = True
    prompt_ids = np.array([content_id(SYSTEM_PROMPT, seed, tenant) for tenant in range(p.tenants)], dtype=np.int64)
    one = np.ones(p.sessions, dtype=np.int64)
    columns = {
        "user_tokens": list_of(turns, pa.array(user)),
        "reply_tokens": list_of(turns, pa.array(reply)),
        "conversation_id": pa.array([f"s{i:05d}" for i in range(p.sessions)]),
        "tenant": pa.array(tenants),
        "prefix_ids": list_of(one, pa.array(prompt_ids[tenants])),
        "prefix_tokens": list_of(one, pa.array(prompt_tokens[tenants])),
        "think_us": list_of(turns, pa.array(np.rint(steps * p.think_step_s * 1e6).astype(np.int64), mask=first)),
    }
    return _labelled(pa.table({name: columns[name] for name in SCHEMA.names if name in columns}), p, seed)


def _zipf_tenants(p: SyntheticParameters, seed: int) -> npt.NDArray[np.int32]:
    """A tenant for each session: tenant i with weight (i+1)^-exponent."""
    weights = np.arange(1, p.tenants + 1, dtype=np.float64) ** -p.zipf_exponent
    return generator(seed, "synthetic-tenant").choice(p.tenants, p.sessions, p=weights / weights.sum()).astype(np.int32)


def _turn_counts(p: SyntheticParameters, seed: int) -> npt.NDArray[np.int64]:
    """One turn with `single_turn_share`, else 1 + geometric, so that the mean is `mean_turns`."""
    draw = generator(seed, "synthetic-turns")
    more_mean = (p.mean_turns - 1) / (1 - p.single_turn_share)
    several = draw.random(p.sessions) >= p.single_turn_share
    return np.where(several, 1 + draw.geometric(1 / more_mean, p.sessions), 1).astype(np.int64)


def _lengths(seed: int, purpose: str, n: int, median: float, sigma: float, most: int) -> npt.NDArray[np.int32]:
    """Log-normal token counts, at least 1; those above `most` are drawn again."""
    draw = generator(seed, purpose)
    tokens = np.maximum(1, np.rint(draw.lognormal(np.log(median), sigma, n)))
    while (beyond := tokens > most).any():
        tokens[beyond] = np.maximum(1, np.rint(draw.lognormal(np.log(median), sigma, int(beyond.sum()))))
    return tokens.astype(np.int32)


def _labelled(table: Any, p: SyntheticParameters, seed: int) -> Trace:
    trace = Trace.of_table(
        SYNTHETIC.name,
        table,
        {
            "source": SYNTHETIC.name,
            "licence": SYNTHETIC.licence,
            "citation": SYNTHETIC.citation,
            "file": "",
            "sha256": "",
            "rows_read": table.num_rows,
            "rows_dropped": {},
            "rows_changed": {},
            "token_counts": "exact",
            "synthetic": True,
            "has_timestamps": False,
            "has_sessions": True,
            "notes": [
                "synthetic: drawn from published statistics of ShareGPT and ServeGen, not from any trace's rows",
                "think times and system prompts are assumptions",
                "parameters: " + ", ".join(f"{k}={v:g}" for k, v in asdict(p).items()) + f", seed={seed}",
            ],
        },
    )
    trace.provenance["sha256"] = content_hash(trace)
    return trace


def recognises(path: Path) -> bool:
    try:
        return is_conversations_file(path) and read_conversations(path).source == SYNTHETIC.name
    except ValueError:  # a damaged Parquet file
        return False


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read a trace that `write_sample` wrote; the seed it was made with is in it. ValueError "FILE: …" for another file."""
    trace = read_conversations(path)
    if trace.source != SYNTHETIC.name:
        raise ValueError(f"{path}: holds a trace of {trace.source}, not of {SYNTHETIC.name}")
    told = trace.provenance
    tally.rows_read, tally.synthetic, tally.token_counts = told["rows_read"], True, told["token_counts"]
    tally.notes += told["notes"]
    yield trace.table


def write_sample(path: Path, seed: int = 0) -> Trace:
    """Generate the sample and write it; its name becomes part of the provenance."""
    trace = generate(seed=seed)
    trace.provenance["file"] = path.name
    write_conversations(trace, path)
    return trace


SYNTHETIC = Source(
    name="synthetic",
    about="shipped sample: 8,000 multi-turn sessions, shared system prompts, Zipf tenants; generated, not observed",
    licence="Apache-2.0 (generated by this project)",
    citation="generated from the published statistics of ShareGPT and of ServeGen (arXiv 2505.09999)",
    recognises=recognises,
    read=read,
    fetch=lambda: SAMPLE,
)
