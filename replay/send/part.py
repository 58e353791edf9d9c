"""One sender's part of a cell on disk: its rows, and what it says of itself. It does not know the other senders."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from replay.send.books import Books
from replay.send.sender import Sender
from replay.send.spec import SendSpec

ATTEMPTS, FACTS = "attempts.parquet", "sender.json"


def play(spec: SendSpec, sender: Sender, epoch_s: float) -> dict[str, Any]:
    """Play the sender's share and write its part, aside and then renamed; returns the facts of `sender.json`."""
    cpu_began_s, waited_began_s = time.process_time(), waited_s()
    ended_s = sender.run(epoch_s)
    facts = {
        "cell_id": spec.cell.cell_id,
        "sender": spec.sender,
        "senders": spec.senders,
        "counts": sender.client.counts,
        "ended_s": ended_s,
        "cpu_s": time.process_time() - cpu_began_s,
        "waited_s": waited_s() - waited_began_s,
        "facts": dict(sender.facts),
        "lag_limit_s": spec.lag_limit_s,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }
    return write_part(spec.part, sender.books, facts)


def write_part(folder: Path, books: Books, facts: dict[str, Any]) -> dict[str, Any]:
    """Write rows and facts into `folder`, with how late the sender itself was: to send, and to see first tokens (at most)."""
    import numpy as np
    import pyarrow.parquet as pq

    table = books.rows.table()
    facts = facts | {"attempts": table.num_rows} | send_lag(table) | quantiles("read_lag", np.asarray(books.read_lags_s))
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    pq.write_table(table, aside / ATTEMPTS, compression="zstd")
    (aside / FACTS).write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return facts


def send_lag(table: Any) -> dict[str, float | None]:
    """Of sent − scheduled, over all attempts that were sent."""
    import pyarrow.compute as pc

    return quantiles("send_lag", pc.subtract(table["sent_us"], table["scheduled_us"]).drop_null().to_numpy() / 1e6)


def quantiles(name: str, values_s: Any) -> dict[str, float | None]:
    """`<name>_p50_s`, `_p99_s` and `_max_s`; None where there is no value."""
    import numpy as np

    names = [f"{name}_{which}_s" for which in ("p50", "p99", "max")]
    if not len(values_s):
        return dict.fromkeys(names)
    return dict(zip(names, np.quantile(values_s, (0.5, 0.99, 1.0)).tolist(), strict=True))


def waited_s() -> float:
    """Seconds that this process was ready to run and had no processor (Linux's schedstat; 0 elsewhere)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def void_reason(facts: dict[str, Any]) -> str:
    """Why what this sender saw does not count; "" where it does."""
    if (facts["send_lag_p99_s"] or 0) > facts["lag_limit_s"]:
        return f"the sender fell behind: send lag p99 {facts['send_lag_p99_s']:.4f} s, limit {facts['lag_limit_s']} s"
    if (facts["read_lag_p99_s"] or 0) > facts["lag_limit_s"]:
        return f"the sender read too late: read lag p99 {facts['read_lag_p99_s']:.4f} s, limit {facts['lag_limit_s']} s"
    if facts["facts"].get("no_socket"):
        return f"this machine had no socket left for {facts['facts']['no_socket']} attempts"
    return ""
