"""A program that takes vLLM's command line and answers as its API server does, at once; misbehaves as FAKE_* variables say.

FAKE_READY_AFTER_S, FAKE_DIE_AFTER_S, FAKE_IGNORES_TERM, FAKE_HIDES_CHILD (a grandchild in a session of its own), FAKE_FLUSH
(works, lies, absent), FAKE_CACHE (on, off), FAKE_RUNNING (requests that never end). Standard library only.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = 32
BEGAN_S = time.monotonic()
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
SEEN: set[tuple[int, ...]] = set()
COUNTS = {"queries": 0, "hits": 0}


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def wish(name: str, default: str = "") -> str:
    return os.environ.get(f"FAKE_{name}", default)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/metrics":
            rows = {"num_requests_running": wish("RUNNING", "0"), "num_requests_waiting": 0, "kv_cache_usage_perc": 0.25}
            rows |= {f"prefix_cache_{name}_total": count for name, count in COUNTS.items()}
            self.say(200, "".join(f'vllm:{name}{{engine="0"}} {value}\n' for name, value in rows.items()))
        elif self.path == "/health":
            ready = time.monotonic() - BEGAN_S >= float(wish("READY_AFTER_S", "0"))
            self.say(200 if ready else 503, "")
        else:
            self.say(404, "not found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/v1/completions":
            self.complete(json.loads(body))
        elif self.path == "/reset_prefix_cache" and wish("FLUSH", "works") != "absent":
            if wish("FLUSH", "works") == "works":
                SEEN.clear()
            self.say(200, json.dumps({"success": True}))
        else:
            self.say(404, json.dumps({"detail": "Not Found"}))

    def complete(self, asked: dict[str, Any]) -> None:
        prompt = tuple(asked["prompt"])
        cached = (len(prompt) - 1) // BLOCK * BLOCK if prompt in SEEN else 0
        if wish("CACHE", "on") == "on":
            SEEN.add(prompt)
        COUNTS["queries"] += len(prompt)
        COUNTS["hits"] += cached
        usage = {"prompt_tokens": len(prompt), "completion_tokens": asked["max_tokens"]}
        details = {"cached_tokens": cached} if cached else None
        self.say(200, json.dumps({"usage": {**usage, "prompt_tokens_details": details}}))

    def say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    print(f"fake engine at {option('--port')}, began at {time.time():.3f}", flush=True)
    if wish("IGNORES_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    if wish("HIDES_CHILD"):
        subprocess.Popen([*SLEEP, "hidden"], start_new_session=True)
    if wish("DIE_AFTER_S"):
        threading.Timer(float(wish("DIE_AFTER_S")), die).start()
    ThreadingHTTPServer((option("--host"), int(option("--port"))), Handler).serve_forever()


def die() -> None:
    print("the last words of the engine", flush=True)
    os._exit(7)


if __name__ == "__main__":
    main()
