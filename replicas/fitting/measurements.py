"""Reads a folder of engine timings (sweeps and Poisson runs) into arrays. It does not know the model that is fitted to them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RUN_COLUMNS = {"t_sched", "t_send", "t_first", "t_last", "in_len", "out_len"}
SUSPECT_DECODE = ((256, 512),)  # (batch, context): client and engine disagree there, says the folder's README


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """One request alone: `tags` name the configuration; prompt and cached tokens; client-side TTFT in seconds."""

    tags: tuple[str, ...]
    prompt_tokens: Floats
    cached_tokens: Floats
    ttft_s: Floats

    def without(self, tag: str) -> "PrefillRows":
        return self._where(np.array([t != tag for t in self.tags]))

    def only(self, prefix: str) -> "PrefillRows":
        """The configurations whose name starts with `prefix`."""
        return self._where(np.array([t.startswith(prefix) for t in self.tags]))

    def _where(self, keep: npt.NDArray[np.bool_]) -> "PrefillRows":
        tags = tuple(t for t, k in zip(self.tags, keep, strict=True) if k)
        return PrefillRows(tags, self.prompt_tokens[keep], self.cached_tokens[keep], self.ttft_s[keep])


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Steady decode steps: sequences, mean cached tokens of each (prompt plus half the answer), seconds a step."""

    batch: Floats
    context_tokens: Floats
    step_s: Floats
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Attempts of one run (Poisson, or a batch sent at once) in order of sending; times in seconds on the client's clock, NaN for
    the tokens of one that failed.

    `patience_s` is how long clients wait for an answer (None: for ever); attempts of one `content` have one prompt (None: all
    differ).
    """

    name: str
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    scheduled_s: Floats
    sent_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    patience_s: float | None = None
    content: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that one folder holds. `files` are names without folders."""

    files: tuple[str, ...]
    prefill: PrefillRows
    decode: DecodeRows
    batches: tuple[Run, ...]
    runs: dict[str, Run]


def read_calibration(folder: Path, prefill: tuple[str, ...], decode: str, batches: str, runs: tuple[str, ...]) -> Calibration:
    """The named files of `folder`; raises ValueError naming a file that is missing or a row that cannot be read."""
    return Calibration(
        files=(*prefill, decode, batches, *runs),
        prefill=_prefill_rows([row for name in prefill for row in _rows(folder / name)]),
        decode=_decode_rows(_rows(folder / decode)),
        batches=_batches(_rows(folder / batches)),
        runs={Path(name).stem: _run(Path(name).stem, _rows(folder / name)) for name in runs},
    )


def other_runs(folder: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names of further files of the folder that have a run's columns, in order."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        if path.name not in known:
            with path.open(newline="") as lines:
                head = next(csv.reader(lines), [])
            if set(head) >= _RUN_COLUMNS:
                found.append(path.name)
    return tuple(found)


class _Row:
    """One CSV row that names its place when a value is missing or no number; empty cells read as 0."""

    def __init__(self, place: str, values: dict[str, str]) -> None:
        self.place = place
        self.values = values

    def text(self, key: str) -> str:
        if key not in self.values:
            raise ValueError(f"{self.place}: no column {key!r}; there are {', '.join(self.values)}")
        return self.values[key]

    def number(self, key: str, empty: float | None = None) -> float:
        text = self.text(key)
        if not text and empty is not None:
            return empty
        try:
            return float(text)
        except (TypeError, ValueError):
            raise ValueError(f"{self.place}: {key} is {text!r}, not a number") from None


def _rows(path: Path) -> list[_Row]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a calibration folder must hold it")
    with path.open(newline="") as lines:
        reader = csv.DictReader(lines)
        rows = [_Row(f"{path}:{reader.line_num}", values) for values in reader]
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def _column(rows: list[_Row], key: str, empty: float | None = None) -> Floats:
    return np.array([row.number(key, empty) for row in rows], dtype=np.float64)


def _prefill_rows(rows: list[_Row]) -> PrefillRows:
    """An empty `cached` means that the engine reported no hit."""
    return PrefillRows(
        tags=tuple(row.text("tag") for row in rows),
        prompt_tokens=_column(rows, "in_len"),
        cached_tokens=_column(rows, "cached", empty=0.0),
        ttft_s=_column(rows, "ttft"),
    )


def _decode_rows(rows: list[_Row]) -> DecodeRows:
    batch, context, output = _column(rows, "batch"), _column(rows, "ctx"), _column(rows, "out")
    step_s = _column(rows, "steady_step_ms") / 1e3
    keep = np.array([(int(b), int(c)) not in SUSPECT_DECODE for b, c in zip(batch, context, strict=True)])
    dropped = tuple(f"batch {int(b)} at context {int(c)}" for b, c, k in zip(batch, context, keep, strict=True) if not k)
    return DecodeRows(batch[keep], (context + output / 2)[keep], step_s[keep], dropped)


def _batches(rows: list[_Row]) -> tuple[Run, ...]:
    """One run a tag (`decode_<context>_<batch>`), without the suspect ones; each starts its own clock."""
    suspect = {f"decode_{context}_{batch}" for batch, context in SUSPECT_DECODE}
    tags = [tag for tag in dict.fromkeys(row.text("tag") for row in rows) if tag not in suspect]
    return tuple(_run(tag, [row for row in rows if row.text("tag") == tag]) for tag in tags)


def _run(name: str, rows: list[_Row]) -> Run:
    """All attempts; those whose `outcome`, where there is such a column, is not ok have no tokens."""
    rows = sorted(rows, key=lambda row: row.number("t_send"))
    ok = np.array([row.values.get("outcome", "ok") == "ok" for row in rows])
    late = [row for row in rows if row.values.get("outcome") == "timeout"]
    asked = "req_out" if "req_out" in rows[0].values else "out_len"
    return Run(
        name=name,
        prompt_tokens=_column(rows, "in_len").astype(np.int64),
        output_tokens=_column(rows, asked).astype(np.int64),
        scheduled_s=_column(rows, "t_sched"),
        sent_s=_column(rows, "t_send"),
        first_token_s=np.where(ok, _column(rows, "t_first", empty=np.nan), np.nan),
        last_token_s=np.where(ok, _column(rows, "t_last", empty=np.nan), np.nan),
        patience_s=min(row.number("t_end") - row.number("t_send") for row in late) if late else None,
        content=_column(rows, "rid").astype(np.int64) if "attempt" in rows[0].values else None,
    )
