"""The commands about traces: what each is called and takes. Everything heavy is imported by the command that needs it."""

from typing import Any

import click


@click.group()
def trace() -> None:
    """Trace data sets: list the known ones, import one, describe one."""


@trace.command("list")
def list_traces() -> None:
    """The trace sources that are known by name."""
    from flows.import_trace import list_sources

    list_sources()


@trace.command("import")
@click.argument("name")
@click.option("--from", "from_path", metavar="FILE", help="The published file or folder; without it NAME is downloaded.")
@click.option("--out", metavar="FILE", help="Parquet file to write (default: data/NAME.parquet).")
@click.option(
    "--map", "maps", metavar="KEY=COLUMN", multiple=True, help="For a table of your own: which column is what; repeatable."
)
@click.option(
    "--select", "selects", metavar="KEY=VALUE", multiple=True, help="Keep some sessions, e.g. turns=[2, null]; repeatable."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="For sources that draw (ticks, ServeGen).")
def import_trace(
    name: str, from_path: str | None, out: str | None, maps: tuple[str, ...], selects: tuple[str, ...], seed: int
) -> None:
    """Convert the data set NAME to one Parquet file that a study can name as workload.trace."""
    from flows.import_trace import import_to_file

    import_to_file(name, from_path, out, maps, selects, seed)


@trace.command("describe")
@click.argument("file")
@click.option("--source", metavar="NAME", help="The file's format, where its content does not tell.")
@click.option(
    "--map", "maps", metavar="KEY=COLUMN", multiple=True, help="For a table of your own: which column is what; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
@click.option("--html", metavar="PAGE", help="Write a self-contained page; its path is the last line.")
@click.option("--fidelity", is_flag=True, help="Synthesize a workload of it, and show both side by side.")
@click.option("--study", metavar="STUDY", help="With --fidelity: the workload of this study.")
@click.option(
    "--load", "load_rps", type=float, metavar="RPS", help="With --fidelity: requests due per second (default: the trace's own)."
)
@click.option("--seconds", type=float, metavar="S", help="With --fidelity: for how long.")
@click.option("--arrival", metavar="PROCESS", help="With --fidelity: how sessions arrive.")
def describe_trace(
    file: str, source: str | None, maps: tuple[str, ...], as_json: bool, html: str | None, **fidelity: Any
) -> None:
    """Arrivals, lengths, turns, prefix reuse and provenance of FILE (or of a source by name)."""
    from flows.describe_trace import Comparison, describe_trace
    from flows.import_trace import mapped

    wanted = fidelity.pop("fidelity")
    if not wanted and any(value is not None for value in fidelity.values()):
        raise ValueError("--study, --load, --seconds and --arrival belong to --fidelity")
    against = Comparison(**fidelity) if wanted else None
    describe_trace(file, source, columns=mapped(maps), as_json=as_json, html=html, against=against)


@trace.command("prompts")
@click.argument("file")
@click.option(
    "--as", "form", type=click.Choice(["ids", "text", "chat"]), default="ids", help="Token ids, text, or chats (a trace)."
)
@click.option("--tokenizer", metavar="PATH", help="A tokenizer.json or a model's folder (with its chat template, for chats).")
@click.option(
    "--vocab-size", type=click.IntRange(min=2), metavar="N", help="Ids below N; alone, for engines without a tokenizer."
)
@click.option("--out", metavar="FILE", help="JSON lines to write (default: FILE.prompts.jsonl here).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N prompts.")
def write_prompts(
    file: str, form: str, tokenizer: str | None, vocab_size: int | None, out: str | None, limit: int | None
) -> None:
    """Write the prompts of the workload FILE for real engines: the same content is the same tokens, lengths are exact."""
    from flows.write_prompts import write_prompts_file

    write_prompts_file(file, form, tokenizer, vocab_size, out, limit)
