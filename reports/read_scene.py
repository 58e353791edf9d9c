"""Reads who plays and on what stage from results.duckdb, study.yaml and manifest.json. It reads no results."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from reports import theme
from reports.pool_events import find_struck, read_events
from reports.scene import Condition, Pool, Router, Scene, Stage, Trigger

OF_TRIGGER = ("trigger_kind", "k", "d_s", "trigger_words")
TRAITS = ("client", "guard", "engine", "pool", "workload", "load_rps", *OF_TRIGGER)
TRAIT_WORDS = {"load_rps": "{:.3g} req/s"}  # the others speak for themselves


def open_results(results: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory connection that sees the tables of `results` read-only; temporary tables stay in memory."""
    con = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    con.execute("SET enable_progress_bar = false")
    con.execute("ATTACH " + "'" + str(results).replace("'", "''") + "'" + " AS results (READ_ONLY)")
    con.execute("USE results")
    return con


def read_scenes(con: duckdb.DuckDBPyConnection, study: dict[str, Any]) -> tuple[Scene, ...]:
    """The scene of each pool of the run, measured ones first: pools are never mixed, nor measured with simulated cells.

    Creates table `entrants`: every cell's place in its scene. A router has one key and colour in all scenes. The last scene is
    entered, see `enter`. Raises ValueError when the results hold no cell.
    """
    cells = con.sql(f"""
        SELECT DISTINCT cell_id, arm_id, router, reference, driver, pool_engine, {", ".join(TRAITS)}, seed, repeat, void
        FROM cells JOIN (SELECT cell_id, void FROM certificates) USING (cell_id) ORDER BY cell_id""").pl()
    if cells.is_empty():
        raise ValueError("results.duckdb: table cells is empty: there is nothing to report")
    references = set(cells.filter(pl.col("reference"))["router"])
    routers = cast_routers(in_order(cells["router"], router_names(study.get("routers"))), references)
    made = [(pool, own, *cast_conditions(own, study)) for pool, own in cast_pools(cells, study)]
    _write_entrants(con, [(pool, own, keys) for pool, own, _, keys in made], {r.label: r.key for r in routers})
    return tuple(_scene(con, study, pool, own, routers, conditions) for pool, own, conditions, _ in made)


def read_scene(con: duckdb.DuckDBPyConnection, study: dict[str, Any]) -> Scene:
    """The first scene, entered: of a run on one pool, the only one."""
    scene = read_scenes(con, study)[0]
    enter(con, scene.pool)
    return scene


def enter(con: duckdb.DuckDBPyConnection, pool: Pool) -> None:
    """From now on `players(cell_id, arm_id, router, name, condition, seed, repeat)` are the cells of this pool, by its scene's
    keys; `sound` are those that are not void, and `struck` the pool's events."""
    columns = "cell_id, arm_id, router, name, condition, seed, repeat"
    con.execute(f"CREATE OR REPLACE TEMP VIEW players AS SELECT {columns} FROM entrants WHERE pool = '{pool.key}'")
    con.execute(f"CREATE OR REPLACE TEMP VIEW sound AS SELECT {columns} FROM entrants WHERE pool = '{pool.key}' AND NOT void")
    find_struck(con)


def cast_pools(cells: pl.DataFrame, study: dict[str, Any]) -> list[tuple[Pool, pl.DataFrame]]:
    """The pools, measured ones first, in the study's order; with the cells of each."""
    asked = study.get("pool") or {}
    order = in_order(cells["pool"], [_pool_name(pool) for pool in (asked if isinstance(asked, list) else [asked])])
    groups = cells.partition_by("driver", "pool_engine", "engine", "pool", as_dict=True)
    live = sorted({str(pool) for driver, _, _, pool in groups if driver != "virtual"}, key=len)
    cast = []
    for (driver, served_by, engine, label), own in groups.items():
        measured, name = driver != "virtual", str(label)
        twin_of = None if measured else next((pool for pool in reversed(live) if name.startswith(pool)), None)
        place = order.index(name) if twin_of is None else order.index(twin_of)
        cast.append(((not measured, place, name, str(engine)), name, str(served_by), measured, twin_of, own))
    cast.sort(key=lambda c: c[0])
    return [(Pool(f"p{i}", name, by, live, twin), own) for i, (_, name, by, live, twin, own) in enumerate(cast)]


def _pool_name(asked: dict[str, Any]) -> str:
    """A live pool without a label is called after its groups."""
    live = asked.get("live") or []
    groups = live if isinstance(live, list) else [live]
    told = [f"{g.get('replicas')} × {g.get('engine')}{', remote' if g.get('urls') else ''}" for g in groups]
    return str(asked.get("label") or " + ".join(told))


def _scene(
    con: duckdb.DuckDBPyConnection,
    study: dict[str, Any],
    pool: Pool,
    cells: pl.DataFrame,
    routers: tuple[Router, ...],
    conditions: tuple[Condition, ...],
) -> Scene:
    enter(con, pool)
    report, playing = study.get("report") or {}, set(cells["router"])
    return Scene(
        title=str(report.get("title") or study.get("name") or "stampede"),
        routers=tuple(r for r in routers if r.label in playing),
        conditions=conditions,
        stages=_stages(con),
        trigger=_shared(trigger_of(*row) for row in cells.select(OF_TRIGGER).unique(maintain_order=True).rows()),
        slo={name: (study.get("slo") or {}).get(name) for name in ("ttft_s", "tpot_s", "e2e_s")},
        seeds=tuple(sorted(cells["seed"].unique().to_list())),
        replicas=_replicas(con),
        events=read_events(con),
        pool=pool,
        repeats=int(cells.group_by("arm_id", "seed").len()["len"].max() or 1),  # type: ignore[arg-type]
    )


def _replicas(con: duckdb.DuckDBPyConnection) -> int:
    ((found,),) = con.sql("SELECT max(replicas) FROM cell_facts JOIN players USING (cell_id)").fetchall()
    return int(found)


def trigger_of(kind: str | None, k: float | None, d_s: float | None, words: str | None) -> Trigger:
    """A row of `OF_TRIGGER`; NULLs are what kinds without that number, and older runs, leave."""
    return Trigger(kind or "placebo", k, d_s or 0.0, words or "")


def _shared(triggers: Iterable[Trigger]) -> Trigger:
    """The one trigger of all runs, placebos aside; where they differ, one that says no more than that."""
    distinct = list(triggers)
    real = [trigger for trigger in distinct if not trigger.placebo]
    if len(real) > 1:
        return Trigger("several", None, max(trigger.d_s for trigger in real), "its trigger")
    return real[0] if real else distinct[0]


def names(listed: Any) -> list[str]:
    """Labels of a study's list of routers, guards or clients, as reports call them."""
    return [str(i.get("label") or i.get("name")) if isinstance(i, dict) else str(i) for i in listed or []]


def router_names(listed: Any) -> list[str]:
    """The same of a study's routers: what stands in front of a live pool is called after the gateway, unless it has a label."""
    return [_front(i) if isinstance(i, dict) and i.get("gateway") and not i.get("label") else names([i])[0] for i in listed or []]


def _front(router: dict[str, Any]) -> str:
    bare = ", bare" if router.get("arm") == "bare" else ""
    return "direct" if router["gateway"] == "direct" else f"{router['gateway']}: {router.get('name')}{bare}"


def in_order(found: Iterable[Any], wanted: list[str]) -> list[str]:
    """The distinct values of `found`: first those of `wanted` in its order, then the others sorted."""
    have = {str(v) for v in found}
    return [w for w in dict.fromkeys(wanted) if w in have] + sorted(have - set(wanted))


def cast_routers(labels: list[str], references: Collection[str]) -> tuple[Router, ...]:
    """Routers in order with a colour each; `references` come last, grey and dashed."""
    ranked = [label for label in labels if label not in references]
    cast = [Router(f"r{i}", label, theme.router_colour(i), theme.router_dash(i)) for i, label in enumerate(ranked)]
    for i, label in enumerate(label for label in labels if label in references):
        cast.append(Router(f"r{len(cast)}", label, "var(--oracle)", theme.reference_dash(i), reference=True))
    return tuple(cast)


def cast_conditions(cells: pl.DataFrame, study: dict[str, Any]) -> tuple[tuple[Condition, ...], dict[tuple[Any, ...], str]]:
    """Conditions in the study's order (client, then guard), and the key of each combination of `TRAITS`."""
    clients, guards = names(study.get("client")), names(study.get("guards"))
    combos = cells.select(TRAITS).unique().rows()
    rank = {c: i for i, c in enumerate(in_order((c[0] for c in combos), clients))}
    guard_rank = {g: i for i, g in enumerate(in_order((c[1] for c in combos), guards))}
    combos.sort(key=lambda c: (rank[str(c[0])], guard_rank[str(c[1])], *((v is not None, v) for v in c[2:])))
    varying = [i for i in range(len(TRAITS)) if len({c[i] for c in combos}) > 1]
    rules = {str(c.get("name")): c for c in study.get("client") or [] if isinstance(c, dict)}
    cast, keys = [], {}
    for i, combo in enumerate(combos):
        key = f"c{i}"
        keys[tuple(combo)] = key
        rule = rules.get(str(combo[0]), {})
        cast.append(
            Condition(
                key=key,
                label=_label(combo, varying or [0]),
                colour=theme.condition_colour(i),
                dash=theme.condition_dash(i),
                client=str(combo[0]),
                guard=str(combo[1]),
                load_rps=float(combo[TRAITS.index("load_rps")]),
                timeout_s=rule.get("ttft_timeout_s"),
                patience=patience(rule) if "ttft_timeout_s" in rule else None,
            )
        )
    return tuple(cast), keys


def _label(combo: tuple[Any, ...], varying: list[int]) -> str:
    words = []
    for i in varying:
        trait, value = TRAITS[i], combo[i]
        if trait == "guard" and value in ("none", "") and len(varying) > 1:
            continue
        if trait in OF_TRIGGER:
            words.append(trigger_of(*combo[TRAITS.index(OF_TRIGGER[0]) :]).words)
        else:
            words.append("not said" if value is None else TRAIT_WORDS.get(trait, "{}").format(value))
    return ", ".join(dict.fromkeys(words))


def patience(rule: dict[str, Any]) -> str:
    """A client's retry rule in words."""
    limits = [
        (rule.get(f"{kind}_timeout_s"), words)
        for kind, words in (("ttft", "no first token"), ("idle", "silence"), ("total", "no end"))
    ]
    gives_up = " or ".join(f"{words} for {limit:g} s" for limit, words in limits if limit is not None)
    most = rule.get("max_attempts")
    tries = "retries without limit" if most is None else "never retries" if most == 1 else f"at most {most} attempts"
    budget = "" if rule.get("budget") is None else f", retries limited to {rule['budget']:.0%} of first attempts"
    work = "the replica stops working on it" if rule.get("cancel", True) else "the replica works on for nobody"
    return f"{'gives up after ' + gives_up if gives_up else 'waits for ever'}; {tries}{budget}; when it gives up, {work}"


def _write_entrants(
    con: duckdb.DuckDBPyConnection, pools: list[tuple[Pool, pl.DataFrame, dict[tuple[Any, ...], str]]], routers: dict[str, str]
) -> None:
    names = ("pool", "cell_id", "arm_id", "router", "name", "condition")
    entrants = pl.DataFrame(
        [
            (
                pool.key,
                row["cell_id"],
                row["arm_id"],
                routers[row["router"]],
                row["router"],
                keys[tuple(row[t] for t in TRAITS)],
                row["seed"],
                row["repeat"],
                row["void"],
            )
            for pool, cells, keys in pools
            for row in cells.iter_rows(named=True)
        ],
        schema=dict.fromkeys(names, pl.String) | {"seed": pl.Int64, "repeat": pl.Int64, "void": pl.Boolean},
        orient="row",
    )
    con.register("entrants_frame", entrants)
    con.execute("CREATE OR REPLACE TEMP TABLE entrants AS SELECT * FROM entrants_frame")
    con.unregister("entrants_frame")


def _stages(con: duckdb.DuckDBPyConnection) -> tuple[Stage, ...]:
    """Phases as planned (the same in every cell), and the drain as long as the longest was observed."""
    planned = con.sql("""SELECT phase, min(start_s), max(end_s), avg(planned_rps) FROM cells JOIN players USING (cell_id)
                         GROUP BY phase ORDER BY 2""").fetchall()
    stages = [Stage(str(p), float(a), float(b), None if r is None else float(r)) for p, a, b, r in planned]
    drain = con.sql("SELECT max(t_s) + 1 FROM seconds JOIN players USING (cell_id) WHERE phase = 'drain'").fetchall()[0][0]
    if stages and drain is not None and drain > stages[-1].end_s:
        stages.append(Stage("drain", stages[-1].end_s, float(drain), 0.0))
    return tuple(stages)
