"""Where a file of a Hugging Face data set lies today: in the hub's own cache, or behind which URL. It does not fetch it."""

import re
import urllib.parse
from pathlib import Path

from workloads.sources.download.reach import check_reachable
from workloads.sources.download.remote_file import RemoteFile
from workloads.sources.download.transfer import Target, TransferError

_METADATA_TIMEOUT_S = 10.0


def hub_cached(file: RemoteFile) -> Path | None:
    """The file in the hub client's cache, where it was put by `datasets` or `hf download`."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repo, file.path, revision=file.revision, repo_type="dataset")
    if not isinstance(found, str) or (file.size_bytes is not None and Path(found).stat().st_size != file.size_bytes):
        return None
    return Path(found)


def hub_target(file: RemoteFile) -> tuple[Target, str | None]:
    """What to get for a hub file, and the commit it belongs to; raises TransferError, at once when the hub is out of reach.

    The client's own download is not used: since huggingface_hub 2 it starts every interrupted file anew.
    """
    from datasets import config  # the settings of `datasets`: offline mode, endpoint
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url

    if config.HF_HUB_OFFLINE:
        raise TransferError("HF_HUB_OFFLINE is set")
    check_reachable(config.HF_ENDPOINT)
    url = hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.revision, endpoint=config.HF_ENDPOINT)
    try:
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        found = get_hf_file_metadata(url, token=token or False, timeout=_METADATA_TIMEOUT_S, endpoint=config.HF_ENDPOINT)
    except Exception as error:  # the hub client's own errors share no base class
        raise TransferError(_why(file, error)) from error
    at_hub = urllib.parse.urlsplit(found.location).netloc == urllib.parse.urlsplit(config.HF_ENDPOINT).netloc
    hashed = found.etag if found.etag and re.fullmatch(r"[0-9a-f]{64}", found.etag) else None  # large files: their sha256
    target = Target(
        address=file.address,
        url=found.location,
        headers={"Authorization": f"Bearer {token}"} if token and at_hub else {},
        version=found.etag,
        size_bytes=file.size_bytes or found.size,
        sha256=file.sha256 or hashed,
    )
    return target, found.commit_hash


def _why(file: RemoteFile, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError) or (file.gated and isinstance(error, errors.RepositoryNotFoundError)):
        return file.way_in
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no data set {file.repo}, or it is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{file.repo} has no revision {file.revision}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{file.repo} has no file {file.path} at {file.revision or 'main'}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
