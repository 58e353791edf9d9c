"""The hash of the code that decides what a cell does. It does not know what the code says."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("workloads", "routers", "replicas", "replay")
"""Everything that can change a cell's rows; reports and flows cannot."""

SUFFIXES = (".py", ".json")
"""Engine profiles are JSON."""


@cache
def code_hash() -> str:
    """16 hex digits over the paths and bytes of every source and profile of PACKAGES, equal on every machine."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = _folder(package)
        for path in sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES and "__pycache__" not in p.parts):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {package} is not installed", name=package)
    return Path(spec.origin).parent
