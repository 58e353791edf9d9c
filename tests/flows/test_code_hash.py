"""The code hash moves with every source and profile that can change a cell's rows."""

import shutil
import subprocess
import sys
from pathlib import Path

from replay.code import PACKAGES, code_hash

ROOT = Path(__file__).parents[2]


def hashed(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from replay.code import code_hash; print(code_hash())"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(root)},
    )
    return done.stdout.strip()


def test_a_changed_source_or_profile_changes_it_and_a_cache_does_not(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = hashed(tmp_path)
    assert len(code_hash()) == len(before) == 16
    (tmp_path / "routers" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "routers" / "__pycache__" / "x.py").write_text("1")
    assert hashed(tmp_path) == before
    for file in ("routers/policy.py", "replicas/profiles/h100-vllm-llama8b.json"):
        with (tmp_path / file).open("a") as text:
            text.write(" \n")
        after = hashed(tmp_path)
        assert after != before
        before = after
