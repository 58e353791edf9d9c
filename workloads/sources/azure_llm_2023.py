"""Azure LLM inference trace 2023: one CSV row a request, lengths and times only. It knows no sessions and no shared prefixes."""

from pathlib import Path
from typing import Any

from workloads.conversation import Conversation, Trace, Turn
from workloads.sources.download import url_file
from workloads.sources.source import Source, file_sha256, first_text

_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_URL = (
    "https://raw.githubusercontent.com/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/"
    "data/AzureLLMInferenceTrace_conv.csv"
)


def recognises(path: Path) -> bool:
    return first_text(path).split("\n", 1)[0].strip().split(",") == _COLUMNS


def load(path: Path, seed: int = 0) -> Trace:
    """Read TIMESTAMP (naive, up to 7 fractional digits, cut to µs), ContextTokens, GeneratedTokens; CRLF or LF.

    Every row is a conversation of one turn with content of its own. Raises ValueError "FILE:LINE: …" on a malformed row.
    """
    if not recognises(path):
        raise ValueError(f"{path}:1: expected the header {','.join(_COLUMNS)!r}")
    table = _typed(path, _text_table(path))
    starts_us = table["TIMESTAMP"].to_numpy()
    unordered = int((starts_us[1:] < starts_us[:-1]).sum()) if len(starts_us) else 0
    if unordered:
        table = table.sort("TIMESTAMP", maintain_order=True)
    first_us = int(starts_us.min()) if len(starts_us) else 0
    conversations = tuple(
        Conversation(conversation_id=f"row-{line}", turns=(Turn(prompt, reply),), start_s=(us - first_us) / 1e6)
        for line, us, prompt, reply in table.select("line", *_COLUMNS).iter_rows()
    )
    return Trace(
        AZURE_LLM_2023.name,
        conversations,
        {
            "source": AZURE_LLM_2023.name,
            "licence": AZURE_LLM_2023.licence,
            "citation": AZURE_LLM_2023.citation,
            "file": path.name,
            "sha256": file_sha256(path),
            "rows_read": len(conversations),
            "rows_dropped": {},
            "rows_changed": {"out of time order: sorted": unordered} if unordered else {},
            "token_counts": "exact",
            "synthetic": False,
            "has_timestamps": True,
            "has_sessions": False,
            "notes": ["lengths only: every prompt counts as unique content, so nothing is shared between requests"],
        },
    )


def _text_table(path: Path) -> Any:
    """Three text columns and the line of each row."""
    import polars as pl

    try:
        table = pl.read_csv(path, infer_schema=False, quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise _ragged(path) or ValueError(f"{path}: not a CSV file: {str(error).splitlines()[0]}") from error
    if table.width != len(_COLUMNS) or table.null_count().row(0) != (0, 0, 0):
        # polars skips no row without saying so, but reads a short row's missing fields as null
        raise _ragged(path) or ValueError(f"{path}: expected {len(_COLUMNS)} columns, found {table.width}")
    return table.with_row_index("line", offset=2).with_columns(pl.col("GeneratedTokens").str.strip_chars_end("\r"))


def _ragged(path: Path) -> ValueError | None:
    """The first row that has not exactly three filled fields."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\r\n").split(",")
            if len(fields) != len(_COLUMNS) or not all(fields):
                return ValueError(f"{path}:{number}: expected {','.join(_COLUMNS)}, found {line.rstrip()[:80]!r}")
    return None


def _typed(path: Path, text: Any) -> Any:
    """Microseconds and integers; the first value that is neither raises."""
    import polars as pl

    table = text.with_columns(
        pl.col("TIMESTAMP").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False).dt.epoch("us"),
        *(pl.col(c).cast(pl.Int32, strict=False) for c in _COLUMNS[1:]),
    )
    wanted = {"TIMESTAMP": "a time as YYYY-MM-DD HH:MM:SS.fffffff", **dict.fromkeys(_COLUMNS[1:], "a number of tokens ≥ 0")}
    for column, allowed in wanted.items():
        bad = table[column].is_null() if column == "TIMESTAMP" else table[column].is_null() | (table[column] < 0)
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise ValueError(f"{path}:{text['line'][row]}: {column} is {text[column][row][:60]!r}; expected {allowed}")
    return table


AZURE_LLM_2023 = Source(
    name="azure_llm_2023",
    about="Azure production requests of 2023, one hour: times and token counts, no sessions (by name: the conversation trace)",
    licence="CC-BY-4.0",
    citation="Patel et al., Splitwise: Efficient generative LLM inference using phase splitting, ISCA 2024",
    recognises=recognises,
    load=load,
    fetch=lambda: url_file("azure_llm_2023", _URL),
)
