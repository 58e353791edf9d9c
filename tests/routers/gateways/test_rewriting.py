"""What a gateway did to a body, named: on made-up bodies, and on the real gateways."""

from pathlib import Path
from typing import Any

import pytest

from routers.gateways import GATEWAYS, find_gateway
from routers.gateways.rewriting import Rewriting, compared, rewriting_of

SENT: dict[str, Any] = {"prompt": [1], "max_tokens": 4, "seed": 7, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("received", "changes"),
    [
        (SENT, []),
        ({**SENT, "echo": False}, [("echo", "added", "", "false")]),
        ({k: v for k, v in SENT.items() if k != "seed"}, [("seed", "dropped", "7", "")]),
        ({**SENT, "seed": 8}, [("seed", "changed", "7", "8")]),
        (
            {**{k: v for k, v in SENT.items() if k != "max_tokens"}, "max_completion_tokens": 4},
            [("max_tokens", "renamed", "4", "max_completion_tokens")],
        ),
        # equal values alone are no renaming: max_tokens is gone, and best_of = 4 is somebody's default
        (
            {**{k: v for k, v in SENT.items() if k != "max_tokens"}, "best_of": 4},
            [("max_tokens", "dropped", "4", ""), ("best_of", "added", "", "4")],
        ),
        # neither is a false that stands for a 0
        (
            {**{k: v for k, v in SENT.items() if k != "stream_options"}, "stream_options": {"include_usage": False}},
            [("stream_options.include_usage", "changed", "true", "false")],
        ),
        ({**SENT, "prompt": "1"}, [("prompt", "changed", "[1]", '"1"')]),
    ],
)
def test_each_change_has_its_name(received: dict[str, Any], changes: list[tuple[str, str, str, str]]) -> None:
    assert list(compared(SENT, received)) == changes


def rows(name: str, folder: Path) -> list[Rewriting]:
    return rewriting_of(find_gateway(name), folder)


def found(rows: list[Rewriting], form: str, where: str = "body") -> dict[str, str]:
    return {r.field: r.change for r in rows if r.form == form and r.where == where}


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy"])
def test_the_proxies_leave_bodies_and_answers_alone(name: str, tmp_path: Path) -> None:
    assert [r for r in rows(name, tmp_path) if r.where != "header"] == []


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["sglang_router"])
def test_sglang_router_refuses_token_ids_and_renames_max_tokens(name: str, tmp_path: Path) -> None:
    all_rows = rows(name, tmp_path)
    assert [(r.change, r.received) for r in all_rows if r.form == "completion, token ids"] == [("refused", "422")]
    chat = found(all_rows, "chat")
    assert chat["max_tokens"] == "renamed"
    assert chat["return_token_ids"] == "dropped"
    text = found(all_rows, "completion, text")
    assert not {"return_token_ids", "max_tokens", "ignore_eos", "min_tokens", "seed"} & set(text)  # what a trace needs passes
    assert text["no_stop_trim"] == "added"
    assert found(all_rows, "generate, token ids").keys().isdisjoint({"input_ids", "sampling_params"})
    assert found(all_rows, "completion, text", "header") == {"x-session-id": "dropped"}


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["vllm_router"])
def test_vllm_router_adds_fields_and_drops_none_that_a_trace_needs(name: str, tmp_path: Path) -> None:
    all_rows = rows(name, tmp_path)
    for form in ("completion, text", "completion, token ids", "chat"):
        changes = found(all_rows, form)
        assert changes["no_stop_trim"] == "added"
        assert {f: c for f, c in changes.items() if c != "added"} == {"stream_options.continuous_usage_stats": "dropped"}


@pytest.mark.gateway
@pytest.mark.parametrize("name", GATEWAYS)
def test_rows_name_the_gateway_and_agree_on_token_ids(name: str, tmp_path: Path) -> None:
    all_rows = rows(name, tmp_path)
    assert all(r.gateway == name and any(c.isdigit() for c in r.version) for r in all_rows)
    refused = [r for r in all_rows if r.form == "completion, token ids" and r.change == "refused"]
    assert bool(refused) == (not find_gateway(name).takes_token_ids)
