"""Whether a host answers at all, told within seconds. It does not know what is asked of it."""

import socket
import threading
import urllib.parse
import urllib.request

from workloads.sources.download.transfer import TransferError

REACH_S = 3.0


def check_reachable(url: str) -> None:
    """Raise TransferError unless the host behind `url` takes a connection within `REACH_S`; behind a proxy nothing can be told.

    Clients retry for long before they give up, and a name lookup without a network may take longer still.
    """
    split = urllib.parse.urlsplit(url)
    host, port = split.hostname or "", split.port or (443 if split.scheme == "https" else 80)
    if urllib.request.getproxies().get(split.scheme) and not urllib.request.proxy_bypass(host):
        return
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=REACH_S).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)  # a lookup cannot be interrupted, only left behind
    thread.start()
    thread.join(REACH_S)
    if not outcome:
        raise TransferError(f"{host} does not answer within {REACH_S:g} s")
    if (failure := outcome[0]) is not None:
        raise TransferError(f"{host}: {failure.strerror or failure}") from failure
