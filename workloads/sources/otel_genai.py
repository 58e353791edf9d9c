"""OpenTelemetry spans of generative AI calls: OTLP JSON or the Python SDK's console output. It knows lengths, not contents."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workloads.sources.call_sessions import Calls, Numbering, conversations
from workloads.sources.json_values import json_values
from workloads.sources.source import ReadOptions, Source, Tally, count_reason, first_text
from workloads.sources.typed_columns import bad, instant_us, is_date
from workloads.trace_table import single_turns

_CALLS = ("chat", "text_completion", "generate_content", "completion")
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
)
_CACHED = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cached_tokens")
_SESSION = ("gen_ai.conversation.id", "session.id", "gen_ai.session.id", "langfuse.session.id")
_TENANT = ("user.id", "enduser.id", "gen_ai.user.id")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
"""Attributes of the semantic conventions for generative AI spans, the present name first, then older and other usual ones."""
_MOST_NS = 1 << 62


def recognises(path: Path) -> bool:
    text = first_text(path).lstrip()
    exported = all(f'"{key}"' in text for key in ("start_time", "end_time", "attributes", "context"))
    return text[:1] in ("{", "[") and ('"resourceSpans"' in text or '"resource_spans"' in text or exported)


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read spans from OTLP JSON (one object, or one a line) or from the console exporter of the Python SDK.

    A call is a span with the operation chat, text_completion or generate_content, or without an operation but with token usage.
    Calls of one `gen_ai.conversation.id` (else `session.id`) are a conversation; think time is from a call's end to the next
    one's start. Input tokens count cached ones, as the conventions ask. Raises ValueError "FILE:LINE: …" (line where the JSON
    value begins) for a malformed span. Holds some 60 bytes a call.
    """
    found = _Calls(tally)
    for line, value in json_values(path):
        for number, span in enumerate(_spans(value, f"{path}:{line}"), 1):
            found.add(span, f"{path}:{line}: span {number}")
    tally.notes += [
        "lengths only: a call's new message is what the call before it and its answer do not account for",
        "input tokens include cached ones",
    ]
    if found.cached:
        tally.notes.append(f"{found.cached} of {found.input_total} input tokens were read from a cache, as the spans say")
    yield found.table()


@dataclass(slots=True)
class _Calls:
    """The calls found so far, in columns."""

    tally: Tally
    session: Numbering = field(default_factory=Numbering)
    tenant: Numbering = field(default_factory=lambda: Numbering(first=1))
    model: Numbering = field(default_factory=Numbering)
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    cached: int = 0
    input_total: int = 0

    def add(self, span: "_Span", where: str) -> None:
        self.tally.rows_read += 1
        if reason := span.no_call(where):
            count_reason(self.tally.dropped, reason, "span of another operation")
            return
        start_us, end_us = span.times_us(where)
        prompt, answer = span.tokens(_INPUT, where), span.tokens(_OUTPUT, where)
        if prompt is None:
            failed = span.failed
            self.tally.dropped["failed call without token usage" if failed else "call without input tokens"] += 1
            return
        if answer is None:
            self.tally.changed["call without output tokens: taken as 0"] += 1
        if end_us < start_us:
            raise bad(where, "its end", end_us, f"a time after its start {start_us} (µs)")
        self.cached += span.tokens(_CACHED, where) or 0
        self.input_total += prompt
        names = (self.session.number(span.text(_SESSION, where), -1), self.tenant.number(span.text(_TENANT, where), 0))
        self.rows.extend((*names, self.model.number(span.text(_MODEL, where), -1), prompt, answer or 0, start_us, end_us))

    def table(self) -> Any:
        if not self.rows:
            return single_turns({"user_tokens": [], "reply_tokens": []})
        session, tenant, model, prompt, answer, start_us, end_us = np.frombuffer(self.rows, dtype=np.int64).reshape(-1, 7).T
        whole = {"tenant": pa.array(tenant), "model": self.model.decoded(model)}
        return conversations(Calls(session, self.session.names, prompt, answer, start_us, end_us, whole=whole), self.tally)


@dataclass(frozen=True, slots=True)
class _Span:
    """A span as either exporter writes it: plain attributes, start and end, whether it failed."""

    attributes: Mapping[str, Any]
    start: Any
    end: Any
    failed: bool
    resource: Mapping[str, Any]

    def no_call(self, where: str) -> str:
        """Why the span is no call of a model; empty when it is one."""
        operation = self.text(("gen_ai.operation.name",), where)
        if operation:
            return "" if operation in _CALLS else f"span of operation {operation[:40]}"
        usage = any(name in self.attributes for name in (*_INPUT, *_OUTPUT))
        return "" if usage else "span that is no call of a model"

    def tokens(self, names: tuple[str, ...], where: str) -> int | None:
        """The first of the attributes that is there, as a number of tokens."""
        for name in names:
            value = self.attributes.get(name)
            if value is not None:
                number = _whole(value)
                if number is None or not 0 <= number < 1 << 31:
                    raise bad(where, name, value, "a number of tokens ≥ 0")
                return number
        return None

    def text(self, names: tuple[str, ...], where: str) -> str:
        """The first of the attributes that is there, of the span or else of its resource; empty if none is."""
        for name in names:
            for attributes in (self.attributes, self.resource):
                value = attributes.get(name)
                if value is not None and value != "":
                    if not isinstance(value, str | int | float) or isinstance(value, bool) or not _is_text(str(value)):
                        raise bad(where, name, value, "a text")
                    return str(value)
        return ""

    def times_us(self, where: str) -> tuple[int, int]:
        return _time_us(self.start, "its start", where), _time_us(self.end, "its end", where)


def _spans(value: Any, where: str) -> Iterator[_Span]:
    """All spans of one JSON value: OTLP TracesData, or a span of the console exporter, or a list of either."""
    if isinstance(value, list):
        for item in value:
            yield from _spans_of(_object(item, "an item", where), where)
    else:
        yield from _spans_of(_object(value, "the value", where), where)


def _spans_of(value: Mapping[str, Any], where: str) -> Iterator[_Span]:
    if "attributes" in value and "start_time" in value:
        yield _console_span(value, where)
        return
    groups = _first(value, "resourceSpans", "resource_spans")
    if groups is None:
        raise ValueError(f"{where}: neither resourceSpans nor a span; found the keys {', '.join(map(str, value))[:80]!r}")
    for group in _objects(groups, "resourceSpans", where):
        resource = _attributes(_object(group.get("resource") or {}, "resource", where).get("attributes"), where)
        scopes = _first(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans")
        for scope in _objects(scopes or [], "scopeSpans", where):
            for span in _objects(scope.get("spans") or [], "spans", where):
                yield _otlp_span(span, resource, where)


def _otlp_span(span: Mapping[str, Any], resource: Mapping[str, Any], where: str) -> _Span:
    status = _object(span.get("status") or {}, "status", where).get("code")
    return _Span(
        attributes=_attributes(span.get("attributes"), where),
        start=_first(span, "startTimeUnixNano", "start_time_unix_nano"),
        end=_first(span, "endTimeUnixNano", "end_time_unix_nano"),
        failed=status in (2, "2", "STATUS_CODE_ERROR", "Error"),
        resource=resource,
    )


def _console_span(span: Mapping[str, Any], where: str) -> _Span:
    status = _object(span.get("status") or {}, "status", where).get("status_code")
    resource = _object(span.get("resource") or {}, "resource", where)
    return _Span(
        attributes=_object(span.get("attributes") or {}, "attributes", where),
        start=span.get("start_time"),
        end=span.get("end_time"),
        failed=status == "ERROR",
        resource=_object(resource.get("attributes") or {}, "attributes", where),
    )


def _attributes(pairs: Any, where: str) -> dict[str, Any]:
    """OTLP's list of {key, value: {stringValue | intValue | …}} as a dict; arrays and maps are left as they are."""
    made = {}
    for pair in _objects(pairs or [], "attributes", where):
        key, value = pair.get("key"), pair.get("value")
        if not isinstance(key, str):
            raise bad(where, "an attribute's key", key, "a text")
        made[key] = next(iter(value.values()), None) if isinstance(value, dict) else value
    return made


def _time_us(value: Any, name: str, where: str) -> int:
    """Microseconds from nanoseconds (a number or its text) or from an ISO 8601 time."""
    if isinstance(value, str) and is_date(value):
        return instant_us(value)
    number = _whole(value)
    if number is None or not 0 < number < _MOST_NS:
        raise bad(where, name, value, "nanoseconds since 1970")
    return number // 1000


def _whole(value: Any) -> int | None:
    """A whole number given as a number or as its text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_text(value: str) -> bool:
    """False for half of a surrogate pair, which JSON can hold and no text can."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _first(value: Mapping[str, Any], *names: str) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _object(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{where}: {name} is {type(value).__name__}; expected an object")


def _objects(value: Any, name: str, where: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: {name} is {type(value).__name__}; expected a list of objects")
    for item in value:
        yield _object(item, f"an item of {name}", where)


OTEL_GENAI = Source(
    name="otel_genai",
    about="OpenTelemetry spans of model calls (OTLP JSON or the Python SDK's console output): times, lengths, conversations",
    licence="the user's own",
    citation="OpenTelemetry semantic conventions for generative AI",
    recognises=recognises,
    read=read,
)
