"""Finds the Python of an engine's environment, and makes one for the CPU from the package index. It starts no engine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replicas.launch.cards import Cards
from replicas.launch.failed import EngineFailed, tail
from replicas.launch.recipes import RECIPES, TORCH, TORCH_INDEX, Recipe

VARIABLES = {"vllm": "STAMPEDE_VLLM_PYTHON", "sglang": "STAMPEDE_SGLANG_PYTHON"}
MARK = "stampede-environment.json"
_STEP_S = 3600.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """`python` runs the engine; `found_by` says how it was named; `version` None where no package's record tells it."""

    engine: str
    python: Path
    found_by: str
    version: str | None


def home() -> Path:
    """Where `install` puts environments by default: the user's data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "stampede" / "engines"


def find(engine: str, given: str | Path | None = None) -> Environment:
    """By path (a Python, or an environment's folder), else by the engine's variable, else what was installed by default.

    ValueError says what was named and is not there, or how to get one.
    """
    variable = VARIABLES[engine]
    for named, how in ((given, "by path"), (os.environ.get(variable), f"by {variable}")):
        if named:
            python = _python(Path(named))
            if (there := shutil.which(str(python))) is None:
                raise ValueError(f"{engine}'s environment is named {how} as {str(named)!r}: no Python there")
            python = Path(there).absolute()  # not resolved: a venv's Python is a link, and is what it is by its place
            return Environment(engine, python, how, version(engine, python))
    folder = home() / engine
    if _complete(folder, engine):
        python = _python(folder)
        return Environment(engine, python, "installed by doctor", version(engine, python))
    recipe = RECIPES[engine]
    raise ValueError(
        f"no environment with {engine} is named: set {variable} to its Python, or make one for the CPU with "
        f"`stampede doctor --install {engine}` ({recipe.size_gb:g} GB, about {recipe.minutes} minutes)"
    )


def version(engine: str, python: Path) -> str | None:
    """The engine's distribution and version, as the environment's package records say it; Python is not started."""
    names = sorted({engine, RECIPES[engine].package})
    for folder in sorted(python.parent.parent.glob("lib/python3*/site-packages")):
        for name in names:
            for record in folder.glob(f"{name.replace('-', '_')}-[0-9]*.dist-info"):
                return f"{name} {record.name.removesuffix('.dist-info').partition('-')[2]}"
    return None


def install(engine: str, into: Path | None, say: Say) -> Environment:
    """An environment for the CPU in folder `into` (default: `home()/engine`), made with pip; an interrupted one is gone on with.

    Uses pip's own configuration (index, certificates), and torch's index where that has no CPU build. ValueError when there is
    a card, too little space, or something else in the folder; EngineFailed, with the log's end, when pip fails.
    """
    recipe, folder = RECIPES[engine], (into or home() / engine).absolute()
    if _complete(folder, engine):
        say(f"{folder} has {recipe.package} {recipe.version} already")
        return Environment(engine, _python(folder), "installed by doctor", version(engine, _python(folder)))
    _must_be_possible(engine, recipe, folder)
    say(f"{recipe.package} {recipe.version} for the CPU: about {recipe.size_gb:g} GB and {recipe.minutes} minutes, into {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, engine, complete=False)
    log = folder / "install.log"
    say(f"1 of {len(recipe.steps) + 2}: an environment of Python {sys.version_info.major}.{sys.version_info.minor} (log: {log})")
    _make_venv(folder, log)
    for n, step in enumerate(recipe.steps, start=2):
        say(f"{n} of {len(recipe.steps) + 2}: {step.what}")
        _pip(folder, step.words, log)
    say(f"{len(recipe.steps) + 2} of {len(recipe.steps) + 2}: does its server start to read its options?")
    _run([str(_python(folder)), "-W", "ignore", *recipe.check], log)
    _mark(folder, engine, complete=True)
    return Environment(engine, _python(folder), "installed by doctor", version(engine, _python(folder)))


def _must_be_possible(engine: str, recipe: Recipe, folder: Path) -> None:
    if sys.platform != "linux":
        raise ValueError(f"--install {engine}: is for Linux, and this is {sys.platform}; name a remote pool by URL instead")
    if names := sorted(set(Cards().names.values())):
        raise ValueError(
            f"--install {engine}: makes an environment for the CPU, and this host has {', '.join(names)}; "
            f"install {engine} in an environment of its own and set {VARIABLES[engine]} to its Python"
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ValueError(f"--into {str(folder)!r}: holds something else; allowed: a new or empty folder")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(there).free / 1e9
    if free_gb < 2 * recipe.size_gb:
        raise ValueError(f"--into {str(folder)!r}: {free_gb:.1f} GB are free there; {2 * recipe.size_gb:g} are needed meanwhile")


def _make_venv(folder: Path, log: Path) -> None:
    """With the standard library, or with uv where Python came without `ensurepip`."""
    try:
        _run([sys.executable, "-m", "venv", str(folder)], log)
    except EngineFailed:
        if (uv := shutil.which("uv")) is None:
            raise
        _run([uv, "venv", "--seed", "--allow-existing", "--python", sys.executable, str(folder)], log)


def _pip(folder: Path, words: tuple[str, ...], log: Path) -> None:
    pip = [str(_python(folder)), "-m", "pip", *words]
    try:
        _run(pip, log)
    except EngineFailed:
        if TORCH not in words:
            raise
        _run([*pip, "--extra-index-url", TORCH_INDEX], log)


def _run(command: list[str], log: Path) -> None:
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    with log.open("ab") as out:
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=_STEP_S, env=environment, check=False
        )
    if done.returncode != 0:
        raise EngineFailed(f"{' '.join(command[:6])} … failed with {done.returncode}; {log} ends:\n{tail(log, 12)}")


def _python(named: Path) -> Path:
    return named / "bin" / "python" if named.is_dir() else named


def _mark(folder: Path, engine: str, complete: bool) -> None:
    recipe = RECIPES[engine]
    mark = {"engine": engine, "package": recipe.package, "version": recipe.version, "complete": complete}
    (folder / MARK).write_text(json.dumps(mark) + "\n")


def _complete(folder: Path, engine: str) -> bool:
    """Whether `install` finished this version there: its mark is written last."""
    recipe = RECIPES[engine]
    try:
        mark = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return False
    return bool(mark == {"engine": engine, "package": recipe.package, "version": recipe.version, "complete": True})
