"""The body of `stampede trace prompts`: a workload's or a trace's prompts as JSON lines, made real for one tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from workloads.prompts.prompts_file import Realised
    from workloads.request import Request


def write_prompts_file(
    file: str, form: str, tokenizer: str | None, vocab_size: int | None, out: str | None, limit: int | None
) -> None:
    """Write the prompts; the file's path is the last line on stdout. ValueError in one line for what does not fit together."""
    path, target = Path(file), Path(out or f"{Path(file).stem}.prompts.jsonl")
    if not path.is_file():
        raise ValueError(f"{file}: no such file; name a workload (RUN/workloads/*.parquet), or with --as chat a trace")
    if target.exists() and (not target.is_file() or target.samefile(path)):
        raise ValueError(f"--out {target}: is the workload itself, or no plain file; name another")
    if form != "ids" and tokenizer is None:
        raise ValueError(f"--as {form} needs --tokenizer: a tokenizer.json, or the folder of a model")
    if tokenizer is None and vocab_size is None:
        raise ValueError("--as ids needs --tokenizer or --vocab-size")
    if tokenizer is not None and not Path(tokenizer).exists():
        raise ValueError(f"--tokenizer {tokenizer}: no such file or folder")
    count = (
        _write_chat(path, Path(str(tokenizer)), target, limit)
        if form == "chat"
        else _write(path, form, tokenizer, vocab_size, target, limit)
    )
    click.echo(f"{count:,} prompts as {form}", err=True)
    click.echo(str(target))


def _write(path: Path, form: str, tokenizer: str | None, vocab_size: int | None, out: Path, limit: int | None) -> int:
    from workloads.prompts.prompts_file import write_prompts
    from workloads.storage import read_workload

    realise = _text(Path(str(tokenizer)), vocab_size) if form == "text" else _ids(tokenizer, vocab_size)
    return write_prompts(read_workload(path).requests[:limit], realise, out)


def _ids(tokenizer: str | None, vocab_size: int | None) -> "Callable[[Request], Realised]":
    from workloads.prompts.token_ids import prompt_ids
    from workloads.prompts.vocabulary import Vocabulary

    vocabulary = Vocabulary.of_size(vocab_size or 0) if tokenizer is None else Vocabulary.of_file(Path(tokenizer), vocab_size)
    return lambda request: prompt_ids(request.segments, vocabulary)


def _text(tokenizer: Path, vocab_size: int | None) -> "Callable[[Request], Realised]":
    from workloads.prompts.words import Words, prompt_text

    words = Words.of_file(tokenizer, vocab_size)
    return lambda request: prompt_text(request.segments, words)


def _write_chat(path: Path, folder: Path, out: Path, limit: int | None) -> int:
    """The conversations' own texts through the model's chat template, a line a turn."""
    from itertools import islice

    from workloads.columns import aside_of
    from workloads.prompts.chat import ChatTemplate, chat_prompts
    from workloads.trace import load_trace

    template = ChatTemplate.of_folder(folder)
    lines = (
        {"conversation_id": c.conversation_id, "turn": turn, "prompt": prompt, "max_tokens": max(1, c.turns[turn].reply_tokens)}
        for c in load_trace(str(path), texts=True).rows()
        for turn, prompt in enumerate(chat_prompts(c, template))
    )
    count = 0
    with aside_of(out) as aside, aside.open("w", encoding="utf-8") as file:
        for line in islice(lines, limit):
            file.write(json.dumps(line) + "\n")
            count += 1
    return count
