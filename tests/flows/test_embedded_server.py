"""A run uses the server that somebody chose; only without one does it bring its own, and takes it away again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.embedded_server import EMBEDDED, QUIET, Api, answers, prefect_api


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No Prefect setting in the environment, now or afterwards; the user's cache is a temporary folder."""
    for key in {*QUIET, *EMBEDDED, *(k for k in os.environ if k.startswith("PREFECT_"))}:
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    monkeypatch.setenv("PREFECT_HOME", "")
    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stampede" / "prefect"


def test_a_chosen_server_is_used_and_nothing_is_started(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with prefect_api() as api:
        assert api == Api("http://127.0.0.1:9/api")
        assert "PREFECT_SERVER_UI_ENABLED" not in os.environ
        with pytest.raises(RuntimeError, match=r"no Prefect server answered at http://127\.0\.0\.1:9/api \(PREFECT_API_URL\)"):
            api.wait(timeout_s=0.1)
    assert not clean.exists()


@pytest.mark.slow
def test_the_embedded_server_answers_on_loopback_and_goes_with_the_block(clean: Path) -> None:
    with prefect_api() as api:
        assert os.environ["PREFECT_API_URL"] == api.url
        assert api.url.startswith("http://127.0.0.1:")
        api.wait()
    assert not answers(api.url)
    assert "PREFECT_API_URL" not in os.environ
    assert (clean / "prefect.db").is_file()


def test_a_server_that_ends_is_told_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], text=True)
    with process, pytest.raises(RuntimeError, match=r"ended \(exit code 3\); see .*log"):
        Api("http://127.0.0.1:9/api", process, tmp_path / "log").wait()
