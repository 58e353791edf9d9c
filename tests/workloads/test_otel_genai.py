"""Spans of model calls: attributes old and new, conversations with think times, and what is no call of a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from workloads.sources.otel_genai import OTEL_GENAI, read
from workloads.sources.source import ReadOptions, Tally
from workloads.trace import load_trace
from workloads.trace_table import Trace, joined

T0_NS = 1_731_400_000_000_000_000


def attribute(key: str, value: Any) -> dict[str, Any]:
    kind = {str: "stringValue", int: "intValue", bool: "boolValue", list: "arrayValue"}[type(value)]
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def span(begin_s: float, end_s: float, said: dict[str, Any] | None = None, status: int = 0) -> dict[str, Any]:
    """A span as the collector's file exporter writes it: int64 as text, attributes as a list."""
    attributes = said or {}
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": f"chat {attributes.get('gen_ai.request.model', '')}",
        "kind": 3,
        "startTimeUnixNano": str(T0_NS + round(begin_s * 1e9)),
        "endTimeUnixNano": str(T0_NS + round(end_s * 1e9)),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
        "status": {"code": status} if status else {},
    }


def call(begin_s: float, end_s: float, tokens_in: int, tokens_out: int, conversation: str = "", **more: Any) -> dict[str, Any]:
    named = {"gen_ai.conversation.id": conversation} if conversation else {}
    usage = {"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out}
    return span(begin_s, end_s, {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1", **usage, **named, **more})


def traces(*spans: dict[str, Any], **resource: Any) -> dict[str, Any]:
    scope = {"name": "opentelemetry.instrumentation.openai_v2", "version": "2.1b0"}
    attributes = [attribute(key, value) for key, value in ({"service.name": "shop"} | resource).items()]
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def loaded(path: Path) -> Trace:
    tally = Tally()
    table = joined(read(path, ReadOptions(), tally))
    return Trace.of_table("otel_genai", table, OTEL_GENAI.provenance(path, tally))


def write(folder: Path, text: str) -> Path:
    path = folder / "spans.json"
    path.write_text(text)
    return path


def test_a_conversation_is_its_calls_with_think_time_from_end_to_start(tmp_path: Path) -> None:
    spans = [
        call(20, 24, 160, 30, "conv_1", **{"user.id": "ann", "gen_ai.usage.cache_read.input_tokens": 128}),
        call(0, 2, 100, 10, "conv_1", **{"user.id": "ann"}),
        call(1, 9, 7, 3, **{"enduser.id": "bob"}),
        call(23, 25, 300, 5, "conv_1", **{"user.id": "ann"}),
    ]
    trace = loaded(write(tmp_path, json.dumps(traces(*spans))))
    first, second = trace.conversations
    assert [(t.user_tokens, t.reply_tokens, t.gap_s, t.think_s, t.restarts) for t in first.turns] == [
        (100, 10, None, None, False),
        (50, 30, 20.0, 18.0, False),
        (110, 5, 3.0, 0.0, False),  # sent while the answer before it was still being written
    ]
    assert (first.conversation_id, first.tenant, first.model, first.start_s) == ("conv_1", 1, "gpt-4.1", 0.0)
    assert (len(second.turns), second.tenant, second.start_s) == (1, 2, 1.0)
    assert trace.provenance["first_start_us"] == T0_NS // 1000
    assert trace.provenance["rows_changed"]["sent before the answer before it had ended: think time 0"] == 1
    assert "128 of 567 input tokens were read from a cache, as the spans say" in trace.provenance["notes"]


@pytest.mark.parametrize("layout", ["one object", "a line each", "pretty, one behind the other", "an array"])
def test_every_layout_of_the_file_gives_the_same(tmp_path: Path, layout: str) -> None:
    values = [traces(call(t, t + 1, 10 * t + 5, 2, f"c{t % 2}")) for t in range(4)]
    text = {
        "one object": json.dumps({"resourceSpans": [group for value in values for group in value["resourceSpans"]]}),
        "a line each": "\n".join(map(json.dumps, values)) + "\n",
        "pretty, one behind the other": "\n".join(json.dumps(value, indent=2) for value in values),
        "an array": json.dumps(values, indent=1),
    }[layout]
    trace = load_trace(str(write(tmp_path, text)))
    assert (trace.source, trace.provenance["rows_read"]) == ("otel_genai", 4)
    assert [[t.user_tokens for t in c.turns] for c in trace.conversations] == [[5, 18], [15, 18]]


def test_older_attribute_names_and_numbers_as_numbers(tmp_path: Path) -> None:
    old = span(0, 1, {"gen_ai.usage.prompt_tokens": 12, "gen_ai.usage.completion_tokens": 4, "session.id": "s"})
    old["attributes"][0]["value"] = {"intValue": 12}
    old["startTimeUnixNano"], old["endTimeUnixNano"] = T0_NS, T0_NS + 10**9
    newer = {"resource_spans": [{"resource": {}, "instrumentationLibrarySpans": [{"spans": [call(3, 4, 30, 1)]}]}]}
    newer["resource_spans"][0]["instrumentationLibrarySpans"][0]["spans"][0]["attributes"].append(attribute("session.id", "s"))  # type: ignore[index]
    trace = loaded(write(tmp_path, json.dumps(traces(old)) + "\n" + json.dumps(newer)))
    assert [(t.user_tokens, t.think_s) for t in trace.conversations[0].turns] == [(12, None), (14, 2.0)]


def test_what_is_no_call_of_a_model_is_dropped_and_counted(tmp_path: Path) -> None:
    spans = [
        span(0, 9, {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 500}),
        span(0, 1, {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}),
        span(0, 1, {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 5}),
        span(0, 1, {"http.request.method": "POST"}),
        span(0, 1, {"gen_ai.operation.name": "chat", "error.type": "429"}, status=2),
        span(0, 1, {"gen_ai.operation.name": "chat"}),
        span(0, 1, {"gen_ai.operation.name": "text_completion", "gen_ai.usage.input_tokens": 8}),
    ]
    trace = loaded(write(tmp_path, json.dumps(traces(*spans))))
    assert [(t.user_tokens, t.reply_tokens) for c in trace.conversations for t in c.turns] == [(8, 0)]
    assert trace.provenance["rows_dropped"] == {
        "call without input tokens": 1,
        "failed call without token usage": 1,
        "span of operation embeddings": 1,
        "span of operation execute_tool": 1,
        "span of operation invoke_agent": 1,
        "span that is no call of a model": 1,
    }
    assert trace.provenance["rows_changed"] == {"call without output tokens: taken as 0": 1}


def test_the_python_sdks_console_output_is_read_as_it_is_printed(tmp_path: Path) -> None:
    def printed(begin: str, end: str, tokens: int) -> str:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "llama",
            "gen_ai.usage.input_tokens": tokens,
            "gen_ai.usage.output_tokens": 6,
        }
        value: dict[str, Any] = {
            "name": "chat llama",
            "context": {"trace_id": "0x01f441c9c53e793e8808c77939ddbf36", "span_id": "0x779a3a331684439e", "trace_state": "[]"},
            "kind": "SpanKind.CLIENT",
            "parent_id": None,
            "start_time": begin,
            "end_time": end,
            "status": {"status_code": "UNSET"},
            "attributes": attributes,
            "events": [],
            "links": [],
            "resource": {"attributes": {"service.name": "shop", "session.id": "whole process"}, "schema_url": ""},
        }
        return json.dumps(value, indent=4) + "\n"

    first = printed("2024-11-30T14:01:21.738052Z", "2024-11-30T14:01:36.541442Z", 20)
    second = printed("2024-11-30T14:01:40.000000Z", "2024-11-30T14:01:41.000000Z", 50)
    trace = load_trace(str(write(tmp_path, first + second)))
    assert [(t.user_tokens, t.think_s) for t in trace.conversations[0].turns] == [(20, None), (24, 3.458558)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"startTimeUnixNano": "soon"}, r"spans.json:1: span 1: its start is 'soon'; expected nanoseconds since 1970"),
        ({"startTimeUnixNano": True}, r"its start is True"),
        ({"endTimeUnixNano": "1"}, r"span 1: its end is 0; expected a time after its start"),
        ({"attributes": [attribute("gen_ai.usage.input_tokens", -1)]}, r"gen_ai.usage.input_tokens is '-1'; expected a number"),
        ({"attributes": [attribute("gen_ai.usage.input_tokens", True)]}, r"gen_ai.usage.input_tokens is True"),
        ({"attributes": {"a": 1}}, r"spans.json:1: attributes is dict; expected a list of objects"),
        ({"attributes": [{"value": {}}]}, r"an attribute's key is None; expected a text"),
    ],
)
def test_a_malformed_span_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        loaded(write(tmp_path, json.dumps(traces(call(0, 1, 5, 5) | change))))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"spans.json:1: nothing there; expected JSON"),
        ('{"resourceSpans": [', r"spans.json:1: broken JSON"),
        ('{"resourceSpans": []}\n{"a": 1}', r"spans.json:2: neither resourceSpans nor a span; found the keys 'a'"),
        ("[3]", r"spans.json:1: the value is int; expected an object"),
        ('{"resourceSpans": [' + "[" * 100_000, r"spans.json:1: "),
        ('{"resourceSpans": NaN}', r"NaN is no JSON"),
    ],
)
def test_what_is_no_export_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        loaded(write(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_half_a_surrogate_pair_is_no_name(tmp_path: Path) -> None:
    text = json.dumps(traces(call(0, 1, 5, 5, "conv_1"))).replace("conv_1", "\\ud800")
    with pytest.raises(ValueError, match=r"gen_ai.conversation.id is '\\ud800'; expected a text"):
        loaded(write(tmp_path, text))


def test_a_file_of_other_spans_is_an_empty_trace(tmp_path: Path) -> None:
    assert len(loaded(write(tmp_path, json.dumps(traces(span(0, 1)))))) == 0
