"""A small valid file of every format that can be imported, made by hand. It does not know how formats are read."""

import bz2
import gzip
import io
import json
import lzma
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.workloads.chat_files import LMSYS_SCHEMA, WILDCHAT_SCHEMA, Row, lmsys, wildchat, write_json_lines
from tests.workloads.traces import chat, trace_of
from workloads.conversations_file import write_conversations


@dataclass(frozen=True)
class Sample:
    """Files of a format (several: a folder), the sources that read it, and what its source counts as a row.

    `unit`: "session", "turn", or "other" (rows are neither). `rows`, where a row is a line, counts them independently.
    """

    sources: tuple[str, ...]
    files: Mapping[str, bytes]
    unit: str
    rows: Callable[[bytes], int] | None = None
    text: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path, changed: Mapping[str, bytes] | None = None) -> Path:
        """The file, or the folder of several, written below `folder`; `changed` replaces some contents."""
        top = folder if len(self.files) == 1 else folder / "data"
        for name, content in {**self.files, **(changed or {})}.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content)
        return top / next(iter(self.files)) if len(self.files) == 1 else top


def json_rows(content: bytes) -> int:
    """Lines that hold more than white space."""
    return sum(bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


def csv_rows(content: bytes) -> int:
    """Lines below the header down to the last one that is not blank."""
    below = content.partition(b"\n")[2].rstrip(b"\r\n")
    return below.count(b"\n") + 1 if below else 0


def _lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: list[Row], schema: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, row_group_size=2)
    return bytes(sink.getvalue())


def _json_of(rows: list[Row]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_json_lines(Path(folder) / "rows.jsonl", rows).read_bytes()


def _zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return bytes(sink.getvalue())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _zstd,
    "zip": lambda content: _zip({"README.md": b"read me", "data/inner": content}),
    "stored.zip": lambda content: _zip({"inner": content}, zipfile.ZIP_STORED),
}

_SHAREGPT = [
    {"id": "a_0", "conversations": [{"from": "human", "value": "Héllo 👋"}, {"from": "gpt", "value": "Hi.\nWhat is it?"}]},
    {"id": "b_0", "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "2+2?"}]},
    {"id": "c_0", "conversations": []},
    {
        "id": "d_0",
        "conversations": [
            {"from": "human", "value": "one"},
            {"from": "gpt", "value": "two"},
            {"from": "human", "value": "one"},
            {"from": "gpt", "value": "three"},
        ],
    },
]
_LMSYS = [
    lmsys("l1", ("user", "Hola"), ("assistant", "¡Buenas!"), ("user", "¿y?"), ("assistant", "no")),
    lmsys("l2", ("system", "Be brief."), ("user", "why"), ("assistant", "because")),
    lmsys("l3", ("user", "only asked")),
]
_WILDCHAT = [
    wildchat("w1", 10, ("q", "a", 5.0), ("again", "and so", 65.5)),
    wildchat("w2", 20, ("q", "a", 1.0), user="bb22"),
    wildchat("w1", 30, ("q", "b", None)),
]
_AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"{year}-{month}-16 18:1{i}:46.680590{i}{zone},{4808 + i},{10 * i}\n"
    for year, month, zone in ((2023, 11, ""), (2024, 12, "+00:00"))
    for i in range(4)
)
_AZURE_2023 = "\n".join(line for line in _AZURE.splitlines() if not line.startswith("2024")).encode() + b"\n"
_AZURE_2024 = "\n".join(line for line in _AZURE.splitlines() if not line.startswith("2023")).encode() + b"\n"
_TALK, _API = "Conversation log", "API log"
_BURST_1 = "\n".join(
    [
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        f"5,ChatGPT,472,18,490,{_TALK}",
        f"45,ChatGPT,1087,230,1317,{_TALK}",
        f"45,GPT-4,300,0,300,{_API}",
        f"118,GPT-4,417,276,693,{_API}",
        f"119,GPT-4,3,4,8,{_API}\n",
    ]
).encode()
_BURST_3 = "\n".join(
    [
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
        f"100.0,aa,43,GPT-4,906,446,1352,{_TALK}",
        f"103.0,,2,ChatGPT,36,29,65,{_API}",
        f"192.0,aa,8,GPT-4,1779,123,1902,{_TALK}",
        f"195.0,aa,8,GPT-4,1000,5,1005,{_TALK}",
        f"195.0,bb,1,GPT-4,10,0,10,{_TALK}",
        f"198.0,bb,,GPT-4,10,7,17,{_TALK}\n",
    ]
).encode()
_MOONCAKE = _lines(
    *(
        {"timestamp": 3000 * i, "input_length": 1030 + 300 * i, "output_length": 7 * i, "hash_ids": [0, i + 5, i + 9]}
        for i in range(1, 2)
    ),
    {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": list(range(14))},
    {"timestamp": 3000, "input_length": 700, "output_length": 1, "hash_ids": [0, 40]},
    {"timestamp": 6001, "input_length": 1024, "output_length": 0, "hash_ids": [0, 1]},
)
_QWEN = _lines(
    *(
        dict(
            zip(
                ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn", "hash_ids"),
                row,
                strict=True,
            )
        )
        for row in (
            (7, -1, 1.5, 20, 30, "text", 1, [1, 2]),
            (9, 7, 4.25, 60, 5, "text", 2, [1, 3, 4, 5]),
            (8, 9, 9, 70, 5, "text", 3, [1, 3, 4, 6, 7]),
            (11, 7, 9.5, 33, 2, "search", 2, [1, 2, 9]),
            (12, 99, 11.0, 0, 2, "text", 2, []),
            (13, -1, 12.0, 16, 0, "text", 1, [1]),
        )
    )
)


def _asked(t: float, tokens: int, ids: list[int] | None, **more: object) -> Row:
    return {"t": t, "type": "s", "model": "m-1", "in": tokens, "out": 9, "hash_ids": ids, "api_time": 2.0, **more}


_DELEGATED = {"type": "subagent", "t": 2.0, "requests": [_asked(2, 192, [1, 2, 8]), _asked(4, 200, None, type="n")]}
_SESSIONS = [
    {
        "id": "a",
        "models": ["m-1"],
        "block_size": 64,
        "hash_id_scope": "local",
        "requests": [_asked(0, 192, [1, 2, 3]), _DELEGATED, _asked(9, 266, [1, 2, 3, 4], think_time=3.5, ttft=0.5)],
    },
    {
        "id": "b",
        "models": [],
        "block_size": 64,
        "hash_id_scope": "global",
        "requests": [_asked(5, 64, [1]), _asked(0, 128, [1, 2], think_time=-2)],
    },
]
_STEPS = _lines(
    *(
        {
            "session_id": name,
            "turn_index": turn,
            "input_tokens": tokens,
            "output_tokens": 9,
            "model_id": "m-1",
            "request_arrival_delta_s": 10.0 * turn,
            "think_time_s": 1.5,
            "api_time_s": 2.0,
        }
        for name, turn, tokens in (("a", 0, 300), ("a", 1, 450), ("b", 1, 20), ("a", 2, 250), ("b", 0, 0))
    )
)
_HISTOGRAMS = {"input_tokens": "{10: 0.25, 1000: 0.75}", "output_tokens": "{1: 0.5, 500: 5e-1}"}
_SERVEGEN = {
    "chunk-0-trace.csv": b"0,0.05,1.0,Gamma,1.0,20\n600,0,0,,0,0\n1200,0.02,1.2,Weibull,0.8,44.5\n",
    "chunk-0-dataset.json": json.dumps({"0": _HISTOGRAMS, "21600": dict.fromkeys(_HISTOGRAMS, "{}")}, indent=1).encode(),
    "chunk-12-trace.csv": b"600,0.01,2.0,Gamma,0.25,25\n",
    "chunk-12-dataset.json": json.dumps({"0": _HISTOGRAMS}).encode(),
}


def _attribute(key: str, value: object) -> Row:
    kind = {str: "stringValue", int: "intValue"}[type(value)]
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def _span(begin_s: int, end_s: int, **said: object) -> Row:
    return {
        "name": "chat",
        "startTimeUnixNano": str(1_731_400_000_000_000_000 + begin_s * 10**9),
        "endTimeUnixNano": 1_731_400_000_000_000_000 + end_s * 10**9,
        "attributes": [_attribute(f"gen_ai.{key.replace('__', '.')}", value) for key, value in said.items()],
        "status": {"code": 2} if not said else {},
    }


_SPANS = [
    _span(
        0, 2, operation__name="chat", request__model="m", usage__input_tokens=100, usage__output_tokens=10, conversation__id="c"
    ),
    _span(5, 9, operation__name="chat", usage__input_tokens=160, usage__output_tokens=3, conversation__id="c", user__id="u"),
    _span(1, 2, operation__name="embeddings"),
    _span(6, 7, usage__prompt_tokens=5),
    _span(3, 4),
]


def _exported(*spans: Row) -> Row:
    resource = {"attributes": [_attribute("service.name", "shop")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


_CONSOLE = [
    {
        "name": "chat m",
        "context": {"trace_id": "0x1", "span_id": "0x2"},
        "start_time": f"2024-11-12T08:26:4{i}.123456Z",
        "end_time": f"2024-11-12T08:26:5{i}.5Z",
        "status": {"status_code": "UNSET"},
        "attributes": {"gen_ai.usage.input_tokens": 50 * i, "gen_ai.usage.output_tokens": i, "session.id": "s"},
        "resource": {"attributes": {"service.name": "shop"}},
    }
    for i in range(3)
]
_OWN_CSV = (
    b'prompt;start_time;prompt_tokens;completion_tokens;user\r\n"a;\r\n""b""";2024-05-10T00:00:00Z;3;4.0;"ann"\r\n'
    b"plain;2024-05-10 02:00:01.5+02:00;30;5;bob\r\n;2024-05-11;7;0;\r\n"
)
_OWN_CALLS = (
    b"t,conv_id,user,in,out,model,think_s\n0,a,u1,100,10,big,\n1,b,u2,50,5,small,\n5.5,a,u1,130,20,big,2.5\n7,,u2,5,6,,1\n"
)
_OWN_BLOCKS = _lines(
    {"start_ms": 0, "session_id": "s", "input_tokens": 40, "output_tokens": 5, "blocks": [1, 2, 3], "model": "m"},
    {"start_ms": 9, "session_id": "s", "input_tokens": 16, "output_tokens": "7", "blocks": "[1]", "model": None},
    {"start_ms": 12.5, "session_id": 3, "input_tokens": 0, "output_tokens": 5, "blocks": []},
)
_OWN_TABLE = pa.table(
    {
        "timestamp": pa.array([1_700_000_000_000_000, 1_700_000_000_500_000, None], pa.timestamp("us", "UTC")),
        "session_id": pa.array(["a", "a", None]),
        "input_tokens": pa.array([10, 50, 7], pa.int64()),
        "output_tokens": pa.array([3.0, 4.0, 0.0]),
        "tenant": pa.array(["x", "y", "x"]).dictionary_encode(),
        "hash_ids": pa.array([[1], [1, 2, 3, 4], [5]]),
    }
)
_WINDOWS = pa.table(
    {
        name: [value]
        for name, value in zip(
            ("category", "model", "client", "ts", "rate", "cv", "pattern", "shape", "scale"),
            ("language", "m", 1, 0, 1.0, 1.0, "Gamma", 1.0, 1.0),
            strict=True,
        )
    }
)


def _bytes_of(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def _conversations() -> bytes:
    trace = trace_of(chat("a", (10, 5), (20, 6), tenant=1, language="English"), chat("b", (3, 0), start_s=2.0))
    with tempfile.TemporaryDirectory() as folder:
        return write_conversations(trace, Path(folder) / "c.parquet").read_bytes()


def _named(name: str, content: bytes, sources: tuple[str, ...], unit: str, **more: Any) -> Sample:
    return Sample(sources, {name: content}, unit, **more)


_AZURES = ("azure_llm_2023", "azure_llm_2023_code", "azure_llm_2024", "azure_llm_2024_code")
_QWENS = ("qwen_bailian", "qwen_bailian_api", "qwen_bailian_coder", "qwen_bailian_thinking")
_MOONCAKES = ("mooncake", "mooncake_toolagent", "mooncake_synthetic")
_OF_CALLS = {"start_s": "t", "input_tokens": "in", "output_tokens": "out"}
_OF_BLOCKS = {"hash_ids": "blocks", "block_tokens": "16"}

SAMPLES: dict[str, Sample] = {
    "sharegpt": _named("s.json", json.dumps(_SHAREGPT, indent=1, ensure_ascii=False).encode(), ("sharegpt",), "session"),
    "sharegpt_one_line": _named("s.json", json.dumps(_SHAREGPT).encode(), ("sharegpt",), "session"),
    "lmsys_lines": _named("l.jsonl", _json_of(_LMSYS), ("lmsys_chat_1m",), "session", rows=json_rows),
    "lmsys_parquet": _named("l.parquet", _parquet(_LMSYS, LMSYS_SCHEMA), ("lmsys_chat_1m",), "session", text=False),
    "wildchat_lines": _named("w.jsonl", _json_of(_WILDCHAT), ("wildchat",), "session", rows=json_rows),
    "wildchat_parquet": _named("w.parquet", _parquet(_WILDCHAT, WILDCHAT_SCHEMA), ("wildchat",), "session", text=False),
    "wildchat_shards": Sample(("wildchat",), {f"{i}.jsonl": _json_of([row]) for i, row in enumerate(_WILDCHAT)}, "session"),
    "azure_2023": _named("a.csv", _AZURE_2023, _AZURES[:2], "turn", rows=csv_rows),
    "azure_2024": _named("code.csv", _AZURE_2024, _AZURES[2:], "turn", rows=csv_rows),
    "burstgpt_1": _named("BurstGPT_1.csv", _BURST_1, ("burstgpt_1", "burstgpt_2", "burstgpt"), "turn", rows=csv_rows),
    "burstgpt_3": _named("BurstGPT_3.csv", _BURST_3, ("burstgpt", "burstgpt_1"), "turn", rows=csv_rows),
    "mooncake": _named("m.jsonl", _MOONCAKE, _MOONCAKES, "turn", rows=json_rows),
    "qwen": _named("q.jsonl", _QWEN, _QWENS, "turn", rows=json_rows),
    "agent_raw": _named("g.jsonl", _lines(*_SESSIONS), ("agent_sessions",), "request"),
    "agent_indented": _named("g.json", json.dumps(_SESSIONS[0], indent=1).encode(), ("agent_sessions",), "request"),
    "agent_folder": Sample(
        ("agent_sessions",), {f"{s['id']}.json": json.dumps(s, indent=1).encode() for s in _SESSIONS}, "request"
    ),
    "agent_normalised": _named("n.jsonl", _STEPS, ("agent_sessions",), "request", rows=json_rows),
    "servegen": Sample(("servegen",), _SERVEGEN, "other"),
    "servegen_windows": _named("v.parquet", _bytes_of(_WINDOWS), ("servegen",), "other", text=False),
    "otel_lines": _named("o.jsonl", _lines(*(_exported(s) for s in _SPANS)), ("otel_genai",), "turn"),
    "otel_array": _named("o.json", json.dumps([_exported(*_SPANS)], indent=1).encode(), ("otel_genai",), "turn"),
    "otel_console": _named("o.json", "\n".join(json.dumps(s, indent=2) for s in _CONSOLE).encode(), ("otel_genai",), "turn"),
    "own_csv": _named("c.csv", _OWN_CSV, ("own",), "turn"),
    "own_calls": _named("c.csv", _OWN_CALLS, ("own",), "turn", columns=_OF_CALLS),
    "own_blocks": _named("c.jsonl", _OWN_BLOCKS, ("own",), "turn", rows=json_rows, columns=_OF_BLOCKS),
    "own_parquet": _named("c.parquet", _bytes_of(_OWN_TABLE.slice(0, 2)), ("own",), "turn", text=False),
    "own_nulls_parquet": _named("c.parquet", _bytes_of(_OWN_TABLE), ("own",), "turn", text=False),
    "conversations": _named("t.parquet", _conversations(), (), "other", text=False),
}  # fmt: skip
