"""What the commands work on, as the tests of the parts behind them make it."""

from tests.decisions.test_completion_probe import bench
from tests.exports.test_answers import file
from tests.governance.conftest import empty_url, filled, ledger, signer, sqlite_ledger, store

__all__ = ["bench", "empty_url", "file", "filled", "ledger", "signer", "sqlite_ledger", "store"]
