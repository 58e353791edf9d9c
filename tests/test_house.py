"""The tests that hold the house: who may import whom, rows = schema, and what stays light."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from replay.rows import Attempt, DecisionRow, ReplicaSample

ROOT = Path(__file__).parent.parent
PACKAGES = ("flows", "workloads", "routers", "replicas", "replay", "reports")
MAY_IMPORT = {
    "flows": {"flows", "workloads", "routers", "replicas", "replay", "reports"},
    "replay": {"replay", "workloads", "routers", "replicas"},
    "replicas": {"replicas", "workloads.request", "workloads.draws"},
    "routers": {"routers", "workloads.request", "workloads.draws", "replicas.view", "replicas.profile"},
    "workloads": {"workloads"},
    "reports": {"reports"},
}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = []
    for path in files_of(package):
        for module in imports_of(path):
            if module.split(".")[0] not in PACKAGES:
                continue
            prefixes = {".".join(module.split(".")[: i + 1]) for i in range(module.count(".") + 1)}
            if not prefixes & MAY_IMPORT[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_only_flows_imports_prefect() -> None:
    guilty = [p for package in PACKAGES for p in files_of(package) if any(m.split(".")[0] == "prefect" for m in imports_of(p))]
    assert guilty, "flows does import it"
    assert {p.relative_to(ROOT).parts[0] for p in guilty} == {"flows"}


@pytest.mark.parametrize(("row_type", "table"), [(Attempt, "attempts"), (ReplicaSample, "samples"), (DecisionRow, "decisions")])
def test_a_rows_fields_are_the_columns_that_sql_reads(row_type: type, table: str) -> None:
    sql = (ROOT / "reports" / "sql" / f"{table}.sql").read_text()
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"--.*", "", sql)))
    missing = [f.name for f in fields(row_type) if f.name not in words]
    assert missing == [], f"{table}.sql does not know them"


def test_help_answers_without_heavy_imports() -> None:
    heavy = ("prefect", "ray", "datasets", "altair", "polars", "duckdb", "pyarrow", "scipy", "numpy")
    code = f"import sys, flows.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_forbidden_names() -> None:
    forbidden = {"utils", "common", "helpers", "manager", "base", "core", "random", "queue"}
    assert [p for package in PACKAGES for p in files_of(package) if p.stem in forbidden] == []
