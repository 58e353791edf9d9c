"""What this machine can run: versions, engines, GPUs, gateways, browser. It installs and starts nothing."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from flows.manifest import commit, host, versions

ENGINES = {"vllm": "vllm", "sglang": "sglang"}
GATEWAY_PACKAGES = {"sglang-router": "sglang-router", "vllm-router": "vllm-router"}
GATEWAY_PROGRAMS = ("nginx", "haproxy", "envoy")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def findings() -> list[tuple[str, str]]:
    """(name, what was found), in the order to read them."""
    machine = host()
    gpus = found_gpus()
    engines = [f"{name} {v}" for name, package in ENGINES.items() if (v := _version(package) or shutil.which(name))]
    gateways = [f"{name} {v}" for name, package in GATEWAY_PACKAGES.items() if (v := _version(package))]
    gateways += [f"{name} ({path})" for name in GATEWAY_PROGRAMS if (path := shutil.which(name))]
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return [
        ("machine", f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']} {machine['machine']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in versions().items())),
        ("commit", commit() or "not a git checkout"),
        ("GPUs", ", ".join(gpus) or "none found"),
        ("engines", ", ".join(engines) or "none found (vLLM and SGLang live in environments of their own)"),
        ("gateways", ", ".join(gateways) or "none found (uv sync --extra gateways; nginx, haproxy, envoy by the system)"),
        ("browser", browser or "none found (only the page's own tests need one)"),
        ("simulated pool", "can run here: stampede run"),
        ("real engines", "can run here" if gpus and engines else f"cannot run here: no {'GPU' if not gpus else 'engine'} found"),
    ]


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
