"""What can be done to a served replica from outside, for tests: `POST /fault`. It knows the order, not how it is carried out."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from replicas.served.api_error import ApiError

Kind = Literal["pause", "slow", "refuse", "kill", "flush", "resume"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fault:
    """`for_s` None: until a `resume`. `factor`: how many times slower; `status`: of the refusals.

    pause: the engine stands still; slow: it takes `factor` times as long; refuse: every request is answered `status`; kill: all
    is lost and the port closed for `for_s`, then a cold engine; flush: the prefix cache forgets; resume: the end of all faults.
    """

    kind: Kind
    for_s: float | None
    factor: float
    status: int


def read_fault(body: dict[str, Any]) -> Fault:
    """ApiError 400 names the key, its value and what is allowed."""
    kind = body.get("kind")
    if kind not in KINDS:
        raise ApiError(400, f"kind = {kind!r}: must be one of {', '.join(KINDS)}", param="kind")
    unknown = set(body) - {"kind", "for_s", "factor", "status"}
    if unknown:
        raise ApiError(400, f"unknown key {min(unknown)!r}; allowed: kind, for_s, factor, status")
    for_s = _number(body, "for_s", None, 0.0, 1e6)
    if kind == "kill" and for_s is None:
        for_s = 1.0
    factor, status = _number(body, "factor", 2.0, 1.0, 1e6), _number(body, "status", 503.0, 400.0, 599.0)
    assert factor is not None
    assert status is not None
    return Fault(kind, for_s, factor, int(status))


def _number(body: dict[str, Any], name: str, default: float | None, least: float, most: float) -> float | None:
    value = body.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ApiError(400, f"{name} = {value!r}: must be a number of {least:g} … {most:g}", param=name)
    return float(value)
