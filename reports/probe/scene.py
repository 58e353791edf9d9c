"""What all parts of a probe's page share: who was probed, at which loads, and which cell is which. It judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reports import theme
from reports.probe.asks import PHASES, Answer
from reports.probe.findings import Arm, Findings, FrontierPoint
from reports.read_scene import cast_routers, in_order, names
from reports.scene import Router


@dataclass(frozen=True, slots=True)
class GuardSet:
    """A guard set of the study or of its cures. `key` (g0, g1 …) stands for it in chart data."""

    key: str
    label: str
    colour: str
    dash: list[int]
    mapped: bool
    """True where the frontier was asked for it; false where it was only tried as a cure."""


@dataclass(frozen=True, slots=True)
class ProbeScene:
    """`guards[0]` is the pool without guards. `number` gives every cell its number on the page; `cells` in that order.

    `wanted`: (fraction of C_ref, k) that a cure is to survive; None where the study says none.
    """

    title: str
    routers: tuple[Router, ...]
    guards: tuple[GuardSet, ...]
    findings: Findings
    cells: tuple[Answer, ...]
    number: dict[str, int]
    wanted: tuple[float, float] | None
    slo: dict[str, float | None]
    replicas: int

    def router(self, label: str) -> Router:
        return next(r for r in self.routers if r.label == label)

    def guard(self, label: str) -> GuardSet:
        return next(g for g in self.guards if g.label == label)

    @property
    def mapped(self) -> tuple[GuardSet, ...]:
        return tuple(g for g in self.guards if g.mapped)

    @property
    def fractions(self) -> tuple[float, ...]:
        """Loads of the frontier as fractions of C_ref, ascending."""
        return tuple(sorted({p.fraction for p in self.findings.frontier}))

    @property
    def lengths_s(self) -> tuple[float, ...]:
        return tuple(sorted({p.length_s for p in self.findings.frontier}))

    @property
    def sizes(self) -> tuple[float, float]:
        """The least and the largest size that the frontier knows of; raises ValueError where it knows none."""
        tried = [k for p in self.findings.frontier for k in (*(r[0] for r in p.recovery), *(t[0] for t in p.tries))]
        if not tried:
            raise ValueError("results.duckdb: table frontier holds no size; allowed: tries or recovery with at least one k")
        return min(tried), max(tried)

    @property
    def main_fraction(self) -> float | None:
        """The load that the headline speaks of: the wanted one, or else the frontier's middle one."""
        loads = self.fractions
        if not loads:
            return None
        wanted = self.wanted[0] if self.wanted else loads[len(loads) // 2]
        return min(loads, key=lambda f: (abs(f - wanted), f))

    def asked(self, phase: str) -> tuple[Answer, ...]:
        return tuple(a for a in self.cells if a.ask.phase == phase)

    def fraction(self, load_rps: float) -> float:
        return load_rps / self.findings.c_ref_rps

    def arm_order(self, arm: Arm) -> tuple[int, int]:
        """Sorts arms as the study lists them: by router, then guard set."""
        return (int(self.router(arm[0]).key[1:]), int(self.guard(arm[1]).key[1:]))


def scene_of(findings: Findings, answers: Sequence[Answer], study: dict[str, Any]) -> ProbeScene:
    """The scene of a probe; raises ValueError when it has no cell."""
    if not answers:
        raise ValueError("results.duckdb: table answers is empty: there is nothing to report")
    cells = tuple(sorted(answers, key=lambda a: (PHASES.index(a.ask.phase), a.ask, a.cell_id)))
    asked = {a.ask.guard for a in cells} | {c.guard for c in findings.cures}
    mapped = in_order((g for g in asked if g in names(study.get("guards"))), names(study.get("guards")))
    mapped = mapped or in_order({a.ask.guard for a in cells if a.ask.phase != "cure"}, [])
    labels = [*mapped, *in_order((g for g in asked if g not in mapped), [])]
    guards = [
        GuardSet(f"g{i}", label, theme.condition_colour(i), theme.condition_dash(i), label in mapped)
        for i, label in enumerate(labels)
    ]
    report, probe = study.get("report") or {}, study.get("probe") or {}
    wanted = probe.get("wanted")
    return ProbeScene(
        title=str(report.get("title") or study.get("name") or "stampede probe"),
        routers=cast_routers(in_order((a.ask.router for a in cells), names(study.get("routers"))), {"oracle"}),
        guards=tuple(guards),
        findings=findings,
        cells=cells,
        number={a.cell_id: i for i, a in enumerate(cells, 1)},
        wanted=(float(wanted["fraction"]), float(wanted["k"])) if wanted else None,
        slo={name: (study.get("slo") or {}).get(name) for name in ("ttft_s", "tpot_s", "e2e_s")},
        replicas=int((study.get("pool") or {}).get("replicas") or 0),
    )


def evidence(scene: ProbeScene, cells: Sequence[str]) -> str:
    """`12–21, 45`: the numbers of the cells in the list of cells. Raises ValueError for a cell that no row of `answers` has."""
    missing = next((c for c in cells if c not in scene.number), None)
    if missing is not None:
        raise ValueError(f"results.duckdb: cell {missing!r} is named as evidence and is not in table answers")
    numbers = sorted({scene.number[c] for c in cells})
    spans: list[list[int]] = [[n, n] for n in numbers[:1]]
    for before, n in pairwise(numbers):
        if n == before + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans)


def survived(point: FrontierPoint, sizes: tuple[float, float]) -> str:
    """`4.5×`, `> 8×`, `< 1.25×` or `unstable`: the survived size in words."""
    if not point.stable:
        return "unstable"
    if point.k is not None:
        return size(point.k)
    return f"> {size(sizes[1])}" if beyond(point) else f"< {size(sizes[0])}"


def beyond(point: FrontierPoint) -> bool:
    """True where a survived size that is None lies above the largest size tried: the tries say on which side."""
    if point.k is not None:
        return False
    if point.low is not None:
        return True
    if point.high is not None:
        return False
    back = sum(recovered for _, recovered in point.tries)
    return 2 * back >= len(point.tries)


def size(k: float) -> str:
    """`1.25×`, `2.6×`, `12×`: as fine as sizes are tried."""
    return f"{k:.2f}".rstrip("0").rstrip(".") + "×" if k < 2 else f"{float(f'{k:.1f}'):g}×" if k < 10 else f"{k:.0f}×"
