from collections.abc import Iterator

import pytest

pytest_plugins = [
    "tests.workers",
    "tests.airflow_home",
    "tests.order",
    "tests.servers",
    "tests.house",
    "tests.validation",
    "tests.contracts.plugin",
    "tests.contracts.opentext_plugin",
]


@pytest.fixture(autouse=True)
def own_pace() -> Iterator[None]:
    """Forget the pace of each address: a later test's server may get the port of one that asked for a long pause."""
    from include.systems import pace

    yield
    pace._PACES.clear()
