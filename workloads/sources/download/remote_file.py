"""Where a file of a public data set is to be had, and what is known of it beforehand. It does not know how to get it."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file by `url` (https), or by `repo` and `path` of a Hugging Face data set, at `revision` (None: its main branch).

    `name` is what it is called here (default: the last part of the address). A known `sha256` (hex) or `size_bytes` is enforced.
    `gated` sets need an accepted licence and a token. `licence` is shown before anything is downloaded. Raises ValueError.
    """

    url: str = ""
    repo: str = ""
    path: str = ""
    revision: str | None = None
    name: str = ""
    sha256: str | None = None
    size_bytes: int | None = None
    gated: bool = False
    licence: str = ""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.repo) or bool(self.repo) != bool(self.path):
            raise ValueError(f"remote file {self.address!r}: give either url, or repo and path")
        split = urllib.parse.urlsplit(self.url)
        if self.url and split.scheme != "https" and split.hostname not in _LOOPBACK:
            raise ValueError(f"url {self.url!r}: allowed: https")
        if self.file_name in ("", ".", "..") or "/" in self.file_name or "\\" in self.file_name:
            raise ValueError(f"remote file {self.address!r}: name {self.file_name!r}; allowed: a file's name without folders")
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"remote file {self.address!r}: sha256 {self.sha256!r}; allowed: 64 lower-case hex digits")

    @property
    def address(self) -> str:
        """What identifies the file: its URL, or `repo@revision/path`."""
        return self.url or f"{self.repo}@{self.revision or 'main'}/{self.path}"

    @property
    def file_name(self) -> str:
        return self.name or PurePosixPath(self.path or urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).name

    @property
    def way_in(self) -> str:
        """What a person does who is not let in."""
        page = f"https://huggingface.co/datasets/{self.repo}" if self.repo else self.url
        token = ", then set HF_TOKEN to a token of that account" if self.repo else ""
        return f"access is restricted: accept the terms on {page}{token}"


def on_hub(
    repo: str,
    paths: Sequence[str],
    revision: str | None = None,
    *,
    licence: str = "",
    gated: bool = False,
    sha256: Mapping[str, str] | None = None,
    size_bytes: Mapping[str, int] | None = None,
) -> tuple[RemoteFile, ...]:
    """The files of a hub data set, in order; what is known of some of them is keyed by their path."""
    hashes, sizes = sha256 or {}, size_bytes or {}
    return tuple(
        RemoteFile(
            repo=repo,
            path=path,
            revision=revision,
            sha256=hashes.get(path),
            size_bytes=sizes.get(path),
            gated=gated,
            licence=licence,
        )
        for path in paths
    )
