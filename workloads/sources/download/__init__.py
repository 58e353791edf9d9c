"""Files of public traces by name: cached once, whole or not at all, with a record of their origin. It knows no formats.

`cached` keeps them, `transfer` brings the bytes and `hub` finds those of Hugging Face data sets.
"""

from workloads.sources.download.cached import check_content, fetch
from workloads.sources.download.folder import cache_folder
from workloads.sources.download.remote_file import RemoteFile, on_hub

__all__ = ["RemoteFile", "cache_folder", "check_content", "fetch", "on_hub"]
