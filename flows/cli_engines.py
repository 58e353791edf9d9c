"""The commands about engines and routers as servers, and engine profiles: what each is called and takes."""

from typing import Any

import click


@click.group()
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


@click.command()
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


@click.group()
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
