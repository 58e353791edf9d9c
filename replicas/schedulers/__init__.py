"""Scheduler flavours by name: one file and one line here (and its settings in `replicas.scheduler_settings`)."""

from replicas.schedulers.orca import OrcaScheduler
from replicas.schedulers.sarathi import SarathiScheduler
from replicas.schedulers.scheduler import Scheduler
from replicas.schedulers.sglang import SglangScheduler
from replicas.schedulers.vllm import VllmScheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "vllm": VllmScheduler,
    "sglang": SglangScheduler,
    "orca": OrcaScheduler,
    "sarathi": SarathiScheduler,
}
