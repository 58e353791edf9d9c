"""What differs between engines on the wire: errors, limits, names. It knows no transport."""

from dataclasses import dataclass
from typing import Any, Protocol

from replicas.engine import Engine
from replicas.served.api_error import ApiError
from replicas.served.meter import Meter


@dataclass(frozen=True, slots=True)
class Gauges:
    """The state of a replica at one moment, for its metrics and loads."""

    model: str
    engine: Engine
    meter: Meter
    own_s: float
    now_s: float
    open: int
    made_tokens: int  # by all sequences, those under way included


class Dialect(Protocol):
    """One engine's manner of speaking; `paths` are the ones that it has beside the common ones (path → methods)."""

    name: str
    owner: str
    guarded: bool  # an API key is asked for outside /v1 too
    paths: dict[str, tuple[str, ...]]

    def meter(self, context_tokens: int) -> Meter: ...

    def error(self, error: ApiError, path: str = "") -> dict[str, Any]:
        """The body of an error's answer on a path."""

    def error_event(self, error: ApiError) -> dict[str, Any]:
        """An error inside a stream."""

    def unknown_model(self, model: str, served: str) -> ApiError | None:
        """None where the engine does not mind."""

    def output_tokens(self, prompt_tokens: int, max_tokens: int | None, context_tokens: int) -> int:
        """How many tokens there will be; ApiError where the prompt, or both, are longer than the context."""

    def refused(self, status: int) -> ApiError:
        """The scheduler would not take a request."""

    def metrics(self, gauges: Gauges) -> list[str]: ...

    def loads(self, gauges: Gauges) -> dict[str, Any]:
        """The body of the engine's own load path."""


def bad_json(error: Exception) -> str:
    return f"1 validation error:\n  {{'type': 'json_invalid', 'loc': 'body', 'msg': 'JSON decode error', 'error': '{error}'}}"


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
