"""JSON values one after another in a file: an array's items, a value a line, or values that span lines. It knows no schema."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.sources.json_array import TextWindow, array_records
from workloads.sources.source import first_text


def json_values(path: Path) -> Iterator[tuple[int, Any]]:
    """(line where it begins, value); memory holds one value and a window of 1 MiB or its size.

    Raises ValueError "FILE:LINE: …" in one line for what is not JSON, and for a file without any value.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a file of JSON")
    if first_text(path).lstrip().startswith("["):
        for line, _, value in array_records(path):
            yield line, value
        return
    with path.open("rb") as file:
        window = TextWindow(path, file)
        window.skip_space()
        number = 0
        while window.peek():
            number += 1
            line = window.line
            yield line, window.value(number)
            window.skip_space()
        if not number:
            raise ValueError(f"{path}:1: nothing there; expected JSON")
