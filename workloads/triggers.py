"""What disturbs a run: the kinds of trigger, their parameters, and the sessions they add. It does not know what the pool does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.content import LONG_PROMPT
from workloads.draws import generator
from workloads.events import EVENTS, Event, check_event, event_of
from workloads.lengths import SessionLengths
from workloads.mixing import content_ids, uniforms
from workloads.request_table import UNKNOWN_US, RequestTable
from workloads.sessions import Sessions, request_table, turns_before
from workloads.trace_table import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_EXTRA_PASS = 1 << 52  # content passes of a trigger's sessions, far from those of the base load


@dataclass(frozen=True, slots=True)
class Scene:
    """What a trigger may look at: the trace, all base sessions (also those without a turn in the run), and when it strikes."""

    trace: Trace
    lengths: SessionLengths
    base: Sessions
    load_rps: float
    seed: int
    start_s: float
    d_s: float
    parameters: Mapping[str, Any]
    session_id: int
    deadline_us: int
    nominal_tpot_s: float


@dataclass(frozen=True, slots=True)
class Extra:
    """The sessions a trigger adds, one turn each, and their planned rate over the trigger phase."""

    table: RequestTable
    planned_rps: float

    @staticmethod
    def none() -> "Extra":
        return Extra(RequestTable.of(()), 0.0)


@dataclass(frozen=True, slots=True)
class Bound:
    """A parameter's default, its bounds, and whether it must be whole or may be null."""

    default: float | None
    least: float
    most: float = float("inf")
    whole: bool = False
    optional: bool = False

    def problem(self, value: Any) -> str:
        if value is None:
            return "" if self.optional else "expected a number"
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return "expected a whole number" if self.whole else "expected a number"
        if not self.least <= value <= self.most or value == float("inf"):
            return f"expected ≥ {self.least:g}" + (f" and ≤ {self.most:g}" if self.most < float("inf") else "")
        return ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One kind: `about` in words, its parameters besides `kind` and `d_s`, and what it adds to the load."""

    about: str
    parameters: Mapping[str, Bound] = field(default_factory=dict)
    extra: Callable[[Scene], Extra] = lambda scene: Extra.none()


def _spike(scene: Scene) -> Extra:
    """Single-turn sessions at extra rate (k−1)·load. Each is a turn of the trace drawn like any other, with its whole history
    as a prompt that nobody has cached (the system prompt excepted), so that k times the requests is k times the tokens."""
    turns = np.repeat(np.arange(len(scene.lengths.turns)), scene.lengths.turns)
    return _drawn_turns(scene, turns, np.arange(len(turns)), scene.parameters["k"] - 1)


def _tenant_hotspot(scene: Scene) -> Extra:
    """A spike whose extra sessions all come from one tenant: the one named, or the one with the most turns."""
    tenant_of = scene.trace.tenant[scene.lengths.index]
    weight = np.bincount(tenant_of, weights=scene.lengths.turns)
    if np.count_nonzero(weight) < 2:
        raise ValueError(
            f"trigger.kind is 'tenant_hotspot'; the trace {scene.trace.source!r} names fewer than two tenants: use spike"
        )
    wanted = int(np.argmax(weight)) if scene.parameters["tenant"] is None else int(scene.parameters["tenant"])
    if wanted >= len(weight) or not weight[wanted]:
        raise ValueError(f"trigger.tenant is {wanted}; the trace {scene.trace.source!r} has no usable turn of it")
    place_of = np.repeat(np.arange(len(scene.lengths.turns)), scene.lengths.turns)
    return _drawn_turns(scene, place_of, np.flatnonzero(tenant_of[place_of] == wanted), scene.parameters["k"] - 1)


def _long_prompts(scene: Scene) -> Extra:
    """Requests at `share` of the base load with prompts of `prompt_tokens`, each of its own content, and short answers."""
    due_s = _master_times(scene, scene.parameters["share"])
    n = len(due_s)
    ones = np.ones(n, dtype=np.int64)
    return Extra(
        RequestTable(
            session_id=np.arange(scene.session_id, scene.session_id + n),
            turn=0 * ones,
            arrival_us=np.rint(due_s * 1e6).astype(np.int64),
            think_us=UNKNOWN_US * ones,
            prompt_tokens=int(scene.parameters["prompt_tokens"]) * ones,
            reply_id=content_ids(LONG_PROMPT, np.arange(n), 1),
            output_tokens=int(scene.parameters["output_tokens"]) * ones,
            tenant=0 * ones,
            deadline_us=scene.deadline_us * ones,
            extends=np.zeros(n, dtype=bool),
            new_bounds=np.arange(n + 1),
            new_ids=content_ids(LONG_PROMPT, np.arange(n), 0),
            new_tokens=int(scene.parameters["prompt_tokens"]) * ones,
        ),
        scene.parameters["share"] * scene.load_rps,
    )


def _session_stampede(scene: Scene) -> Extra:
    """Every session that is nominally alive when it strikes sends its latest turn again, `copies` times, within `spread_s`:
    the same prompts at once, as after a lost connection. Alive: its answer is under way or another turn will follow."""
    due = turns_before(scene.lengths, scene.base.place, scene.base.start_s, scene.start_s)
    latest = scene.lengths.first[scene.base.place] + np.maximum(due, 1) - 1
    ends_s = scene.base.start_s + scene.lengths.due_s[latest] + scene.lengths.output[latest] * scene.nominal_tpot_s
    alive = np.flatnonzero((due > 0) & ((due < scene.lengths.turns[scene.base.place]) | (ends_s > scene.start_s)))
    copies = int(scene.parameters["copies"])
    again = np.repeat(alive, copies)
    number = np.tile(np.arange(copies), len(alive))
    offset_s = uniforms(np.full(len(again), scene.seed), again, number) * float(scene.parameters["spread_s"])
    turn = due[again] - 1
    place = scene.base.place[again]
    start_s = scene.start_s + offset_s - scene.lengths.due_s[scene.lengths.first[place] + turn]
    sessions = Sessions(place, scene.base.reuse[again], start_s, turn, turn + 1)
    return Extra(_table(scene, sessions), len(again) / scene.d_s if scene.d_s else 0.0)


def _drawn_turns(scene: Scene, place_of: Ints, eligible: Ints, share: float) -> Extra:
    """Turns drawn without repetition (in passes) from the eligible ones, at `share` of the base load."""
    due_s = _master_times(scene, share)
    position = np.arange(len(due_s))
    shuffled = generator(scene.seed, "spike-turns").permutation(eligible)
    drawn = shuffled[position % len(shuffled)]
    place = place_of[drawn]
    turn = drawn - (np.cumsum(scene.lengths.turns) - scene.lengths.turns)[place]
    start_s = due_s - scene.lengths.due_s[scene.lengths.first[place] + turn]
    sessions = Sessions(
        place, _EXTRA_PASS + position, start_s, turn, turn + 1
    )  # a pass each: two turns of one session share nothing
    return Extra(_table(scene, sessions), share * scene.load_rps)


def _master_times(scene: Scene, share: float) -> Floats:
    """Times of a Poisson process of `share` × the base load in the trigger phase, ordered by mark.

    One master process in the plane (time × mark), unit mark = one load, made layer by layer: a share's points are those with
    mark < share, so a smaller trigger is a subset of a larger one, in front.
    """
    times, marks = [np.empty(0)], [np.empty(0)]
    for layer in range(ceil(share)):
        draw = generator(scene.seed, "spike", layer)
        n = int(draw.poisson(scene.load_rps * scene.d_s))
        layer_times = scene.start_s + draw.random(n) * scene.d_s
        layer_marks = layer + draw.random(n)
        order = np.argsort(layer_marks, kind="stable")
        times.append(layer_times[order])
        marks.append(layer_marks[order])
    kept = int(np.searchsorted(np.concatenate(marks), share))
    return np.concatenate(times)[:kept]


def _table(scene: Scene, sessions: Sessions) -> RequestTable:
    return request_table(
        scene.trace, scene.lengths, sessions, session_id=scene.session_id, deadline_us=scene.deadline_us, absolute=True
    )


_K = {"k": Bound(3.0, 1.0, 1000.0)}
TRIGGERS: dict[str, Trigger] = {
    "placebo": Trigger("nothing: the same phases undisturbed", {"k": Bound(1.0, 1.0, 1000.0)}),
    "spike": Trigger("load × k, extra single-turn sessions of cold prompts", _K, _spike),
    "long_prompts": Trigger(
        "extra requests of very long prompts at a share of the load",
        {
            "share": Bound(0.2, 1e-6, 1000.0),
            "prompt_tokens": Bound(32_768, 1, 2**31 - 1, whole=True),
            "output_tokens": Bound(16, 1, 2**31 - 1, whole=True),
        },
        _long_prompts,
    ),
    "session_stampede": Trigger(
        "every live session sends its latest turn again, at once",
        {"copies": Bound(1, 1, 1000, whole=True), "spread_s": Bound(1.0, 0.0)},
        _session_stampede,
    ),
    "tenant_hotspot": Trigger(
        "load × k, all of the extra from one tenant",
        {**_K, "tenant": Bound(None, 0, 2**31, whole=True, optional=True)},
        _tenant_hotspot,
    ),
    **{kind: Trigger(about=f"an event of the pool: {kind}") for kind in EVENTS},
}
"""By kind. Kinds of `workloads.events.EVENTS` happen to replicas when the trigger phase begins and last for it."""


def check_trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """The trigger {kind, d_s, …} with defaults filled in; ValueError names the key, the value and what is allowed.

    A placebo may keep the k of the spike it stands for: it is 1 then.
    """
    kind = trigger.get("kind")
    if kind not in TRIGGERS:
        raise ValueError(f"trigger.kind is {kind!r}; allowed: {', '.join(TRIGGERS)}")
    duration = trigger.get("d_s", 20.0)
    if problem := Bound(20.0, 0.0, 1e7).problem(duration):
        raise ValueError(f"trigger.d_s is {duration!r}; {problem}")
    rest = {k: v for k, v in trigger.items() if k not in ("kind", "d_s")}
    if kind in EVENTS:
        lasts = {"for_s": duration} if "for_s" in EVENTS[kind] else {}
        event = check_event({"kind": kind, **lasts, **rest}, "trigger")
        return {"kind": kind, "d_s": float(duration), **{k: v for k, v in event.items() if k not in ("kind", "for_s")}}
    bounds = TRIGGERS[kind].parameters
    for key, value in rest.items():
        if key not in bounds:
            raise ValueError(f"trigger.{key} is no parameter of {kind!r}; allowed: {', '.join(('d_s', *bounds))}")
        if problem := bounds[key].problem(value):
            raise ValueError(f"trigger.{key} is {value!r}; {problem}")
    spread_s = rest.get("spread_s", bounds["spread_s"].default) if "spread_s" in bounds else 0.0
    if spread_s > duration:
        raise ValueError(f"trigger.spread_s is {spread_s!r}; expected at most d_s = {duration:g}, the phase that it belongs to")
    made = {"kind": kind, "d_s": float(duration), **{k: b.default for k, b in bounds.items()}, **rest}
    return made | {"k": 1.0} if kind == "placebo" else made


def trigger_words(trigger: Mapping[str, Any]) -> str:
    """A checked trigger as a noun phrase, such as `a 3× burst of 20 s`."""
    t = {**trigger, "d": f"{trigger['d_s']:g} s", "who": "every replica"}
    if t.get("replica_id") is not None:
        t["who"] = f"replica {t['replica_id']}"
    return _WORDS[t["kind"]].format(**t)


_WORDS = {
    "placebo": "a placebo (no burst)",
    "spike": "a {k:g}× burst of {d}",
    "long_prompts": "long prompts ({prompt_tokens:,} tokens) at {share:.0%} of the load for {d}",
    "session_stampede": "a session stampede (every live session sends again, {copies}×, within {spread_s:g} s)",
    "tenant_hotspot": "a {k:g}× burst of {d} from one tenant",
    "pause": "a pause of {who} for {d}",
    "slow": "{who} being {factor:g}× slower for {d}",
    "kill": "the loss of {who} for {d}, back with a cold cache",
    "flush": "a prefix cache flush of {who}",
    "refuse": "{who} refusing {share:.0%} of requests with {status} for {d}",
    "blackout": "a metrics blackout of {who} for {d}",
}


def trigger_events(trigger: Mapping[str, Any], start_s: float) -> tuple[Event, ...]:
    """The event of the pool that a checked trigger is; none where it is extra load."""
    if trigger["kind"] not in EVENTS:
        return ()
    data = {k: v for k, v in trigger.items() if k != "d_s"}
    lasts = {"for_s": trigger["d_s"]} if "for_s" in EVENTS[trigger["kind"]] else {}
    return (event_of({**data, **lasts}, start_s),)
