"""Skips the tests marked `gateway` where the program is not installed."""

import pytest

from routers.gateways import find_gateway
from routers.gateways.programs import MissingProgram, find_program


@pytest.fixture(autouse=True)
def _skip_without_program(request: pytest.FixtureRequest) -> None:
    """A test marked `gateway` is skipped where the program of its parameter `name` is missing."""
    if request.node.get_closest_marker("gateway") is None:
        return
    try:
        find_program(find_gateway(request.node.callspec.params["name"]).program)
    except MissingProgram as missing:
        pytest.skip(str(missing))
