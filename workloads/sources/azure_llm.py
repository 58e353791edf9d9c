"""Azure LLM inference traces of 2023 and 2024: one CSV row a request, lengths and times. It knows no sessions and no users."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.sources.csv_columns import CsvFormat, csv_blocks, csv_format
from workloads.sources.download import RemoteFile, fetch
from workloads.sources.source import ReadOptions, Source, Tally, first_text
from workloads.sources.typed_columns import instants_us, token_counts
from workloads.trace_table import single_turns

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read TIMESTAMP (naive or with an offset, up to 7 fractional digits, cut to µs), ContextTokens, GeneratedTokens.

    Every row is a conversation of one turn with content of its own; blocks of rows stream, so memory does not grow with the
    file. Raises ValueError "FILE:LINE: …" on a malformed row.
    """
    tally.has_sessions = False
    tally.notes.append("lengths only: every prompt counts as unique content, so nothing is shared between requests")
    for block in csv_blocks(path, _format(path), _COLUMNS, integers=_COLUMNS[1:]):
        start_us = instants_us(block.columns["TIMESTAMP"], "TIMESTAMP", block.where)
        prompt, reply = (token_counts(block.columns[name], name, block.where) for name in _COLUMNS[1:])
        tally.rows_read += len(block)
        yield single_turns({"start_us": start_us, "user_tokens": prompt, "reply_tokens": reply})


def _format(path: Path) -> CsvFormat:
    form = csv_format(path)
    if form.names != _COLUMNS:
        raise ValueError(f"{path}:1: expected the header {','.join(_COLUMNS)!r}, found {','.join(form.names)[:80]!r}")
    return form


def _is_azure(path: Path, year: int, code: bool) -> bool:
    """True for the header of these traces; year and kind are told by the first row's date and by the file's name."""
    lines = first_text(path, 4096).splitlines()
    if not lines or tuple(name.strip() for name in lines[0].split(",")) != _COLUMNS:
        return False
    dated = 2024 if len(lines) > 1 and lines[1].startswith("2024") else 2023
    return dated == year and ("code" in path.name.lower()) == code


def _source(year: int, kind: str, about: str, file: RemoteFile, published: dict[str, float]) -> Source:
    name = f"azure_llm_{year}" + ("_code" if kind == "code" else "")
    return Source(
        name=name,
        about=about,
        licence=_LICENCE,
        citation=_CITATIONS[year],
        recognises=lambda path: _is_azure(path, year, kind == "code"),
        read=read,
        fetch=lambda: fetch(name, [file]),
        published=published,
    )


_CITATIONS = {
    2023: "Patel et al., Splitwise: Efficient generative LLM inference using phase splitting, ISCA 2024",
    2024: "Stojkovic et al., DynamoLLM: Designing LLM inference clusters for performance and energy efficiency, HPCA 2025",
}
_LICENCE = "CC-BY-4.0"
_2023 = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/data/"
_2024 = "https://github.com/Azure/AzurePublicDataset/releases/download/dataset-llm-2024/"

AZURE_LLM_2023 = _source(
    2023,
    "conv",
    "Azure production requests of 2023, one hour: times and token counts, no sessions (by name: the conversation trace)",
    RemoteFile(url=f"{_2023}AzureLLMInferenceTrace_conv.csv", licence=_LICENCE),
    {"arrivals.rate_rps": 5.53, "input_tokens.mean": 1155, "output_tokens.mean": 211},
)
AZURE_LLM_2023_CODE = _source(
    2023,
    "code",
    "Azure production requests of 2023, one hour of code completion: times and token counts, very bursty",
    RemoteFile(url=f"{_2023}AzureLLMInferenceTrace_code.csv", licence=_LICENCE),
    {"arrivals.rate_rps": 2.57, "arrivals.gap_cv": 13, "input_tokens.mean": 2048, "output_tokens.mean": 28},
)
AZURE_LLM_2024 = _source(
    2024,
    "conv",
    "Azure production requests of 2024, a week of conversation: 27 million times and token counts, no sessions",
    RemoteFile(
        url=f"{_2024}AzureLLMInferenceTrace_conv_1week.csv",
        sha256="a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941",
        licence=_LICENCE,
    ),
    {},
)
AZURE_LLM_2024_CODE = _source(
    2024,
    "code",
    "Azure production requests of 2024, a week of code completion: 17 million times and token counts, no sessions",
    RemoteFile(
        url=f"{_2024}AzureLLMInferenceTrace_code_1week.csv",
        sha256="71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
        licence=_LICENCE,
    ),
    {},
)
