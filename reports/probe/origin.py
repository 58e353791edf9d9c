"""Where a probe's numbers come from: warnings, one line of facts, the provenance box. It judges nothing."""

from typing import Any

from reports.probe.scene import ProbeScene
from reports.provenance import ELSEWHERE, LOAD, RUN, STUDY, Block, engine_block, entries, flat, rest, trace_block
from reports.sentences import counted

ALARMS = 0.05


def notes(scene: ProbeScene, study: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    """What a reader must know before the numbers."""
    pool = study.get("pool") or {}
    changed = manifest.get("derated") or "; ".join(flat(pool.get("changes"))).replace(": ", " ")
    found = [f"The replicas are changed from what was measured: {changed}. Loads and sizes hold for these."] if changed else []
    alarms = scene.findings.false_alarms
    if alarms.runs and alarms.low > ALARMS:
        share = f"{alarms.alarms / alarms.runs:.1%} of calm runs disturbed, more than {ALARMS:.0%}"
        found.append(f"The detector calls {share}: “stays down” is doubtful where few runs speak for it.")
    void = sum(a.verdict == "void" for a in scene.cells)
    if void:
        found.append(
            f"{void} of {counted(len(scene.cells), 'run')} are void (the load was not delivered as planned) and count nowhere."
        )
    planned = (manifest.get("cells") or {}).get("total") if isinstance(manifest.get("cells"), dict) else None
    if isinstance(planned, int) and planned > len(scene.cells):
        found.append(f"{planned - len(scene.cells)} of {planned} cells are missing: the probe was broken off.")
    return found


def headline(scene: ProbeScene, study: dict[str, Any], manifest: dict[str, Any]) -> str:
    """One line under the verdict: what was probed, on what, when."""
    trace = manifest.get("trace") or {}
    source = str(trace.get("name") or trace.get("source") or (study.get("workload") or {}).get("trace") or "unknown trace")
    if trace.get("synthetic"):
        source = "synthetic traffic" if source == "synthetic" else f"{source} (synthetic traffic)"
    loads = f"loads {', '.join(f'{f:.0%}' for f in scene.fractions)} of C_ref" if scene.fractions else ""
    parts = [source, f"{scene.replicas} simulated replicas" if scene.replicas else "", counted(len(scene.routers), "router"),
             counted(len(scene.mapped), "guard set"), loads, f"C_ref {scene.findings.c_ref_rps:.3g} req/s",
             counted(len(scene.cells), "run"), str(manifest.get("ended_utc") or "")]  # fmt: skip
    return " · ".join(p for p in parts if p)


def blocks(scene: ProbeScene, study: dict[str, Any], manifest: dict[str, Any]) -> list[Block]:
    """All blocks of the box."""
    trace, profile = manifest.get("trace") or {}, manifest.get("profile") or {}
    known = [k for k, _ in RUN + LOAD] + list(ELSEWHERE)
    asked = entries(study, [(k, k) for k in ("probe", *STUDY)])
    asked.append(("study hash", str(study.get("content_hash") or study.get("hash") or "none recorded")))
    found = [trace_block(trace), Block("Load", entries(manifest, LOAD)), engine_block(profile, scene.replicas)]
    found += [Block("Study as resolved", asked), Block("Run", entries(manifest, RUN) + rest(manifest, known))]
    return [b for b in found if b.entries]


def again(manifest: dict[str, Any]) -> str:
    """The commands that repeat this probe."""
    commit = str(manifest.get("commit") or "")
    checkout = f"git checkout {commit.removesuffix('+changes')}\n" if commit and commit != "None" else ""
    dirty = "# the working tree had uncommitted changes\n" if commit.endswith("+changes") else ""
    return f"{checkout}{dirty}uv run stampede probe study.yaml      # the study.yaml beside this page; same seeds, same cells"
