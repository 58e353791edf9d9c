"""Small traces that presets use by name, beside the sources that `trace list` knows. It reads none.

`python -m flows.shipped_traces` writes them again: from our own generator, synthetic and labelled so.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "presets" / "traces"
SEED = 1


def shipped_traces() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.parquet"))


def trace_file(trace: str) -> str:
    """The file of a shipped trace; any other name as it is. A file of that name comes first."""
    shipped = FOLDER / f"{trace}.parquet"
    is_name = Path(trace).name == trace and not Path(trace).exists()
    return str(shipped) if is_name and shipped.is_file() else trace


def write_shipped() -> list[Path]:
    """`small-chats`: what a tiny model on a CPU can serve: several turns of a hundred tokens behind a shared system prompt."""
    from workloads.conversations_file import write_conversations
    from workloads.sources.synthetic import SyntheticParameters, generate

    small = SyntheticParameters(
        sessions=400,
        mean_turns=5.0,
        single_turn_share=0.15,
        user_median_tokens=70.0,
        user_sigma=0.6,
        reply_median_tokens=14.0,
        reply_sigma=0.4,
        message_max_tokens=400,
        tenants=8,
        zipf_exponent=0.7,
        system_median_tokens=160.0,
        system_sigma=0.3,
        think_median_s=2.5,
        think_sigma=0.5,
    )
    path = FOLDER / "small-chats.parquet"
    FOLDER.mkdir(parents=True, exist_ok=True)
    trace = generate(small, SEED)
    trace.provenance["file"] = path.name
    write_conversations(trace, path)
    return [path]


if __name__ == "__main__":
    print(*write_shipped(), sep="\n")
