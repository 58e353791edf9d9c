"""What this machine can run: versions, engines, GPUs, gateways, browser; and an engine's environment made. It starts nothing."""

import shutil
import subprocess
from pathlib import Path

from flows.failure import say
from flows.manifest import commit, host, versions
from replicas.launch import environment

DONE = 0
ENGINES = ("vllm", "sglang")
GATEWAYS = ("sglang-router", "vllm-router", "nginx", "haproxy", "envoy")
LIVE_PRESETS = ("live-served", "live-cpu")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def findings() -> list[tuple[str, str]]:
    """(name, what was found), in the order to read them."""
    machine = host()
    gpus = found_gpus()
    engines = {engine: _engine(engine) for engine in ENGINES}
    usable = [engine for engine, (there, _) in engines.items() if there]
    gateways = [f"{name} ({path})" for name in GATEWAYS if (path := _gateway(name)) is not None]
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    return [
        ("machine", f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']} {machine['machine']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in versions().items())),
        ("commit", commit() or "not a git checkout"),
        ("GPUs", ", ".join(gpus) or "none found"),
        *((engine, text) for engine, (_, text) in engines.items()),
        (
            "gateways",
            ", ".join(gateways) or "none found (uv sync --extra gateways, STAMPEDE_GATEWAYS, or by the system)",
        ),
        ("browser", browser or "none found (only the page's own tests need one)"),
        ("simulated pool", "can run here: stampede run"),
        ("live studies", "; ".join(_live_studies())),
        ("real engines", f"can run here{'' if gpus else ', on the CPU'}: {', '.join(usable)}" if usable else "cannot run here"),
    ]


def _live_studies() -> list[str]:
    """Each live preset, and what it lacks here."""
    from flows.load_study import load_study
    from flows.ready_here import missing_here

    told = []
    for name in LIVE_PRESETS:
        missing = missing_here(load_study(name))
        told.append(f"{name} lacks {', '.join(missing)}" if missing else f"{name} can run here: stampede run {name}")
    return told


def install_engine(engine: str, into: str | None) -> int:
    """Make an environment for the CPU; its Python is the last line on stdout. Errors as `environment.install`."""
    made = environment.install(engine, Path(into) if into else None, say)
    if into:
        say(f"studies find it by {environment.VARIABLES[engine]}={made.python}")
    print(made.python)
    return DONE


def _engine(engine: str) -> tuple[bool, str]:
    """(whether it can be started, what was found or how to get it)."""
    try:
        found = environment.find(engine)
    except ValueError as error:
        return False, str(error)
    return True, f"{found.version or 'of an unknown version'} ({found.python}, {found.found_by})"


def found_gpus() -> list[str]:
    """Names and memory of NVIDIA GPUs, as nvidia-smi tells; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _gateway(name: str) -> Path | None:
    from routers.gateways.programs import MissingProgram, find_program

    try:
        return find_program(name)
    except MissingProgram:
        return None
