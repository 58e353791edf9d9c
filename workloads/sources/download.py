"""Files of public traces by name: cached once, fetched whole or not at all. It does not know what is in them."""

import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

_TIMEOUT_S = 20.0
_REACH_S = 3.0


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/stampede`, else `~/.cache/stampede`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stampede"


def url_file(source: str, url: str) -> Path:
    """The file behind a URL, from the cache or downloaded; ValueError in one line when it cannot be reached."""
    path = cache_folder() / source / urllib.parse.urlparse(url).path.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, aside.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
        os.replace(aside, path)
    except OSError as error:
        raise unreachable(source, url, error) from error
    finally:
        aside.unlink(missing_ok=True)
    return path


def hub_file(source: str, repo: str, file: str) -> Path:
    """A file of a Hugging Face data set, from the hub's own cache or downloaded by the hub client that `datasets` uses.

    Raises ValueError in one line, at once, when the hub cannot be reached.
    """
    from datasets import config  # loads the hub client, with the settings of `datasets`
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    where = f"{repo}/{file}"
    if config.HF_HUB_OFFLINE:
        raise unreachable(source, where, "HF_HUB_OFFLINE is set")
    _check_reachable(source, where, config.HF_ENDPOINT)
    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset", endpoint=config.HF_ENDPOINT, library_name="datasets"))
    except Exception as error:  # the hub client's own errors share no base class
        raise unreachable(source, where, error) from error


def _check_reachable(source: str, where: str, endpoint: str) -> None:
    """The hub client retries for 24 s before it gives up; a name lookup and a connect tell at once."""
    if urllib.request.getproxies():
        return
    url = urllib.parse.urlparse(endpoint)
    try:
        socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout=_REACH_S).close()
    except OSError as error:
        raise unreachable(source, where, error) from error


def unreachable(source: str, where: str, why: object) -> ValueError:
    reason = str(why).strip().split("\n")[0] or type(why).__name__
    return ValueError(
        f"cannot download {source} ({where}): {reason}; get the file by other means, then: "
        f"stampede trace import {source} --from FILE"
    )
