"""The tables of delivered load: planned beside realised, and a certificate a run. They compute no statistic."""

from collections.abc import Sequence
from typing import Any

from reports.html_tables import ENDINGS, Cell, Column, Row, Table, amount, words
from reports.scene import Scene

Runs = Sequence[tuple[Scene, Sequence[dict[str, Any]]]]
"""Each scene with its runs' certificates."""


def load_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Planned and realised load, a row a phase."""
    columns = [
        Column("Phase", text=True),
        Column("From, s"),
        Column("To, s"),
        Column("Planned, req/s"),
        Column("Realised, req/s"),
    ]
    columns += [Column("lowest run"), Column("highest run")]
    made = [
        Row(
            [
                words(str(r["phase"])),
                *(amount(r[k], "plain") for k in ("start_s", "end_s", "planned", "offered", "lowest", "highest")),
            ]
        )
        for r in rows
    ]
    caption = (
        "First attempts due per second: planned and realised, mean over runs; with think times later turns wait for answers."
    )
    return Table("load-table", caption, columns, made)


def certificate_table(runs: Runs) -> Table:
    """A row a run: was every planned request sent in time, and does every request appear exactly once; of measured runs also how
    late answers were read, whether every replica was seen empty before, and which looks at the replicas failed."""
    several, live = len(runs) > 1, any(scene.pool.live for scene, _ in runs)
    repeated = any(scene.repeats > 1 for scene, _ in runs)
    columns = [
        Column("Router", text=True),
        *([Column("Pool", text=True)] if several else []),
        Column("Client and guard", text=True),
    ]
    columns += [Column("Seed"), *([Column("Repeat")] if repeated else []), Column("Scheduled"), Column("Sent")]
    columns += [Column("Send lag p50"), Column("Send lag p99")]
    if live:
        columns.append(Column("Read lag p99", hint="how long a first token may have waited before the slowest sender saw it"))
        columns.append(Column("Reset verified", text=True, hint="replicas whose prefix cache was proved empty before the run"))
        columns.append(Column("Scrapes missed", hint="looks at a replica’s metrics that brought nothing"))
    columns += [Column("Conserved", text=True), Column("Certificate", text=True)]
    columns += [Column("Verdict", text=True), Column("Why", text=True)]
    made = []
    for scene, certificates in runs:
        for r in certificates:
            router = scene.router(r["router"])
            cells = [Cell(router.label, router.label, series=router), *([words(scene.pool.words)] if several else [])]
            cells += [words(scene.condition(r["condition"]).label), amount(r["seed"], "count")]
            cells += [amount(r["repeat"] + 1, "count")] if repeated else []
            cells += [amount(r[k], "count") for k in ("scheduled", "sent")]
            cells += [amount(r[k], "time") for k in ("send_lag_p50_s", "send_lag_p99_s")]
            cells += _seen_live(scene, r) if live else []
            made.append(Row([*cells, *_judgement(r)], router.reference))
    return Table("certificate-table", "Delivered-load certificates, a row a run.", columns, made)


def _seen_live(scene: Scene, r: dict[str, Any]) -> list[Cell]:
    """Read lag, resets and scrapes of a measured run; dashes of a simulated one."""
    if not scene.pool.live:
        return [Cell("–", ""), Cell("–", "", css="text"), Cell("–", "")]
    verified, replicas = r["resets_verified"], int(r["replicas"])
    whole = verified is not None and verified >= replicas
    reset = f"{verified} of {replicas}" if verified is not None else "not told"
    return [
        amount(r["read_lag_p99_s"], "time"),
        Cell(reset, str(verified or 0), css="text", tag="good" if whole else "warn"),
        amount(r["scrapes_missed"], "count"),
    ]


def _judgement(r: dict[str, Any]) -> list[Cell]:
    good = "void" if r["void"] else "delivered"
    verdict = str(r["verdict"] or "–")
    return [
        Cell("yes" if r["conserved"] else "NO", str(r["conserved"]), css="text"),
        Cell(good + (f": {r['reason']}" if r.get("reason") else ""), good, tag="bad" if r["void"] else "good", css="text"),
        Cell(verdict, verdict, tag=ENDINGS.get(verdict, "plain"), css="text"),
        words(str(r["cause"] or "")),
    ]
