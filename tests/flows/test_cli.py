"""The command line answers at once, and says what is wrong in one line on stderr with exit code 2."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from tests.flows.commands import ROOT, stampede


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_answers_within_half_a_second_of_cpu(tmp_path: Path) -> None:
    stampede("--help", cache=tmp_path)  # compiles bytecode
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = stampede("--help", cache=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert {"run", "report", "doctor", "trace"} <= set(done.stdout.split())
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"prefect", "pydantic", "polars", "duckdb", "altair", "datasets", "numpy", "pyarrow", "rich", "yaml"}
    code = "import sys, flows.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "click" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


BAD = [
    (["run", "nope"], "STUDY = 'nope'"),
    (["run", "smoke", "--set", "lod=3"], "did you mean 'load'"),
    (["run", "smoke", "--set", "workload.trace=gone.csv"], "workload.trace = 'gone.csv'"),
    (["run", "smoke", "--set", "routers.0=rando"], "did you mean 'random'"),
    (["run", "smoke", "--seed", "-1"], "--seed"),
    (["run", "smoke", "--processes", "0"], "--processes"),
    (["run", "live-served", "--set", "load.fraction=0.5"], "give load.rps"),
    (["run", "--resume", "gone"], "--resume gone: no run folder"),
    (["run", "--sed", "1"], "--sed"),
    (["run", "a", "b"], "unexpected extra argument"),
    (["bogus"], "bogus"),
    (["report"], "RUN"),
    (["report", "gone"], "RUN = 'gone': no run folder"),
    (["trace", "import", "nope"], "NAME = 'nope'"),
    (["trace", "import", "mooncake", "--from", "gone"], "--from gone: no such file"),
    (["trace", "describe", "gone"], "gone: no such trace"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_usage_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("stampede: ")
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_row_is_one_line_and_leaves_no_run_folder(tmp_path: Path) -> None:
    trace = tmp_path / "bad.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.9,x,9\n")
    done = stampede("run", "smoke", "--set", f"workload.trace={trace}", "--out", str(tmp_path / "run"), cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "bad.csv:3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_failed_import_leaves_no_folder_and_a_bad_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n")
    before = sorted(tmp_path.iterdir())
    command = ("trace", "import", "azure_llm_2023", "--from", "a.csv", "--out")
    for out, said in ((".", "is a folder"), ("a.csv/x.parquet", "cannot be written")):
        assert code_of(*command, out) == 2
        assert said in capsys.readouterr().err
    assert code_of("trace", "import", "mooncake", "--from", "a.csv", "--out", "new/x.parquet") == 2
    assert code_of("trace", "describe", "synthetic", "--source", "mooncake") == 2
    assert sorted(tmp_path.iterdir()) == before


def test_trace_list_names_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("trace", "list") == 0
    out = capsys.readouterr().out
    for name in ("synthetic", "sharegpt", "azure_llm_2023", "mooncake"):
        assert name in out


def test_trace_import_then_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published, ours = tmp_path / "a.csv", tmp_path / "a.parquet"
    published.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.9,10,9\n")
    assert code_of("trace", "import", "azure_llm_2023", "--from", str(published), "--out", str(ours)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(ours)
    assert code_of("trace", "describe", str(ours), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sessions"], told["turns"]) == (2, 2)
    assert code_of("trace", "describe", str(published)) == 0
    assert "The median prompt has 192 tokens" in capsys.readouterr().out


def test_doctor_says_what_can_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("doctor") == 0
    out = capsys.readouterr().out
    for word in ("versions", "prefect", "GPUs", "gateways", "simulated pool", "can run here: stampede run"):
        assert word in out


def test_an_unexpected_failure_is_one_line_with_a_log_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path, progress: object) -> dict[str, object]:
        raise RuntimeError("of no\nknown kind")

    monkeypatch.setattr("flows.build_report.build_report", broken)
    (tmp_path / "study.yaml").touch()
    assert code_of("report", str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"stampede: the report failed: RuntimeError: of no known kind; log: {tmp_path / 'run.log'}\n")
    assert "Traceback" in (tmp_path / "run.log").read_text()


def test_a_void_run_ends_with_exit_code_1_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def void(path: Path, progress: object) -> dict[str, object]:
        return {"report": str(path / "report.html"), "run": str(path), "void": ["a-s1", "b-s1"]}

    monkeypatch.setattr("flows.build_report.build_report", void)
    (tmp_path / "study.yaml").touch()
    assert code_of("report", str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'report.html'}\n"
    assert "void: the load was not delivered in 2 cells (a-s1, b-s1)" in err
