"""`stampede calibrate`: measures a live engine and writes its profile. It knows prompts and files, not how to measure."""

import asyncio
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.failure import say

if TYPE_CHECKING:
    from replicas.calibration.sweeps import MakePrompt, Plan

DONE = 0
_QUICK_POISSON = ((0.35, 12.0, 512, 128), (0.5, 8.0, 512, 128))


def calibrate_engine(
    url: str,
    out: str,
    engine: str | None,
    name: str | None,
    gpu: str,
    vocab_size: int,
    api_key: str | None,
    max_running: int | None,
    max_batched_tokens: int | None,
    kv_tokens: int | None,
    quick: bool,
    seed: int,
) -> int:
    """Measure, fit, print the errors, write `out`; nothing is written when anything fails or the user interrupts."""
    from replicas.calibration.calibrate import Wanted, calibrate
    from replicas.calibration.client import EngineClient
    from replicas.fitting.profile_file import table, write_profile

    path = Path(out)
    if path.suffix != ".json":
        raise ValueError(f"--out {out!r}: must be a .json file")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    wanted = Wanted(name or path.stem, gpu, date, engine, max_running, max_batched_tokens, kv_tokens)
    client = EngineClient(url, api_key)
    profile = asyncio.run(calibrate(client, wanted, _plan(quick), _prompts(vocab_size), seed, say))
    write_profile(profile, path)
    print(table(profile))
    print(path)
    return DONE


def _plan(quick: bool) -> "Plan":
    from replicas.calibration.sweeps import Plan

    if not quick:
        return Plan()
    return Plan(
        prefill=(16, 128, 512, 1024, 2048, 4096, 8192),
        prefix=(1024, 4096),
        repeats=9,
        decode_batches=(1, 8, 32, 64),
        poisson=_QUICK_POISSON,
    )


def _prompts(vocab_size: int) -> "MakePrompt":
    """Token ids below `vocab_size`: a higher one is a 400 to vLLM and the end of SGLang's server."""
    from workloads.prompts.token_ids import segment_ids
    from workloads.prompts.vocabulary import Vocabulary
    from workloads.request import Segment

    vocabulary = Vocabulary.of_size(vocab_size)

    def prompt(content_id: int, tokens: int) -> list[int]:
        ids: list[int] = segment_ids(Segment(content_id, tokens), vocabulary).tolist()
        return ids

    return prompt
