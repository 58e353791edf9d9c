"""The run folder: its names, its creation, its lock. It does not know what the files hold."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.study import Study, StudyError


class RunFolder:
    """Where one run's files lie; every name that tools and tests rely on is here."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.study = self.path / "study.yaml"
        self.manifest = self.path / "manifest.json"
        self.conversations = self.path / "conversations.parquet"
        self.workloads = self.path / "workloads"
        self.cells = self.path / "cells"
        self.capacity = self.path / "capacity.json"
        self.capacity_cells = self.path / "capacity" / "cells"
        self.capacity_workloads = self.path / "capacity" / "workloads"
        self.engines = self.path / "engines"
        self.log = self.path / "run.log"

    def create(self, study: Study) -> None:
        """Make a new folder that holds the resolved study; StudyError when it exists and is not empty, or cannot be made."""
        check_new(self.path)
        try:
            for folder in (self.workloads, self.cells):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"--out {self.path}: cannot be made: {error.strerror}; name a folder that can be written") from error
        write_aside(self.study, study.to_yaml())

    def check_same(self, study: Study, hash_key: str = "content_hash") -> None:
        """StudyError unless the folder's study is this one; names the keys that differ."""
        from flows.study_text import parse

        there = parse(self.study.read_text(encoding="utf-8"), str(self.study))
        here = study.resolved()
        if there.get(hash_key) != here[hash_key]:
            differing = ", ".join(key for key in here if key != hash_key and there.get(key) != here[key])
            if not differing:
                raise StudyError(
                    f"{self.study}: changed since the run began (its {hash_key} is another); run it into a new folder"
                )
            raise StudyError(f"--resume {self.path}: it holds another study; these keys differ: {differing}")

    def read_manifest(self) -> dict[str, Any]:
        """What the manifest says so far; empty before the first one."""
        if not self.manifest.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(self.manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StudyError(f"{self.manifest}: not JSON: {error}; delete it to go on without what it said") from error
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; StudyError when a living process holds it. A dead one's lock is free (the kernel drops it)."""
        with (self.path / "run.lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                raise StudyError(f"{self.path}: another run (process {lock.read().strip()}) is writing this folder") from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def check_new(path: Path) -> None:
    """StudyError when a folder already holds something or could not be made."""
    try:
        if path.is_dir() and any(path.iterdir()):
            raise StudyError(f"--out {path}: already exists; name a new folder, or continue it with --resume {path}")
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
    except OSError as error:
        raise StudyError(f"--out {str(path)[:200]}: cannot be a folder: {error.strerror}") from error
    if not there.is_dir():
        raise StudyError(f"--out {path}: {there} is a file, not a folder; name a new folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StudyError(f"--out {path}: {there} cannot be written; name a folder that can")


def resumable(path: Path) -> Path:
    """The study file of a folder to resume; StudyError when it is no run folder."""
    study = path / "study.yaml"
    if not study.is_file():
        raise StudyError(f"--resume {path}: no run folder (it has no study.yaml)")
    return study


def write_aside(path: Path, text: str) -> None:
    """Write a whole text file aside, then rename: existence means complete."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
