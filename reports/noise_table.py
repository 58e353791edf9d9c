"""The A/A noise floor as the page shows it: a sentence beside the leaderboard, and a table. It computes nothing."""

from collections.abc import Mapping

from reports.html_tables import Column, Row, Table, amount, words
from reports.noise import Noise
from reports.sentences import counted, number

SHOWN = {
    "ttft_p50_s": "TTFT p50",
    "ttft_p90_s": "TTFT p90",
    "ttft_p99_s": "TTFT p99",
    "tpot_p50_s": "TPOT p50",
    "tpot_p90_s": "TPOT p90",
    "tpot_p99_s": "TPOT p99",
    "e2e_p50_s": "E2E p50",
    "e2e_p90_s": "E2E p90",
    "e2e_p99_s": "E2E p99",
    "goodput_rps": "goodput",
    "prefix_hit": "prefix hits, by the engines’ counters",
}
TOLD = ("ttft_p90_s", "goodput_rps")


def noise_sentence(noise: Mapping[str, Noise]) -> str | None:
    """`Repeats of the same arm and seed differ by …`; None where nothing was repeated."""
    told = [noise[metric] for metric in TOLD if metric in noise]
    if not told:
        return None
    names = " and ".join(f"{number(n.median, 'share')} in {SHOWN[n.metric]}" for n in told)
    most = " and ".join(number(n.largest, "share") for n in told)
    return (
        f"Repeats of the same router on the same requests differ by {names} (median of "
        f"{counted(max(n.pairs for n in told), 'pair')}; at most {most}): "
        "a difference between two routers that is no larger is noise."
    )


def noise_table(noise: Mapping[str, Noise]) -> Table | None:
    """A row a metric; None where nothing was repeated."""
    rows = [
        Row([words(label), amount(n.median, "share"), amount(n.largest, "share"), amount(n.pairs, "count")])
        for metric, label in SHOWN.items()
        if (n := noise.get(metric)) is not None
    ]
    columns = [Column("Steady phase", text=True), Column("Median difference"), Column("Largest"), Column("Pairs of repeats")]
    caption = "A/A: the difference between two runs of one router, setting and seed, over their mean."
    return Table("noise-table", caption, columns, rows) if rows else None
