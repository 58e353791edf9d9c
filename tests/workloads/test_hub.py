"""Files of hub data sets: the real hub client against a hub on loopback (its answers' headers are the hub's own)."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.file_server import FileServer, file_server
from workloads.sources.download import RemoteFile, cache_folder, fetch, on_hub, transfer

REPO, PATH, COMMIT = "team/chats", "data/train-0.parquet", "a" * 40
RESOLVED = f"/datasets/{REPO}/resolve/main/{PATH}"
TEXT = b"PAR1" + bytes(range(256)) * 2_000
SHA256 = hashlib.sha256(TEXT).hexdigest()
FILE = RemoteFile(repo=REPO, path=PATH, gated=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(transfer, "PAUSE_S", 0.0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with file_server() as server:
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.url)
        yield server


def large(hub: FileServer, path: str = RESOLVED, content: bytes = TEXT, **how: Any) -> None:
    """As the hub serves a large file: the address redirects to a store on another host, its headers tell size and sha256."""
    told = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
    elsewhere = hub.url.replace("127.0.0.1", "localhost") + "/store" + path
    hub.serve(path, status=302, location=elsewhere, headers={"X-Repo-Commit": COMMIT, "ETag": '"9"', **told})
    hub.serve(f"/store{path}", content, **how)


def failure(*files: RemoteFile) -> str:
    with pytest.raises(ValueError, match=r"^cannot download lmsys .* stampede trace import lmsys --from FILE$") as raised:
        fetch("lmsys", files)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_large_file_comes_from_its_store_without_the_token(hub: FileServer) -> None:
    large(hub)
    path = fetch("lmsys", [FILE])
    assert path == cache_folder() / "lmsys" / "train-0.parquet"
    assert path.read_bytes() == TEXT
    (method, _, asked), (_, _, got) = [r for r in hub.requests if r[1] == RESOLVED] + [
        r for r in hub.requests if "/store" in r[1]
    ]
    assert (method, asked.get("authorization")) == ("HEAD", "Bearer hf_secret")
    assert "authorization" not in {name.lower() for name in got}
    record = json.loads(path.with_name("train-0.parquet.origin.json").read_text())
    assert (record["address"], record["commit"]) == (f"{REPO}@main/{PATH}", COMMIT)
    assert (record["etag"], record["sha256"]) == (SHA256, SHA256)


def test_a_small_file_comes_from_the_hub_itself_with_the_token(hub: FileServer) -> None:
    hub.serve(RESOLVED, TEXT, headers={"X-Repo-Commit": COMMIT, "ETag": '"5e1f"'})
    assert fetch("lmsys", [FILE]).read_bytes() == TEXT
    assert hub.gets(RESOLVED)[0]["Authorization"] == "Bearer hf_secret"


def test_an_interrupted_file_goes_on_and_is_checked_against_the_hubs_hash(hub: FileServer) -> None:
    large(hub, headers={}, cuts=[100_000, 0])
    assert "100.0 kB are kept" in failure(FILE)
    assert fetch("lmsys", [FILE]).read_bytes() == TEXT
    assert hub.gets(f"/store{RESOLVED}")[-1]["Range"] == "bytes=100000-"
    large(hub, content=TEXT[::-1])
    hub.files[f"/store{RESOLVED}"].content = TEXT
    assert "nothing is kept" in failure(RemoteFile(repo=REPO, path=PATH, sha256=hashlib.sha256(TEXT[::-1]).hexdigest()))


def test_shards_at_a_revision_are_a_folder(hub: FileServer) -> None:
    files = on_hub(REPO, ["data/a.parquet", "data/b.parquet"], COMMIT, licence="ODC-BY")
    for file, content in zip(files, (TEXT, TEXT[:999]), strict=True):
        large(hub, f"/datasets/{REPO}/resolve/{COMMIT}/{file.path}", content)
    folder = fetch("wildchat", files)
    assert {p.name: p.stat().st_size for p in folder.iterdir()} == {"a.parquet": len(TEXT), "b.parquet": 999}


def test_a_file_in_the_hubs_own_cache_is_taken_from_there_even_offline(
    hub: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "hub" / "datasets--team--chats" / "snapshots" / COMMIT / PATH
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(TEXT)
    refs = snapshot.parents[3] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert fetch("lmsys", [FILE]).read_bytes() == TEXT
    assert fetch("lmsys", [FILE]).is_symlink()
    assert "taken from the hub's cache" in capsys.readouterr().err
    other = on_hub(REPO, [PATH], sha256={PATH: "0" * 64})[0]
    assert "HF_HUB_OFFLINE is set" in failure(other)
    assert "not taken" in capsys.readouterr().err
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (403, "GatedRepo", f"accept the terms on https://huggingface.co/datasets/{REPO}, then set HF_TOKEN"),
        (401, "RepoNotFound", f"accept the terms on https://huggingface.co/datasets/{REPO}, then set HF_TOKEN"),
        (404, "EntryNotFound", f"{REPO} has no file {PATH} at main"),
        (404, "RevisionNotFound", f"{REPO} has no revision"),
        (500, "", "500 Internal Server Error"),
    ],
)
def test_what_the_hub_refuses_is_explained_in_one_line(hub: FileServer, status: int, code: str, problem: str) -> None:
    hub.serve(RESOLVED, status=status, headers={"X-Error-Code": code, "X-Repo-Commit": COMMIT})
    assert problem in failure(FILE)


def test_a_set_that_is_not_gated_and_not_found(hub: FileServer) -> None:
    hub.serve(RESOLVED, status=404, headers={"X-Error-Code": "RepoNotFound"})
    assert f"the hub has no data set {REPO}" in failure(RemoteFile(repo=REPO, path=PATH))


def test_a_store_that_refuses_a_gated_file(hub: FileServer) -> None:
    large(hub, status=403)
    assert "accept the terms on" in failure(FILE)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("offline", "problem"), [(True, "HF_HUB_OFFLINE is set"), (False, "Connection refused")])
def test_without_a_hub_it_fails_at_once(offline: bool, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    start_s = time.monotonic()
    assert problem in failure(*on_hub(REPO, ["data/a.parquet", "data/b.parquet"]))
    assert time.monotonic() - start_s < 4
    assert list((cache_folder() / "lmsys").iterdir()) == []
