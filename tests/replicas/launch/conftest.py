"""A fake engine to launch, and a look at which of its processes are left."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from replicas.launch.spec import EngineSpec

FAKE = Path(__file__).with_name("fake_engine.py")
MakeSpec = Callable[..., EngineSpec]


@pytest.fixture
def fake_spec(tmp_path: Path) -> MakeSpec:
    """A vLLM's spec whose Python runs the fake engine; keyword arguments are its FAKE_* variables, in small letters."""
    program, model = tmp_path / "python", tmp_path / "model"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKE}" "$@"\n')
    program.chmod(0o755)
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))

    def make(port: int = 0, **wishes: Any) -> EngineSpec:
        environment = {f"FAKE_{name.upper()}": str(value) for name, value in wishes.items()}
        return EngineSpec(engine="vllm", python=program, model=model, port=port, environment=environment)

    return make


def alive(pids: Iterable[int]) -> list[int]:
    """Those that still run; a zombie does not."""
    return [pid for pid in pids if state(pid) not in ("", "Z")]


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def all_gone(pids: Iterable[int], within_s: float = 10.0) -> bool:
    until = time.monotonic() + within_s
    while (left := alive(pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not left


def group_of(pgid: int) -> list[int]:
    """Every process of a process group, from the system's own list."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getpgid(int(name)) == pgid and state(int(name)) != "Z":
                    found.append(int(name))
            except ProcessLookupError:
                continue
    return found
