"""`stampede serve`: runs servers until they are told to stop. It knows no protocol and no engine."""

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.failure import say

if TYPE_CHECKING:
    from replicas.profile import EngineProfile
    from replicas.served import ServedReplica, Serving
    from replicas.served.tokens import Tokens

DONE, INTERRUPTED = 0, 130


def serve_replicas(
    profile: str,
    replicas: int,
    host: str,
    port: int,
    flavour: str | None,
    model: str | None,
    tokenizer: str | None,
    vocab_size: int | None,
    api_key: str | None,
    admin: bool,
    sets: tuple[str, ...],
    shutdown_timeout_s: float,
) -> int:
    """Serve simulated replicas on successive ports (port 0: any free ones), one URL a line on stdout once they listen.

    SIGTERM lets running requests end, for `shutdown_timeout_s` at most; SIGINT stops at once. Returns the exit code.
    """
    from replicas.profile import EngineProfile
    from replicas.served import Serving
    from replicas.served.event_loop import new_event_loop
    from replicas.served.turns import Turns

    engine = EngineProfile.load(profile).with_changes(_changes(sets))
    flavour = flavour or ("sglang" if engine.engine == "sglang" else "vllm")
    tokens = _tokens(tokenizer, vocab_size)
    one, turns = Serving(host, port, flavour, model, tokens, api_key, admin), Turns()
    servings = [replace(one, port=port + i if port else 0, turns=turns) for i in range(replicas)]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(engine, servings, shutdown_timeout_s))


async def _serve(profile: "EngineProfile", servings: "list[Serving]", shutdown_timeout_s: float) -> int:
    from replicas.served import ServedReplica
    from replicas.served.collector import collect_when_idle

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.put_nowait, int(number))
    async with AsyncExitStack() as stack:
        served = [await _listening(stack, ServedReplica(profile, loop.time(), serving)) for serving in servings]
        collecting = asyncio.ensure_future(collect_when_idle(lambda: not any(replica.clock.open for replica in served)))
        stack.callback(collecting.cancel)
        for replica in served:
            print(replica.url, flush=True)
        say(f"{len(served)} replica(s) of {profile.name} as {servings[0].flavour}, model {served[0].model}")
        if await told.get() == signal.SIGINT:
            return INTERRUPTED
        return await _drained(served, told, shutdown_timeout_s)


async def _listening(stack: AsyncExitStack, replica: "ServedReplica") -> "ServedReplica":
    try:
        return await stack.enter_async_context(replica)
    except OSError as error:
        serving = replica.serving
        raise ValueError(f"cannot listen on {serving.host}:{serving.port}: {error.strerror or error}") from error


async def _drained(served: "list[ServedReplica]", told: "asyncio.Queue[int]", timeout_s: float) -> int:
    """Wait for what is under way, or for another signal."""
    draining = asyncio.gather(*(replica.drain(timeout_s) for replica in served))
    again = asyncio.ensure_future(told.get())
    both: set[asyncio.Future[Any]] = {draining, again}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
        return INTERRUPTED
    again.cancel()
    if not all(draining.result()):
        say(f"stopped after {timeout_s:g} s with requests under way")
    return DONE


def _changes(sets: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE of profile fields, the values as in YAML."""
    import yaml

    changes: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r}: must be KEY=VALUE, KEY a field of the profile")
        changes[key] = yaml.safe_load(value)
    return changes


def _tokens(tokenizer: str | None, vocab_size: int | None) -> "Tokens":
    from replicas.served.tokens import FileTokens, LetterTokens

    if tokenizer is None:
        return LetterTokens() if vocab_size is None else LetterTokens(vocab_size)
    from workloads.prompts.chat import ChatTemplate
    from workloads.prompts.vocabulary import Vocabulary
    from workloads.prompts.words import Words

    path = Path(tokenizer)
    words = Words.of_file(path, vocab_size)
    size = Vocabulary.of_tokenizer(words.tokenizer, words.name, vocab_size).size
    template = ChatTemplate.of_folder(path) if _has_template(path) else None
    return FileTokens(words.tokenizer, size, words.lead, words.words, words.ids.tolist(), template)


def _has_template(path: Path) -> bool:
    if not path.is_dir():
        return False
    if (path / "chat_template.jinja").is_file():
        return True
    config = path / "tokenizer_config.json"
    return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8")
