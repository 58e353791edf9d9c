"""Where the numbers come from: the provenance box, from study.yaml, manifest.json and the cells' own facts. It judges nothing."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reports.scene import Scene
from reports.sentences import counted

Lines = str | list[str]


@dataclass(frozen=True, slots=True)
class Block:
    """A titled group of (name, text or lines) entries."""

    title: str
    entries: list[tuple[str, Lines]]


def flat(value: Any, prefix: str = "") -> list[str]:
    """Any nested value as readable lines `a.b: text`, a record of a list on one line; empty containers and None vanish."""
    if isinstance(value, dict):
        return [line for k, v in value.items() for line in flat(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(value, list | tuple):
        lines = [record(v) for v in value] if any(isinstance(v, dict | list) for v in value) else [", ".join(map(plain, value))]
        return [f"{prefix}: {line}" if prefix else line for line in lines if line]
    return [f"{prefix}: {text}" if prefix else text] if (text := plain(value)) else []


def record(value: Any) -> str:
    """One item of a list on one line: its name or label first, then `key value` pairs; None is `none`."""
    if not isinstance(value, dict):
        return "; ".join(flat(value))
    name = plain(value.get("label") or value.get("name"))
    pairs = [
        f"{k} {'none' if v is None else '; '.join(flat(v))}"
        for k, v in value.items()
        if k not in ("label", "name") and v not in ({}, [])
    ]
    return f"{name}: {', '.join(pairs)}" if name and pairs else name or ", ".join(pairs)


def plain(value: Any) -> str:
    """A scalar as text: numbers in at most 4 digits, booleans in words, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def entries(source: dict[str, Any], names: Iterable[tuple[str, str]]) -> list[tuple[str, Lines]]:
    """The keys of `names` that `source` has, under readable names."""
    found = []
    for key, name in names:
        lines = flat(source.get(key))
        if lines:
            found.append((name, lines[0] if len(lines) == 1 else lines))
    return found


def rest(source: dict[str, Any], taken: Iterable[str]) -> list[tuple[str, Lines]]:
    """Every key that no block has named, so that nothing recorded is hidden."""
    return entries(source, [(k, k.replace("_", " ")) for k in source if k not in set(taken)])


TRACE = (
    ("name", "name"),
    ("source", "source"),
    ("synthetic", "synthetic"),
    ("licence", "licence"),
    ("citation", "citation"),
    ("file", "file"),
    ("file_name", "file"),
    ("sha256", "content (SHA-256)"),
    ("hash", "content hash"),
    ("rows_read", "rows read"),
    ("rows_dropped", "rows dropped, by reason"),
    ("rows_changed", "rows changed, by reason"),
    ("token_counts", "token counts"),
    ("has_timestamps", "has timestamps"),
    ("has_sessions", "has sessions"),
)
PROFILE = (
    ("name", "profile"),
    ("engine", "engine"),
    ("engine_version", "engine version"),
    ("gpu", "GPU"),
    ("model", "model"),
    ("context_tokens", "context, tokens"),
    ("measured_context_tokens", "measured up to, tokens"),
    ("max_running", "most running at once"),
    ("max_batched_tokens", "tokens a step"),
    ("kv_blocks", "KV blocks"),
    ("block_tokens", "tokens a block"),
    ("max_queued", "queue limit"),
    ("cancel_lag_s", "cancel lag, s"),
    ("frontend_s", "front end, s a request"),
    ("step", "step-time coefficients"),
    ("provenance", "how it was measured"),
)


def trace_block(trace: dict[str, Any]) -> Block:
    """The trace, its licence and what was dropped; synthetic data is labelled first."""
    found = entries(trace, TRACE) + _first_event(trace) + rest(trace, [*(k for k, _ in TRACE), "first_start_us"])
    if trace.get("synthetic"):
        found = [(n, v) for n, v in found if n != "synthetic"]
        found.insert(0, ("kind", "SYNTHETIC: made by a seeded generator, not recorded traffic"))
    return Block("Trace", found)


def _first_event(trace: dict[str, Any]) -> list[tuple[str, Lines]]:
    """When a dated trace begins; a clock that counts from anywhere says nothing."""
    first_us = trace.get("first_start_us")
    if not isinstance(first_us, int) or first_us < 10**15:  # before 2001: no date
        return []
    return [("first event (UTC)", f"{datetime.fromtimestamp(first_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}")]


def fit_lines(error: Any) -> list[str]:
    """A profile's fit error, one line a sweep or run; whatever has another shape is listed as it is."""
    if not isinstance(error, dict):
        return flat(error)
    lines = []
    for group, found in error.items():
        for name, facts in found.items() if isinstance(found, dict) else [(group, found)]:
            if isinstance(facts, dict) and {"mean", "worst"} <= facts.keys():
                lines.append(f"{name}: mean {facts['mean']:.1%}, worst {facts['worst']:.1%} (n = {facts.get('n', '?')})")
            elif isinstance(facts, dict) and isinstance(facts.get("quantiles"), dict):
                role = "used in the fit" if facts.get("used_in_fit") else "held out"
                errors = ", ".join(
                    f"{q.upper().replace('_P', ' p')} {v['error']:+.0%}".replace("-", "−") for q, v in facts["quantiles"].items()
                )
                lines.append(f"{name} ({role}), predicted against measured: {errors}")
            else:
                lines += flat(facts, name)
    return lines


def engine_block(profile: dict[str, Any], replicas: int) -> Block:
    """The engine profile, the error of its fit, and a label where it is used beyond what was measured."""
    found = entries(profile, PROFILE) + rest(profile, ["fit_error", *(k for k, _ in PROFILE)])
    if fit := fit_lines(profile.get("fit_error")):
        found.insert(1, ("error of the fit", fit))
    context, measured = profile.get("context_tokens"), profile.get("measured_context_tokens")
    if isinstance(context, int) and isinstance(measured, int) and context > measured:
        label = f"beyond {measured:,} tokens of context the step times are EXTRAPOLATED (the profile allows {context:,})"
        found.insert(0, ("extrapolation", label))
    if replicas:
        found.insert(0, ("pool", f"{replicas} replicas, simulated engine in virtual time"))
    return Block("Replicas" if replicas else "Engine model", found)


def pool_block(scene: Scene, engines: list[dict[str, Any]]) -> Block:
    """A measured pool: what serves it, by replica (`engines`: the manifest's records of this pool)."""
    found: list[tuple[str, Lines]] = [("pool", f"{scene.pool.label}: {counted(scene.replicas, 'replica')}, measured over HTTP")]
    lines = [record({key: value for key, value in e.items() if key not in ("pool", "command")}) for e in engines]
    commands = [f"{e.get('id', e.get('replica_id', ''))}: {_command(e['command'])}" for e in engines if e.get("command")]
    found += [("engines", lines)] if lines else []
    found += [("commands", commands)] if commands else []
    return Block(f"Replicas: {scene.pool.label}", found)


def _command(command: Any) -> str:
    return " ".join(map(str, command)) if isinstance(command, list | tuple) else str(command)


def read_making(workloads: Path) -> dict[str, Any]:
    """What the arrival plan of the lowest seed says of how it was made; empty where no plan says anything."""
    from pyarrow import parquet

    plans = []
    for file in sorted(workloads.glob("*.parquet")):
        note = (parquet.read_schema(file).metadata or {}).get(b"stampede")
        plans.append(json.loads(note) if note else {})
    facts = min((p for p in plans if "seed" in p), key=lambda p: int(p["seed"]), default=None)
    return {f"plan of seed {facts['seed']}": facts.get("provenance")} if facts else {}


RUN = (
    ("started_utc", "started (UTC)"),
    ("ended_utc", "ended (UTC)"),
    ("resumed_utc", "resumed (UTC)"),
    ("driver", "clock"),
    ("commit", "commit"),
    ("code_hash", "code hash"),
    ("versions", "versions"),
    ("host", "host"),
    ("cells", "runs"),
)
LOAD = (
    ("seeds", "seeds"),
    ("load_rps", "base load, req/s"),
    ("capacity", "reference capacity C_ref"),
    ("workloads", "arrival plans, by seed"),
)
STUDY = ("workload", "load", "phases", "trigger", "events", "client", "guards", "observation", "session", "slo")
LIVE = (("gateways", "gateways"), ("cards", "GPUs"), ("senders", "senders"))
ELSEWHERE = ("self_test", "engines", "study", "study_hash", "command", "trace", "profile", "workloads_code", "fidelity")


def headline(scenes: Sequence[Scene], study: dict[str, Any], manifest: dict[str, Any]) -> str:
    """One line under the verdict: what was run, on what, when."""
    trace = manifest.get("trace") or {}
    source = trace.get("name") or trace.get("source") or (study.get("workload") or {}).get("trace") or "unknown trace"
    label = (
        str(source)
        if not trace.get("synthetic")
        else "synthetic traffic"
        if source == "synthetic"
        else f"{source} (synthetic traffic)"
    )
    parts = [label, *(_pool_words(scene, alone=len(scenes) == 1) for scene in scenes if scene.pool.twin_of is None)]
    parts += ["simulated beside it"] if any(scene.pool.twin_of for scene in scenes) else []
    first = scenes[0]
    routers = len({r.label for scene in scenes for r in scene.routers})
    parts += [counted(routers, "router"), counted(len(first.conditions), "client and guard setting")]
    parts.append(counted(len(first.seeds), "seed") + (f", {first.repeats} times each" if first.repeats > 1 else ""))
    parts.append(str(manifest.get("ended_utc") or manifest.get("ended") or ""))
    return " · ".join(p for p in parts if p)


def _pool_words(scene: Scene, alone: bool) -> str:
    """`4 simulated replicas`; of several pools, or a measured one, its label too."""
    if scene.pool.live or not alone:
        return scene.pool.words
    return f"{scene.replicas} simulated replicas" if scene.replicas else ""


def blocks(scenes: Sequence[Scene], study: dict[str, Any], manifest: dict[str, Any], workload: dict[str, Any]) -> list[Block]:
    """All blocks of the box; `workload` is what one seed's arrival plan says of its making."""
    trace, profile = manifest.get("trace") or {}, manifest.get("profile") or {}
    known = [k for k, _ in RUN + LOAD + LIVE] + list(ELSEWHERE)
    run = entries(manifest, RUN) + rest(manifest, known)
    load = entries(manifest, LOAD)
    made = rest({k: _without(v, trace) for k, v in workload.items()}, ())
    asked = entries(study, [(k, k) for k in STUDY])
    asked.append(("study hash", str(study.get("content_hash") or study.get("hash") or "none recorded")))
    simulated = [scene for scene in scenes if not scene.pool.live]
    replicas = simulated[0].replicas if len(scenes) == 1 and simulated else 0
    found = [trace_block(trace), Block("Load and arrivals", load + made)]
    found += [engine_block(profile, replicas)] if profile or replicas else []
    found += [*_live_blocks(scenes, manifest), Block("Study as resolved", asked), Block("Run", run)]
    return [b for b in found if b.entries]


def _live_blocks(scenes: Sequence[Scene], manifest: dict[str, Any]) -> list[Block]:
    """A block a measured pool, and one of what stands in front and sends; none of a simulated run."""
    live = [scene for scene in scenes if scene.pool.live]
    if not live:
        return []
    engines = [e for e in manifest.get("engines") or [] if isinstance(e, dict)]
    pools = [pool_block(scene, [e for e in engines if e.get("pool", scene.pool.label) == scene.pool.label]) for scene in live]
    front = Block("Gateways, senders, GPUs", entries(manifest, LIVE))
    return [*pools, *([front] if front.entries else [])]


def _without(making: Any, trace: dict[str, Any]) -> Any:
    """A plan's facts less those that the trace block shows already."""
    return {k: v for k, v in making.items() if k not in trace} if isinstance(making, dict) else making


def again(study: dict[str, Any], manifest: dict[str, Any]) -> str:
    """The commands that repeat this run."""
    commit = str(manifest.get("commit") or "")
    checkout = f"git checkout {commit.removesuffix('+changes')}\n" if commit and commit != "None" else ""
    dirty = "# the working tree had uncommitted changes\n" if commit.endswith("+changes") else ""
    return f"{checkout}{dirty}uv run stampede run study.yaml        # the study.yaml beside this page; same seeds, same attempts"
