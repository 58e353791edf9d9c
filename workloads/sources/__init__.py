"""The trace sources by name: one file and one line each. It does not know what a trace is used for."""

from workloads.sources.agent_sessions import AGENT_SESSIONS
from workloads.sources.azure_llm import AZURE_LLM_2023, AZURE_LLM_2023_CODE, AZURE_LLM_2024, AZURE_LLM_2024_CODE
from workloads.sources.burstgpt import BURSTGPT, BURSTGPT_1, BURSTGPT_2
from workloads.sources.lmsys_chat_1m import LMSYS_CHAT_1M
from workloads.sources.mooncake import MOONCAKE, MOONCAKE_SYNTHETIC, MOONCAKE_TOOLAGENT
from workloads.sources.otel_genai import OTEL_GENAI
from workloads.sources.own import OWN
from workloads.sources.qwen_bailian import QWEN_BAILIAN, QWEN_BAILIAN_API, QWEN_BAILIAN_CODER, QWEN_BAILIAN_THINKING
from workloads.sources.servegen import SERVEGEN
from workloads.sources.sharegpt import SHAREGPT
from workloads.sources.source import Source
from workloads.sources.synthetic import SYNTHETIC
from workloads.sources.wildchat import WILDCHAT

SOURCES: dict[str, Source] = {
    "synthetic": SYNTHETIC,
    "sharegpt": SHAREGPT,
    "lmsys_chat_1m": LMSYS_CHAT_1M,
    "wildchat": WILDCHAT,
    "azure_llm_2023": AZURE_LLM_2023,
    "azure_llm_2023_code": AZURE_LLM_2023_CODE,
    "azure_llm_2024": AZURE_LLM_2024,
    "azure_llm_2024_code": AZURE_LLM_2024_CODE,
    "burstgpt": BURSTGPT,
    "burstgpt_1": BURSTGPT_1,
    "burstgpt_2": BURSTGPT_2,
    "mooncake": MOONCAKE,
    "mooncake_toolagent": MOONCAKE_TOOLAGENT,
    "mooncake_synthetic": MOONCAKE_SYNTHETIC,
    "qwen_bailian": QWEN_BAILIAN,
    "qwen_bailian_api": QWEN_BAILIAN_API,
    "qwen_bailian_coder": QWEN_BAILIAN_CODER,
    "qwen_bailian_thinking": QWEN_BAILIAN_THINKING,
    "agent_sessions": AGENT_SESSIONS,
    "servegen": SERVEGEN,
    "otel_genai": OTEL_GENAI,
    "own": OWN,
}

__all__ = ["SOURCES", "Source"]
