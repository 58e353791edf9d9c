"""How much prefix cache a hit rate needs: hit share against cache size. It knows no engine's blocks or routing."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.trace_charts.axes import DOTS, LINE, SIDE_PX, log_axis, rows, sized, value_axis

KV_KIB_A_TOKEN = 128
"""Llama-3.1-8B in 16 bits: 32 layers × 8 KV heads × 128 × 2 (K and V) × 2 bytes."""


def cache_size(description: Mapping[str, Any]) -> Figure | str:
    """The share of prompt tokens that one LRU cache hits, and the limit that no cache passes."""
    curve = description.get("reuse_distance")
    if not curve or not curve.get("cache_tokens"):
        left_out = (curve or {}).get("left_out")
        return f"No cache curve: {left_out}." if left_out else "No cache curve: no prompt repeats the beginning of another one."
    frame = pl.DataFrame({"size": curve["cache_tokens"], "share": curve["hit_share"]}).with_columns(
        gib=pl.col("size") * KV_KIB_A_TOKEN / 2**20
    )
    limit = float(description["prefix_reuse"])
    ends = (float(curve["cache_tokens"][0]), float(curve["cache_tokens"][-1]))
    tip = [
        alt.Tooltip("size:Q", title="cache, tokens", format=".3~s"),
        alt.Tooltip("gib:Q", title="GiB at 128 KiB a token", format=".3~r"),
        alt.Tooltip("share:Q", title="hit", format=".1%"),
    ]
    x = alt.X("size:Q", scale=alt.Scale(type="log", nice=False), axis=log_axis("cache size, tokens", *ends))
    y = alt.Y(
        "share:Q", scale=alt.Scale(domain=[0, max(limit * 1.12, 0.01)]), axis=value_axis("share of prompt tokens hit", "~%")
    )
    line = rows().mark_line(color=LINE, point=DOTS).encode(x=x, y=y, tooltip=tip)
    endless = alt.Chart(alt.NamedData(name="limit"))
    rule = endless.mark_rule(strokeDash=[4, 3]).encode(y="share:Q")
    label = endless.mark_text(align="left", baseline="bottom", dy=-3).encode(x="size:Q", y="share:Q", text="label:N")
    return Figure(
        key="cache-size",
        title="Hits against cache size",
        caption=f"One least-recently-used prefix cache for all requests, exact stack distances. Order: {curve['order']}. "
        f"Half of all that can be hit needs {_size(curve['half_of_reuse'])}, nine tenths {_size(curve['most_of_reuse'])}, at "
        f"{KV_KIB_A_TOKEN} KiB of KV a token (Llama-3.1-8B in 16 bits).",
        chart=sized(alt.layer(line, rule, label)),
        data={
            "rows": frame,
            "limit": pl.DataFrame({"size": [frame["size"][0]], "share": [limit], "label": [f"without limit {limit:.1%}"]}),
        },
        columns={"size": "cache, tokens", "gib": "GiB at 128 KiB a token", "share": "share hit"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )


def _size(tokens: int) -> str:
    gib = tokens * KV_KIB_A_TOKEN / 2**20
    return f"{tokens:,} tokens ({gib:,.3g} GiB)" if gib < 1000 else f"{tokens:,} tokens ({gib:,.0f} GiB)"
