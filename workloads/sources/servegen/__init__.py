"""ServeGen: rates, laws and token histograms of production clients, of which a trace is drawn. It holds no request of anybody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workloads.draws import generator
from workloads.sources.download import RemoteFile, fetch
from workloads.sources.servegen.generation import ClientArrivals, window_starts
from workloads.sources.servegen.histograms import FIELDS, TokenLengths
from workloads.sources.servegen.span import PARAMETERS, Span, chosen_span
from workloads.sources.servegen.windows import WINDOW_S, ClientWindows, clients, is_windows_parquet, model_folders, windows
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.trace_table import single_turns

__all__ = ["SERVEGEN", "windows"]

_COMMIT = "f891d1189eb32b3868dfc443800c4150548c282a"
_DEFAULT_MODEL = "language/m-large"


def recognises(path: Path) -> bool:
    return is_windows_parquet(path) or (path.is_dir() and bool(model_folders(path)))


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Draw a trace of the clients in a folder of chunk-N-trace.csv and chunk-N-dataset.json (or one of the three above it).

    `options.columns` may give model ("m-small"), begin_s, end_s (seconds; default: the busiest hour of day 0, cut where a million
    requests are expected) and rate (0 < share ≤ 1 of the requests, thinned). A table a window of ten minutes, in time order.
    Raises ValueError for other parameters, malformed files, and the Parquet file of rates, which has no token lengths.
    """
    if is_windows_parquet(path):
        raise ValueError(f"{path}: holds rates only, no token lengths; give the folder of chunk-N-trace.csv and -dataset.json")
    if unknown := sorted(options.columns.keys() - set(PARAMETERS)):
        raise ValueError(f"columns.{unknown[0]} is no parameter of servegen; allowed: {', '.join(PARAMETERS)}")
    name, folder = _model(path, options.columns.get("model"))
    found = list(clients(folder))
    span = chosen_span(found, options.columns, folder)
    tally.rows_read, tally.has_sessions, tally.synthetic = sum(len(c.begin_s) for c in found), False, True
    tally.token_counts = "drawn from the published histograms"
    tally.notes += [
        f"drawn (seed {options.seed}) from the published parameters of {len(found)} clients of {name}: seconds {span.begin_s:g}"
        f" to {span.end_s:g}, share {span.share:g} of the requests; the tenant is the client's number",
        "gaps have the published family, shape and window rate (the fitted scale is left out: with it a window would not have its"
        " rate); input and output tokens are drawn independently from the histograms of the six-hour step",
    ]
    drawn = 0
    for table in _drawn(found, span, options.seed, tally):
        drawn += table.num_rows
        yield table
    if not drawn:
        raise ValueError(
            f"{folder}: no request was drawn within seconds {span.begin_s:g} to {span.end_s:g}: too little traffic, or clients"
            " without token lengths; allowed: a longer span or a larger rate"
        )


def _model(path: Path, wanted: str | None) -> tuple[str, Path]:
    folders = model_folders(path)
    if not folders:
        raise ValueError(f"{path}: no chunk-N-trace.csv here or up to three folders below")
    if wanted is None and (len(folders) == 1 or _DEFAULT_MODEL in folders):
        wanted = _DEFAULT_MODEL if len(folders) > 1 else next(iter(folders))
    chosen = [name for name in folders if wanted in (name, name.partition("/")[2])]
    if len(chosen) != 1:
        raise ValueError(f"{path}: columns.model is {wanted!r}; allowed: {', '.join(folders)}")
    return chosen[0], folders[chosen[0]]


def _drawn(found: list[ClientWindows], span: Span, seed: int, tally: Tally) -> Iterator[Any]:
    sources = [_Client(c, seed) for c in found]
    _count_unused(found, span, tally)
    for start in window_starts(found, span.begin_s, span.end_s):
        parts = [part for source in sources if (part := source.requests(start, span, tally)) is not None]
        if parts:
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            order = np.argsort(columns["start_us"], kind="stable")
            yield single_turns({name: values[order] for name, values in columns.items()})


def _count_unused(found: list[ClientWindows], span: Span, tally: Tally) -> None:
    outside = [(c.begin_s + WINDOW_S <= span.begin_s) | (c.begin_s >= span.end_s) for c in found]
    silent = [(c.family == 0) & ~out for c, out in zip(found, outside, strict=True)]
    for reason, rows in (("window outside begin_s … end_s", outside), ("window without traffic", silent)):
        if count := sum(int(r.sum()) for r in rows):
            tally.dropped[reason] += count


class _Client:
    """One client as a source of requests, window after window."""

    def __init__(self, client: ClientWindows, seed: int) -> None:
        self._windows = client
        self._place = {start: i for i, start in enumerate(client.begin_s.tolist())}
        self._lengths = TokenLengths(client.dataset) if client.family.any() else None
        self._arrivals = ClientArrivals(client, generator(seed, "servegen-arrivals", client.client))
        self._thinning = generator(seed, "servegen-thinning", client.client)
        self._tokens = {field: generator(seed, f"servegen-{field}", client.client) for field in FIELDS}

    def requests(self, start: int, span: Span, tally: Tally) -> dict[str, Any] | None:
        """Its requests in the window that begins at `start` s, or None."""
        place = self._place.get(start, -1)
        if place < 0 or not self._windows.family[place] or self._lengths is None:
            return None
        histograms = {field: self._lengths.at(start, field) for field in FIELDS}
        if None in histograms.values():
            tally.dropped["window of a client without token lengths"] += 1
            return None
        times = self._arrivals.times(place, span.begin_s, span.end_s)
        if span.share < 1:
            times = times[self._thinning.random(len(times)) < span.share]
        made = {field: h.draw(len(times), self._tokens[field]) for field, h in histograms.items() if h is not None}
        return {
            "user_tokens": made["input_tokens"],
            "reply_tokens": made["output_tokens"],
            "start_us": np.rint(times * 1e6).astype(np.int64),
            "tenant": np.full(len(times), self._windows.client),
        }


_REMOTE = RemoteFile(
    url=f"https://github.com/alibaba/ServeGen/archive/{_COMMIT}.zip", name=f"ServeGen-{_COMMIT}.zip", licence="Apache-2.0"
)
SERVEGEN = Source(
    name="servegen",
    about="Alibaba production clients as rates, gap laws and token histograms, of which requests are drawn",
    licence="Apache-2.0",
    citation="Xiang et al., ServeGen: Workload characterization and generation of LLM serving in production, NSDI 2026",
    recognises=recognises,
    read=read,
    fetch=lambda: fetch("servegen", [_REMOTE]),
    takes_columns=True,
)
