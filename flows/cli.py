"""The command line: what each command is called and takes. Everything heavy is imported by the command that needs it."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from flows.failure import report_failure, say

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `stampede`; always ends in SystemExit: 0 done, 1 failed or void, 2 bad usage or bad study."""
    code = _code(arguments)
    if code == FAILED and arguments is None:
        # Prefect keeps a failed task's frames, and a DuckDB connection in one of them prints pages of its own at a normal exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _code(arguments: list[str] | None) -> int:
    try:
        result = commands.main(arguments, prog_name="stampede", standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except click.ClickException as error:
        say(error.format_message())
    except ValueError as error:
        say(str(error))
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        report_failure("failed", error)
        return FAILED
    return BAD_USAGE


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stampede", prog_name="stampede")
def commands() -> None:
    """Which LLM router should stand in front of my pool, on my traffic, and which one comes back after a stampede?"""


@commands.command()
@click.argument("study", required=False)
@click.option("--out", metavar="DIR", help="Folder of the run (default: runs/<study>-<utc time>).")
@click.option("--set", "sets", metavar="KEY.PATH=VALUE", multiple=True, help="Change one key of the study; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Shift the seeds: N, N+1, …")
@click.option("--resume", metavar="DIR", help="Finish an interrupted run: only what is missing is run.")
@click.option("--processes", type=click.IntRange(1, 256), metavar="N", help="Cells run at once (default: the cores).")
def run(study: str | None, **options: Any) -> int:
    """Run STUDY (a YAML file or a preset's name; default quickstart); the last line on stdout is the report's path."""
    from flows.run_command import run_to_report

    return run_to_report(study, **{**options, "sets": list(options["sets"])})


@commands.command()
@click.argument("study", required=False)
@click.option("--out", metavar="DIR", help="Folder of the run (default: runs/<study>-<utc time>).")
@click.option("--set", "sets", metavar="KEY.PATH=VALUE", multiple=True, help="Change one key of the study; repeatable.")
@click.option("--resume", metavar="DIR", help="Finish an interrupted probe: only what is missing is run.")
@click.option("--phases", metavar="NAME,…", help="Only these phases and what they need (default: all).")
@click.option("--processes", type=click.IntRange(1, 256), metavar="N", help="Cells run at once (default: the cores).")
def probe(study: str | None, **options: Any) -> int:
    """Map what STUDY's routers survive (default: the preset `probe`), and why they fail; the last line is the report's path."""
    from flows.probe.command import probe_to_report

    return probe_to_report(study, **{**options, "sets": list(options["sets"])})


@commands.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
def report(runs: tuple[str, ...]) -> int:
    """Build the tables and the page of each RUN folder anew, from its Parquet files."""
    from flows.probe.command import rebuild_reports

    return rebuild_reports([Path(run) for run in runs])


@commands.command()
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="FILE", help="The page (default: DIR/history.html).")
@click.option("--gate", type=click.Choice(["sure", "likely", "none"]), default="sure", help="What exits with 1 (default sure).")
@click.option("--since", type=click.IntRange(min=1), default=1, metavar="N", help="The last N nights are news (default 1).")
@click.option("--nights", type=click.IntRange(min=1), metavar="N", help="Look back N nights only (default: all).")
@click.option("--floor", type=click.FloatRange(min=0, min_open=True), metavar="CV", help="Least noise believed (default 0.005).")
@click.option("--summary", metavar="FILE.md", help="Write a Markdown summary, for a pull request or chat.")
@click.option("--markdown", is_flag=True, help="The same summary on stdout, before the page's path.")
def history(folder: str, **options: Any) -> int:
    """Judge the nights in DIR (a folder of runs): what changed, since when, by how much; exit code 1 for a regression."""
    from flows.history import write_history

    return write_history(folder, **options)


@commands.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--out", metavar="FILE", help="The page (default: compare.html in the last RUN).")
@click.option("--gate", type=click.Choice(["sure", "likely", "none"]), default="sure", help="What exits with 1 (default sure).")
@click.option("--floor", type=click.FloatRange(min=0), metavar="SHARE", help="Smaller differences count as none (default 0.005).")
@click.option("--summary", metavar="FILE.md", help="Write a Markdown summary, for a pull request or chat.")
@click.option("--markdown", is_flag=True, help="The same summary on stdout, before the page's path.")
def compare(runs: tuple[str, ...], **options: Any) -> int:
    """Hold RUNs against the first: differences over equal workloads, verdicts, settings; exit code 1 where one is worse."""
    from flows.compare import write_comparison

    return write_comparison(runs, **options)


@commands.command()
@click.option("--install", type=click.Choice(["vllm", "sglang"]), help="Make an environment with this engine, for the CPU.")
@click.option("--into", metavar="DIR", help="With --install: its folder (default: among the user's data).")
def doctor(install: str | None, into: str | None) -> int:
    """Say what is installed, which engines, GPUs and gateways were found, and what can run here."""
    from flows.doctor import findings, install_engine

    if install:
        return install_engine(install, into)
    if into is not None:
        raise ValueError(f"--into {into!r} belongs to --install")
    found = list(findings())
    width = max(len(name) for name, _ in found)
    for name, text in found:
        click.echo(f"{name:<{width}}  {text}")
    return DONE


@commands.group()
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


@commands.group()
def serve() -> None:
    """Serve a simulated engine, or the router, over HTTP, for any client or gateway."""


@serve.command("replica")
@click.option("--profile", required=True, metavar="P", help="An engine profile: a shipped one's name, or a .json file.")
@click.option(
    "--replicas", type=click.IntRange(1, 256), default=1, metavar="N", help="How many, each with its own engine and port."
)
@click.option("--host", default="127.0.0.1", metavar="HOST", help="Address to listen on (default: this machine only).")
@click.option("--port", type=click.IntRange(0, 65_535), default=8001, metavar="N", help="First port (default 8001; 0: any free).")
@click.option(
    "--flavour", type=click.Choice(["vllm", "sglang"]), help="Whose manners and metrics (default: the profile's engine)."
)
@click.option("--model", metavar="NAME", help="The served model's name (default: the profile's).")
@click.option("--tokenizer", metavar="PATH", help="A tokenizer.json or a model's folder (default: a made-up tokenizer).")
@click.option(
    "--vocab-size", type=click.IntRange(min=64), metavar="N", help="Token ids are below N (default 128256, or the file's)."
)
@click.option("--api-key", metavar="KEY", envvar="STAMPEDE_API_KEY", help="Ask clients for this key.")
@click.option("--admin", is_flag=True, help="Allow POST /fault: pause, slow, refuse, kill, flush.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Change one field of the profile; repeatable.")
@click.option(
    "--shutdown-timeout", "shutdown_timeout_s", type=click.FloatRange(min=0), default=30.0, metavar="S", help="After SIGTERM."
)
def serve_replica(**options: Any) -> int:
    """OpenAI-compatible servers of the simulated engine, in wall time; their URLs on stdout, one a line."""
    from flows.serve import serve_replicas

    return serve_replicas(**options)


@serve.command("router")
@click.option("--policy", required=True, metavar="'NAME KEY=VALUE…'", help="The routing rule and its parameters.")
@click.option("--replica", "replicas", metavar="URL", multiple=True, help="A replica, http://HOST:PORT; repeatable.")
@click.option("--prefill", "prefills", metavar="URL[,PORT]", multiple=True, help="A prefill replica (and its bootstrap port).")
@click.option("--decode", "decodes", metavar="URL", multiple=True, help="A decode replica; repeatable.")
@click.option("--pairs", type=click.Choice(["vllm", "sglang"]), default="vllm", help="How such replicas meet (default vllm).")
@click.option("--guard", "guards", metavar="'NAME KEY=VALUE…'", multiple=True, help="A guard; repeatable, in order.")
@click.option("--profile", metavar="P", help="The replicas' engine profile, for rules that predict: a name, or a .json file.")
@click.option("--host", default="127.0.0.1", metavar="HOST", help="Address to listen on (default: this machine only).")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, metavar="N", help="Port (default 8000; 0: any free).")
@click.option("--admin-port", type=click.IntRange(0, 65_535), metavar="N", help="Add and remove replicas here, on 127.0.0.1.")
@click.option("--health-path", default="/health", metavar="PATH", help="What to GET of replicas (default /health).")
@click.option("--health-every", "health_s", type=click.FloatRange(min=0.05), default=2.0, metavar="S", help="How often.")
@click.option("--observe-every", "observe_s", type=click.FloatRange(min=0), default=1.0, metavar="S", help="Gauges (0: never).")
@click.option("--session-header", "session_headers", metavar="NAME", multiple=True, help="Default x-session-id; repeatable.")
@click.option("--forwarded-for", is_flag=True, help="Tell replicas the client's address (X-Forwarded-For).")
@click.option("--log", metavar="FILE.jsonl", help="Append a line for each try: where it went, why, how it ended.")
@click.option("--tell-replica", is_flag=True, help="Answers say which replica gave them (x-stampede-replica: its id).")
@click.option("--max-body", "body_mib", type=click.IntRange(1, 1024), default=32, metavar="MIB", help="Longest request.")
@click.option("--max-connections", type=click.IntRange(min=1), default=16_384, metavar="N", help="Of clients, at one time.")
@click.option("--connect-timeout", "connect_s", type=click.FloatRange(min=0.01), metavar="S", help="To a replica (default 5).")
@click.option("--first-byte-timeout", "first_byte_s", type=click.FloatRange(min=0.01), metavar="S", help="Default 600.")
@click.option("--idle-timeout", "idle_s", type=click.FloatRange(min=0.01), metavar="S", help="Within an answer (default 120).")
@click.option("--total-timeout", "total_s", type=click.FloatRange(min=0.01), metavar="S", help="In all (default 3600).")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of the policy's draws.")
@click.option("--shutdown-timeout", "shutdown_s", type=click.FloatRange(min=0), default=30.0, metavar="S", help="After SIGTERM.")
def serve_router(**options: Any) -> int:
    """An OpenAI-compatible reverse proxy in front of replicas; its URL on stdout once it listens."""
    from flows.serve_router import serve_router

    return serve_router(**options)


@commands.command()
@click.option("--url", required=True, metavar="URL", help="The engine's address, http://HOST:PORT; nothing else may use it.")
@click.option("--out", required=True, metavar="FILE.json", help="The profile to write.")
@click.option("--engine", type=click.Choice(["vllm", "sglang"]), help="Which engine it is (default: by its metrics).")
@click.option("--name", metavar="NAME", help="The profile's name (default: the file's).")
@click.option("--gpu", default="unknown", metavar="TEXT", help="Which card it runs on, for the profile and the report.")
@click.option(
    "--vocab-size", type=click.IntRange(min=2), default=1000, metavar="N", help="Prompts are token ids below N (default 1000)."
)
@click.option("--api-key", metavar="KEY", envvar="STAMPEDE_API_KEY", help="The key that the engine asks for.")
@click.option("--max-running", type=click.IntRange(min=1), metavar="N", help="Its largest batch (vLLM does not tell: 256).")
@click.option("--max-batched-tokens", type=click.IntRange(min=1), metavar="N", help="Its token budget a step (default 8192).")
@click.option("--kv-tokens", type=click.IntRange(min=1), metavar="N", help="Its KV pool, where the engine does not tell.")
@click.option("--quick", is_flag=True, help="Fewer and shorter sweeps: about a minute, with larger errors.")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of prompts and arrivals.")
def calibrate(**options: Any) -> int:
    """Measure a live vLLM or SGLang and write its engine profile; prints the errors of the fit and of a held-out run."""
    from flows.calibrate import calibrate_engine

    return calibrate_engine(**options)


@commands.group()
def profile() -> None:
    """Engine profiles: the shipped ones, one from data sheets, and how true one is."""


@profile.command("list")
def list_profiles() -> None:
    """The shipped profiles, and the models and GPUs that `roofline` knows."""
    from flows.profiles import list_all

    list_all()


@profile.command("roofline")
@click.option("--model", required=True, metavar="NAME", help="A model's shape, e.g. llama-3-8b (`profile list`).")
@click.option("--gpu", required=True, metavar="NAME", help="A card, e.g. h100-sxm (`profile list`).")
@click.option("--tp", type=click.IntRange(min=1), default=1, metavar="N", help="Tensor parallelism: N cards.")
@click.option("--out", metavar="FILE.json", help="The profile to write (default: print it).")
def roofline_profile(model: str, gpu: str, tp: int, out: str | None) -> None:
    """A profile for a card nobody has measured, from data sheets; labelled so, with the error against what was measured."""
    from flows.profiles import write_roofline

    write_roofline(model, gpu, tp, out)


@profile.command("fidelity")
@click.argument("folder")
@click.option("--profile", "name", metavar="P", help="A profile's name or file (default: fit one to the folder now).")
def profile_fidelity(folder: str, name: str | None) -> int:
    """Hold predictions against the measured runs of a calibration FOLDER; exit code 1 when one is outside its limit."""
    from replicas.fidelity import main as judge

    return judge([folder, *(["--profile", name] if name else [])])


if __name__ == "__main__":
    main()
