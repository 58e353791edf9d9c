"""Downloads are whole or absent, made once, resumed and recorded; every failure is one line with a way out."""

import hashlib
import json
import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.file_server import FileServer, file_server
from workloads.sources.download import RemoteFile, cache_folder, check_content, fetch, reach, transfer
from workloads.sources.download.shown import TransferShown, bytes_text
from workloads.sources.download.transfer import Target, receive

TEXT = b"a,b\n" + random.Random(7).randbytes(400_000)
OTHER = b"a,c\n" + random.Random(8).randbytes(300_000)
ROOT = Path(__file__).resolve().parents[2]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "PAUSE_S", 0.0)
    with file_server() as server:
        yield server


def one(site: FileServer, **known: Any) -> RemoteFile:
    return RemoteFile(url=f"{site.url}/trace.csv", **known)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def failure(source: str, *files: RemoteFile) -> str:
    with pytest.raises(ValueError, match=rf"^cannot download {source} .* stampede trace import {source} --from FILE$") as raised:
        fetch(source, files)
    assert "\n" not in str(raised.value)
    return str(raised.value)


class TestCache:
    def test_a_file_is_fetched_once_and_its_origin_recorded(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT, headers={"ETag": '"v1"'})
        path = fetch("mooncake", [one(site, licence="CC-BY-4.0")])
        assert path == cache_folder() / "mooncake" / "trace.csv"
        assert path.read_bytes() == TEXT
        del site.files["/trace.csv"]
        assert fetch("mooncake", [one(site, licence="CC-BY-4.0")]) == path
        assert names(path.parent) == ["trace.csv", "trace.csv.origin.json"]
        record = json.loads((path.parent / "trace.csv.origin.json").read_text())
        assert record.pop("fetched_utc").endswith("+00:00")
        assert record == {
            "address": f"{site.url}/trace.csv",
            "commit": None,
            "etag": '"v1"',
            "size_bytes": len(TEXT),
            "sha256": sha256(TEXT),
            "mtime_ns": path.stat().st_mtime_ns,
            "licence": "CC-BY-4.0",
        }
        check_content(path)

    def test_a_file_that_was_changed_is_fetched_anew_and_said(self, site: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
        site.serve("/trace.csv", TEXT)
        path = fetch("mooncake", [one(site)])
        path.write_bytes(TEXT[:-1])
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert f"has {len(TEXT) - 1} bytes, it had {len(TEXT)} when it was fetched: fetching it anew" in capsys.readouterr().err
        path.write_bytes(bytes(len(TEXT)))
        os.utime(path, ns=(0, 0))
        with pytest.raises(ValueError, match=f"its sha256 is .*, it was {sha256(TEXT)}"):
            check_content(path)
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert "was changed since it was fetched: fetching it anew" in capsys.readouterr().err
        assert len(site.gets("/trace.csv")) == 3

    def test_a_file_that_was_only_touched_stays(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT)
        os.utime(fetch("mooncake", [one(site)]), ns=(0, 0))
        fetch("mooncake", [one(site)])
        assert len(site.gets("/trace.csv")) == 1

    def test_another_address_or_another_known_hash_is_fetched_anew(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT)
        site.serve("/new/trace.csv", OTHER)
        fetch("mooncake", [one(site)])
        moved = RemoteFile(url=f"{site.url}/new/trace.csv")
        assert fetch("mooncake", [moved]).read_bytes() == OTHER
        site.serve("/new/trace.csv", TEXT)
        assert fetch("mooncake", [RemoteFile(url=moved.url, sha256=sha256(TEXT))]).read_bytes() == TEXT
        # the same content under an older address is as good
        assert fetch("mooncake", [one(site, sha256=sha256(TEXT))]).read_bytes() == TEXT
        assert [len(site.gets(p)) for p in ("/trace.csv", "/new/trace.csv")] == [1, 2]

    @pytest.mark.parametrize("record", [None, "{", "[]", '{"address": "x"}'])
    def test_a_file_put_there_by_hand_is_taken_unless_something_else_is_known(self, site: FileServer, record: str | None) -> None:
        path = cache_folder() / "mooncake" / "trace.csv"
        path.parent.mkdir(parents=True)
        path.write_bytes(TEXT)
        if record is not None:
            path.with_name("trace.csv.origin.json").write_text(record)
        assert fetch("mooncake", [one(site)]) == path
        assert site.requests == []
        assert json.loads(path.with_name("trace.csv.origin.json").read_text())["fetched_utc"] is None
        site.serve("/trace.csv", OTHER)
        assert fetch("mooncake", [one(site, sha256=sha256(OTHER))]).read_bytes() == OTHER

    def test_a_cache_that_cannot_be_written_is_one_line(self, site: FileServer, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file where the folder should be")
        site.serve("/trace.csv", TEXT)
        assert "Not a directory" in failure("mooncake", one(site))


class TestSets:
    def test_several_files_are_a_folder_of_exactly_them(self, site: FileServer) -> None:
        site.serve("/a.parquet", TEXT)
        site.serve("/x/b.parquet", OTHER)
        files = [RemoteFile(url=f"{site.url}{p}") for p in ("/a.parquet", "/x/b.parquet")]
        folder = fetch("wildchat", files)
        assert names(folder) == ["a.parquet", "b.parquet"]
        assert [(folder / n).read_bytes() for n in names(folder)] == [TEXT, OTHER]
        assert fetch("wildchat", files) == folder
        assert len(site.requests) == 2
        check_content(folder / "b.parquet")
        (folder / "a.parquet").unlink()
        assert (fetch("wildchat", files) / "a.parquet").read_bytes() == TEXT
        assert [len(site.gets(p)) for p in ("/a.parquet", "/x/b.parquet")] == [2, 1]

    def test_half_a_set_is_not_there_and_is_completed_later(self, site: FileServer) -> None:
        site.serve("/a.parquet", TEXT)
        files = [RemoteFile(url=f"{site.url}{p}") for p in ("/a.parquet", "/b.parquet")]
        assert "404" in failure("wildchat", *files)
        assert [n for n in names(cache_folder() / "wildchat") if not n.startswith(".") and not n.endswith(".json")] == []
        site.serve("/b.parquet", OTHER)
        assert names(fetch("wildchat", files)) == ["a.parquet", "b.parquet"]
        assert len(site.gets("/a.parquet")) == 1

    @pytest.mark.parametrize("files", [[], [RemoteFile(url="https://a.org/x"), RemoteFile(url="https://b.org/x")]])
    def test_no_file_or_one_name_twice_is_refused(self, files: list[RemoteFile]) -> None:
        with pytest.raises(ValueError, match="give one file, or several of different names"):
            fetch("wildchat", files)


class TestResuming:
    def test_a_cut_connection_is_taken_up_again(self, site: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
        site.serve("/trace.csv", TEXT, cuts=[100_000, 50_000])
        assert fetch("mooncake", [one(site, sha256=sha256(TEXT))]).read_bytes() == TEXT
        asked = [(h.get("Range"), h.get("If-Range")) for h in site.gets("/trace.csv")]
        assert asked == [(None, None), ("bytes=100000-", '"1"'), ("bytes=150000-", '"1"')]
        assert "going on after 150.0 kB" in capsys.readouterr().err

    def test_what_came_is_kept_for_the_next_command(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT, cuts=[100_000, 0])
        error = failure("mooncake", one(site))
        assert f"ended after 100000 of {len(TEXT)} bytes; 100.0 kB are kept, the same command goes on from there" in error
        assert names(cache_folder() / "mooncake") == [".trace.csv.part", ".trace.csv.part.json"]
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert site.gets("/trace.csv")[-1]["Range"] == "bytes=100000-"
        assert names(cache_folder() / "mooncake") == ["trace.csv", "trace.csv.origin.json"]

    def test_it_gives_up_after_some_tries(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT, cuts=[10_000] * 50)
        assert f"after 50000 of {len(TEXT)} bytes" in failure("mooncake", one(site))
        assert len(site.gets("/trace.csv")) == transfer.TRIES

    def interrupted(self, site: FileServer, **how: Any) -> None:
        site.serve("/trace.csv", TEXT, cuts=[100_000, 0], **how)
        failure("mooncake", one(site))
        site.requests.clear()

    def test_a_changed_etag_starts_anew(self, site: FileServer) -> None:
        self.interrupted(site)
        site.serve("/trace.csv", OTHER, headers={"ETag": '"2"'})
        assert fetch("mooncake", [one(site)]).read_bytes() == OTHER
        assert len(site.requests) == 1

    def test_a_server_without_ranges_starts_anew(self, site: FileServer) -> None:
        self.interrupted(site)
        site.files["/trace.csv"].ranges = False
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT

    @pytest.mark.parametrize("how", [{"no_such_range": True}, {"range_shift": 5}])
    def test_an_impossible_range_starts_anew(self, site: FileServer, how: dict[str, Any]) -> None:
        self.interrupted(site)
        for name, value in how.items():
            setattr(site.files["/trace.csv"], name, value)
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert ["Range" in h for h in site.gets("/trace.csv")] == [True, False]

    def test_a_part_longer_than_the_file_starts_anew(self, site: FileServer) -> None:
        self.interrupted(site)
        site.serve("/trace.csv", TEXT[:50_000])  # with the same ETag, which is a lie
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT[:50_000]

    def test_the_date_serves_where_the_etag_is_weak(self, site: FileServer) -> None:
        dated = "Tue, 03 Nov 2026 10:00:00 GMT"
        self.interrupted(site, headers={"ETag": 'W/"1"', "Last-Modified": dated})
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert site.gets("/trace.csv")[0]["If-Range"] == dated

    def test_without_a_validator_only_a_known_hash_makes_resuming_safe(self, site: FileServer) -> None:
        self.interrupted(site, headers={"ETag": 'W/"1"'})
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT
        assert "Range" not in site.gets("/trace.csv")[0]
        site.serve("/trace.csv", TEXT, headers={}, cuts=[100_000, 0])
        failure("azure", one(site, sha256=sha256(TEXT)))
        assert fetch("azure", [one(site, sha256=sha256(TEXT))]).read_bytes() == TEXT
        assert site.gets("/trace.csv")[-1]["Range"] == "bytes=100000-"

    def test_a_part_that_does_not_fit_the_known_hash_is_given_up(self, site: FileServer) -> None:
        self.interrupted(site)
        part = cache_folder() / "mooncake" / ".trace.csv.part"
        part.write_bytes(bytes(100_000))
        assert fetch("mooncake", [one(site, sha256=sha256(TEXT))]).read_bytes() == TEXT
        assert ["Range" in h for h in site.gets("/trace.csv")] == [True, False]

    def test_a_part_of_another_address_is_not_taken_up(self, site: FileServer) -> None:
        self.interrupted(site)
        site.serve("/new/trace.csv", OTHER)
        assert fetch("mooncake", [RemoteFile(url=f"{site.url}/new/trace.csv")]).read_bytes() == OTHER
        assert "Range" not in site.gets("/new/trace.csv")[0]


class TestRefusals:
    def test_a_missing_file_leaves_nothing(self, site: FileServer) -> None:
        assert "HTTP Error 404" in failure("mooncake", one(site))
        assert names(cache_folder() / "mooncake") == []

    def test_a_restricted_address(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT, status=403)
        assert "HTTP Error 403" in failure("mooncake", one(site))
        assert f"access is restricted: accept the terms on {site.url}/trace.csv" in failure("mooncake", one(site, gated=True))

    @pytest.mark.parametrize("how", [{"length": len(TEXT) + 10}, {"length": len(TEXT) + 10, "headers": {}}])
    def test_a_length_that_is_never_reached(self, site: FileServer, how: dict[str, Any]) -> None:
        site.serve("/trace.csv", TEXT, **how)
        assert f"of {len(TEXT) + 10} bytes" in failure("mooncake", one(site))
        assert not (cache_folder() / "mooncake" / "trace.csv").exists()

    def test_a_wrong_hash_is_one_line_and_nothing_is_kept(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT)
        wrong = sha256(OTHER)
        assert f"its sha256 is {sha256(TEXT)}, expected {wrong}; nothing is kept" in failure("mooncake", one(site, sha256=wrong))
        assert names(cache_folder() / "mooncake") == []
        assert len(site.requests) == 1

    def test_a_wrong_size_is_refused_before_anything_comes(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT)
        assert f"offers {len(TEXT)} bytes, expected 5" in failure("mooncake", one(site, size_bytes=5))
        assert names(cache_folder() / "mooncake") == []

    def test_a_web_page_and_a_pointer_are_not_the_file(self, site: FileServer) -> None:
        site.serve("/trace.csv", b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
        assert "a web page came instead of the file" in failure("mooncake", one(site))
        site.serve("/trace.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
        assert "a Git LFS pointer came" in failure("mooncake", one(site))
        site.serve("/trace.csv", TEXT, headers={"Content-Encoding": "gzip"})
        assert "Content-Encoding 'gzip'" in failure("mooncake", one(site))
        assert names(cache_folder() / "mooncake") == []

    def test_a_full_disk(self, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        site.serve("/trace.csv", TEXT)
        part = cache_folder() / "mooncake" / ".trace.csv.part"
        part.parent.mkdir(parents=True)
        part.symlink_to("/dev/full")  # the kernel's own full disk
        assert "No space left on device" in failure("mooncake", one(site))
        part.unlink()
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000))
        assert "400.0 kB are to come, 1.0 kB are free" in failure("mooncake", one(site))
        assert not part.exists()

    def test_an_address_out_of_reach_fails_at_once(self, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def slow_lookup(*args: Any, **kwargs: Any) -> socket.socket:
            time.sleep(1)
            raise OSError("no network")

        start_s = time.monotonic()
        assert "127.0.0.1: Connection refused" in failure("mooncake", RemoteFile(url="http://127.0.0.1:9/trace.csv"))
        monkeypatch.setattr(reach, "REACH_S", 0.2)
        monkeypatch.setattr(socket, "create_connection", slow_lookup)
        assert "does not answer within 0.2 s" in failure("mooncake", one(site))
        assert time.monotonic() - start_s < 3

    @pytest.mark.parametrize(
        ("how", "problem"),
        [
            ({}, "either url, or repo and path"),
            ({"url": "https://a.org/x", "repo": "a/b", "path": "x"}, "either url, or repo and path"),
            ({"repo": "a/b"}, "either url, or repo and path"),
            ({"url": "http://a.org/x"}, "allowed: https"),
            ({"url": "file:///etc/passwd"}, "allowed: https"),
            ({"url": "https://a.org/"}, "a file's name"),
            ({"url": "https://a.org/%2e%2e"}, "a file's name"),
            ({"url": "https://a.org/x", "name": "../x"}, "a file's name"),
            ({"url": "https://a.org/x%2Fy%5Cz"}, "a file's name"),
            ({"url": "https://a.org/x", "sha256": "abc"}, "64 lower-case hex digits"),
        ],
    )
    def test_addresses_that_make_no_sense(self, how: dict[str, str], problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            RemoteFile(**how)  # type: ignore[arg-type]


def test_a_token_does_not_follow_a_redirect(site: FileServer, tmp_path: Path) -> None:
    site.serve("/first", status=302, location=f"{site.url}/second")
    site.serve("/second", TEXT)
    shown = TransferShown("mooncake", "trace.csv", "here")
    got = receive(Target("x", f"{site.url}/first", {"Authorization": "Bearer secret"}), tmp_path / "part", shown)
    assert (got.size_bytes, got.sha256) == (len(TEXT), sha256(TEXT))
    assert site.gets("/first")[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in site.gets("/second")[0]


class TestShown:
    def test_two_lines_and_the_licence_where_stderr_is_no_terminal(
        self, site: FileServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.serve("/trace.csv", TEXT)
        fetch("mooncake", [one(site, licence="CC-BY-4.0")])
        out, err = capsys.readouterr()
        licence, start, end = err.splitlines()
        assert out == ""
        assert licence == "mooncake: licence: CC-BY-4.0"
        assert start == f"mooncake: fetching trace.csv, 400.0 kB, from {site.url}/trace.csv"
        assert end.startswith("mooncake: trace.csv: 400.0 kB in ")
        assert end.endswith(f" s, sha256 {sha256(TEXT)[:16]}")

    def test_a_bar_on_a_terminal(self, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        master, slave = pty.openpty()
        site.serve("/trace.csv", TEXT, pause_s=0.05)
        with open(slave, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            fetch("mooncake", [one(site)])
            monkeypatch.undo()
            shown = os.read(master, 1 << 20).decode()
        os.close(master)
        assert "━" in shown
        assert "400.0 kB" in shown or "0.4/0.4 MB" in shown

    def test_sizes(self) -> None:
        assert [bytes_text(n) for n in (0, 999, 1_000, 52_283_111, 1_130_000_000)] == [
            "0 bytes",
            "999 bytes",
            "1.0 kB",
            "52.3 MB",
            "1.1 GB",
        ]


_CHILD = """
import sys
from workloads.sources.download import RemoteFile, fetch
def peak_kib():  # ru_maxrss would begin with the parent's
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before = peak_kib()
print(fetch("mooncake", [RemoteFile(url=sys.argv[1])]), peak_kib() - before)
"""


class TestProcesses:
    def child(self, site: FileServer) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _CHILD, f"{site.url}/trace.csv"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_part(self, size: int) -> None:
        part, end_s = cache_folder() / "mooncake" / ".trace.csv.part", time.monotonic() + 30
        while not part.exists() or part.stat().st_size < size:
            assert time.monotonic() < end_s
            time.sleep(0.01)

    def test_two_at_once_make_one_download(self, site: FileServer) -> None:
        site.serve("/trace.csv", TEXT * 4, pause_s=0.05)
        first = self.child(site)
        self.wait_for_part(1)
        second = self.child(site)
        outs = [process.communicate(timeout=60) for process in (first, second)]
        paths = {out.split()[0] for out, _ in outs}
        assert len(paths) == 1
        assert Path(paths.pop()).read_bytes() == TEXT * 4
        assert "another process is fetching trace.csv: waiting for it" in outs[1][1]
        assert len(site.gets("/trace.csv")) == 1

    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
    def test_an_interrupted_download_goes_on_later(self, site: FileServer, stop: signal.Signals) -> None:
        site.serve("/trace.csv", TEXT * 8, pause_s=0.05)
        process = self.child(site)
        self.wait_for_part(500_000)
        process.send_signal(stop)
        _, err = process.communicate(timeout=60)
        assert ("KeyboardInterrupt" in err) == (stop == signal.SIGINT)
        site.files["/trace.csv"].pause_s = 0
        assert fetch("mooncake", [one(site)]).read_bytes() == TEXT * 8
        resumed_at = int(site.gets("/trace.csv")[1]["Range"].removeprefix("bytes=").removesuffix("-"))
        assert 500_000 <= resumed_at < len(TEXT) * 8

    def test_memory_does_not_grow_with_the_file(self, site: FileServer) -> None:
        site.serve("/trace.csv", zeros=300 << 20)
        process = self.child(site)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        path, grown_kib = out.split()
        assert Path(path).stat().st_size == 300 << 20
        assert int(grown_kib) < 50 << 10
