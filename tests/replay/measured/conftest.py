"""The marker of the tests that need a real gateway (known to pytest wherever it starts)."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gateway: needs a real gateway's program (folders in STAMPEDE_GATEWAYS, or on PATH)")
