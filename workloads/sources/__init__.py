"""The trace sources by name: one file and one line each. It does not know what a trace is used for."""

from workloads.sources.azure_llm_2023 import AZURE_LLM_2023
from workloads.sources.mooncake import MOONCAKE
from workloads.sources.sharegpt import SHAREGPT
from workloads.sources.source import Source
from workloads.sources.synthetic import SYNTHETIC

SOURCES: dict[str, Source] = {
    "synthetic": SYNTHETIC,
    "sharegpt": SHAREGPT,
    "azure_llm_2023": AZURE_LLM_2023,
    "mooncake": MOONCAKE,
}

__all__ = ["SOURCES", "Source"]
