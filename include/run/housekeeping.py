"""What every run does last: keep the ledger's head outside its database, and remove staged content that is old."""

from __future__ import annotations

from datetime import timedelta

from include.base.store import StorePath, files_below, modified, remove_abandoned
from include.run.run import Desk

__all__ = ["keep_checkpoint", "remove_old_staging"]


def keep_checkpoint(desk: Desk) -> bool:
    """Write the ledger's head into the store, unless nothing was added since the last time."""
    written = desk.ledger.write_checkpoint(desk.store, desk.signer)
    # Each checkpoint has a name of its own, so no later writer would take away what a killed one left.
    remove_abandoned(desk.store.at("ledger", "checkpoints"))
    head = desk.ledger.head()
    desk.log.info(
        "The ledger has %d event(s), head %s: %s.",
        head.size, head.hash[:12], "checkpoint written" if written else "as at the last checkpoint",
    )  # fmt: skip
    return written


def remove_old_staging(desk: Desk, days: int) -> int:
    """Remove what this DAG staged in runs that ended long ago, for it holds label content; return how many files.

    A run's folder goes when the newest file in it is older than that. The running one is never touched.
    """
    folder = desk.store.at("staging", desk.run.dag_id)
    if not folder.exists():
        return 0
    oldest = desk.now() - timedelta(days=days)
    running = desk.staging.parent.parent.parent.name  # staging/<dag>/<run>/<task>/<map index>/<try>
    removed = runs = 0
    for run in list(folder.iterdir()):
        files = list(files_below(run))
        # A store that does not say when something was written keeps everything.
        written = [modified(one) for one in files or [run]]
        if run.name == running or any(moment is None or moment >= oldest for moment in written):
            continue
        for file in files:
            file.unlink()
        _remove_folders(run)
        removed, runs = removed + len(files), runs + 1
    if runs:
        desk.log.info("Removed %d staged file(s) of %d run(s) older than %d days.", removed, runs, days)
    return removed


def _remove_folders(folder: StorePath) -> None:
    if not folder.exists():
        return  # a cloud store has no folder without a file in it
    for path in list(folder.iterdir()):
        _remove_folders(path)
    folder.rmdir()
