"""Downloads by URL are whole or absent, and made once."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workloads.sources.download import cache_folder, url_file


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "trace.csv").write_text("a,b\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once(site: str, tmp_path: Path) -> None:
    path = url_file("mooncake", f"{site}/trace.csv")
    assert path.read_text() == "a,b\n"
    (tmp_path / "site" / "trace.csv").unlink()
    assert url_file("mooncake", f"{site}/trace.csv") == path


def test_a_missing_file_says_what_to_do_and_leaves_nothing(site: str) -> None:
    with pytest.raises(ValueError, match=r"cannot download mooncake .*404.*: stampede trace import mooncake --from FILE"):
        url_file("mooncake", f"{site}/nothing.csv")
    assert list((cache_folder() / "mooncake").iterdir()) == []
