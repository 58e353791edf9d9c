"""Finished rows of one sender, kept as plain numbers: a row costs a microsecond and no pause, ever. It knows no meaning."""

from array import array
from dataclasses import fields
from operator import attrgetter
from typing import Any

from replay.row_log import RowLog
from replay.rows import Attempt, OpenAttempt

_NULL = -(1 << 62)
_NAMES = [f.name for f in fields(Attempt)]
_TEXTS = ("outcome", "error")
_NUMBERS = [name for name in _NAMES if name not in _TEXTS]
_numbers = attrgetter(*_NUMBERS)


class AttemptRows:
    """Rows in the order in which they were added; `table` gives the columns of `Attempt`."""

    def __init__(self) -> None:
        self._flat = array("q")
        self._texts: dict[str, int] = {}
        self._codes = array("q")

    def __len__(self) -> int:
        return len(self._codes) // len(_TEXTS)

    def add(self, row: OpenAttempt) -> None:
        """Nobody writes this row any more."""
        self._flat.extend([_NULL if value is None else value for value in _numbers(row)])
        texts = self._texts
        self._codes.append(texts.setdefault(row.outcome, len(texts)))
        self._codes.append(texts.setdefault(row.error, len(texts)))

    def table(self) -> Any:
        """All rows as an Arrow table of the schema that every replay writes."""
        import numpy as np
        import pyarrow as pa

        numbers = np.frombuffer(self._flat, dtype=np.int64).reshape(-1, len(_NUMBERS))
        codes = np.frombuffer(self._codes, dtype=np.int64).reshape(-1, len(_TEXTS))
        texts = pa.array(list(self._texts), pa.string())
        columns = {name: pa.array(numbers[:, i], mask=numbers[:, i] == _NULL) for i, name in enumerate(_NUMBERS)}
        columns |= {name: texts.take(pa.array(codes[:, i])) for i, name in enumerate(_TEXTS)}
        schema = RowLog[Attempt](Attempt).table().schema
        return pa.table([columns[name] for name in schema.names], schema=schema)
