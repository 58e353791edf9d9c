"""ServeGen's token lengths: histograms of a client for steps of six hours. It does not know when the client asks."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.sources.json_array import shown
from workloads.sources.json_lines import INT32, LONGEST_BYTES, parsed

Ints = npt.NDArray[np.int64]
FIELDS = ("input_tokens", "output_tokens")
_LONGEST_LITERAL = 4 << 20
_LITERAL = re.compile(r"[0-9eE+\-.,:{}\s]*")
_WHOLE = re.compile(r"\s*[0-9]{1,10}\s*")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Token counts, ascending, and their cumulative probabilities (the last is 1)."""

    tokens: Ints
    cumulative: npt.NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.tokens @ np.diff(self.cumulative, prepend=0.0))

    def draw(self, count: int, draw: np.random.Generator) -> Ints:
        return self.tokens[np.searchsorted(self.cumulative, draw.random(count), side="right")]


class TokenLengths:
    """The histograms of one client's chunk-N-dataset.json, parsed when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = b""
        self._steps: dict[int, dict[str, Any]] = _steps(path) if path.is_file() else {}
        self._order = sorted(self._steps)
        self._known: dict[tuple[int, str], Histogram | None] = {}

    @property
    def steps(self) -> list[int]:
        """Beginnings of the steps, seconds; none where the client has no such file."""
        return self._order

    def at(self, time_s: float, field: str) -> Histogram | None:
        """The histogram of the step that holds the time; None where it is empty or there is none."""
        place = bisect_right(self._order, time_s) - 1
        if place < 0:
            return None
        key = (self._order[place], field)
        if key not in self._known:
            self._known[key] = self._parse(*key)
        return self._known[key]

    def _parse(self, step: int, field: str) -> Histogram | None:
        try:
            return _histogram(self._steps[step].get(field))
        except ValueError as error:
            raise ValueError(f"{self._path}:{_line(self._path, step)}: {field} of step {step} {error}") from error


def _histogram(text: Any) -> Histogram | None:
    """The histogram in a text "{tokens: probability, …}"; None for an empty one. Says what is wrong without its place."""
    if not isinstance(text, str) or len(text) > _LONGEST_LITERAL or not _LITERAL.fullmatch(text):
        said = text if isinstance(text, str) else shown(text)
        raise ValueError(f"is {said[:40]!r}; expected a text {{tokens: probability, …}} of up to {_LONGEST_LITERAL} characters")
    pairs = sorted((tokens, share) for tokens, share in _shares(text).items() if share > 0)
    if not pairs:
        return None
    shares = np.array([share for _, share in pairs], dtype=np.float64)
    if abs(shares.sum() - 1.0) > 1e-3:
        raise ValueError(f"sums to {shares.sum():.6g}; expected probabilities that sum to 1")
    cumulative = np.cumsum(shares) / shares.sum()
    cumulative[-1] = 1.0
    return Histogram(np.array([tokens for tokens, _ in pairs], dtype=np.int64), cumulative)


def _shares(text: str) -> dict[int, float]:
    """The text of a Python dict, read without Python: its parser takes 500 bytes for every byte of such a text."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError(f"is {text[:40]!r}; expected {{tokens: probability, …}}")
    items = inner[1:-1].strip().removesuffix(",")
    found: dict[int, float] = {}
    for item in items.split(",") if items else ():
        tokens, colon, share = item.partition(":")
        if not colon or "{" in item or "}" in item:
            raise ValueError(f"is {text[:40]!r}; expected {{tokens: probability, …}}")
        try:
            value = float(share) if len(share) < 64 else -1.0
        except ValueError:
            value = -1.0
        if not _WHOLE.fullmatch(tokens) or int(tokens) >= INT32 or not 0 <= value <= 2:
            said = share.strip()[:20] if value < 0 else value
            raise ValueError(f"holds {tokens.strip()[:20]}: {said}; expected whole tokens and a probability")
        found[int(tokens)] = value
    return found


def _steps(path: Path) -> dict[int, dict[str, Any]]:
    text = _text(path)
    value = parsed(text, path, 1)
    if not isinstance(value, dict) or not all(k.isascii() and k.isdigit() and len(k) < 11 for k in value):
        raise ValueError(f"{path}:1: expected an object of steps by their start in seconds, found {shown(value)!r}")
    for key, fields in value.items():
        if not isinstance(fields, dict):
            raise ValueError(f"{path}:{_line(path, int(key))}: step {key} is {shown(fields)!r}; expected an object of histograms")
    return {int(key): fields for key, fields in value.items()}


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(LONGEST_BYTES + 1)
    if len(text) > LONGEST_BYTES:
        raise ValueError(f"{path}:1: more than {LONGEST_BYTES} bytes; allowed: up to that")
    return text.removeprefix(b"\xef\xbb\xbf")


def _line(path: Path, step: int) -> int:
    """The line on which a step begins, for an error."""
    text = _text(path)
    return 1 + text[: max(0, text.find(b'"%d"' % step))].count(b"\n")
