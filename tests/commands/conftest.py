"""What the commands work on, as the tests of the parts behind them make it."""

from tests.decisions.test_completion_probe import bench
from tests.governance.conftest import empty_url, filled, ledger, signer, sqlite_ledger, store
from tests.hooks.test_prodigy_export import file

__all__ = ["bench", "empty_url", "file", "filled", "ledger", "signer", "sqlite_ledger", "store"]
