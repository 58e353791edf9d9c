"""The log of tries: a line for each, with its reason and its end, and nothing that a client said."""

import json
from pathlib import Path
from typing import Any

from routers.serve.proxy import Named
from routers.serve.request_log import RequestLog
from tests.routers.serve.bench import ASK, PATH, Bench, run, until
from tests.routers.serve.fake_replica import Exchange, FakeReplica, stream, whole


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_try_is_a_line(tmp_path: Path) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(whole(b"{}", "503 Busy"))

    async def answer(exchange: Exchange) -> None:
        usage = {"completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
        await exchange.send(stream({"choices": [{"text": "secret answer"}]}, {"choices": [], "usage": usage}))

    async def hang(exchange: Exchange) -> None:
        await exchange.until_gone()

    async def test(bench: Bench) -> None:
        with RequestLog(tmp_path / "log.jsonl") as log:
            bench.proxy.request_log = log
            headers = "authorization: Bearer sk-secret\r\nx-stampede-request: 41.2\r\n"
            await bench.ask({**ASK, "prompt": "secret prompt", "stream": True}, headers=headers)
            bench.replicas[0].script = hang
            client = await bench.client()
            client.send("POST", PATH, ASK)
            await until(lambda: bench.in_flight == [1, 0])
            client.close()
            await until(lambda: bench.in_flight == [0, 0])
        failed, ok, aborted = rows_of(tmp_path / "log.jsonl")
        assert (failed["replica"], failed["router_try"], failed["outcome"], failed["status"]) == (0, 1, "failed", 503)
        assert (ok["replica"], ok["router_try"], ok["outcome"], ok["status"]) == (1, 2, "ok", 200)
        assert (ok["request"], ok["client_attempt"], ok["rid"] == failed["rid"]) == (41, 2, True)
        assert (ok["output_tokens"], ok["cached_tokens"], ok["prompt_tokens"]) == (7, 3, 4)
        assert ok["sent_s"] <= ok["first_byte_s"] <= ok["ended_s"]
        assert (aborted["outcome"], aborted["first_byte_s"]) == ("aborted", None)
        assert ok["reason"]
        assert "secret" not in (tmp_path / "log.jsonl").read_text()

    guards: list[Named] = [("retry", {"exclude": "last", "backoff_s": 0.0})]
    run(test, FakeReplica(refuse), FakeReplica(answer), guards=guards)
