"""The first line of a response. Nothing else."""

from http import HTTPStatus

_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


def status_line(status: int) -> bytes:
    """With its line end; a status without a name is written without one."""
    return _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
