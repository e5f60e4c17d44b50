"""What every run does last: keep the ledger's head outside its database, and remove staged content that is old."""

from __future__ import annotations

from datetime import timedelta

from include.base.store import StorePath, files_below, local_path, modified, remove_abandoned
from include.governance.checkpoint import write_checkpoint
from include.run.run import Run

__all__ = ["keep_checkpoint", "remove_old_staging"]


def keep_checkpoint(run: Run) -> bool:
    """Write the ledger's head into the store, unless nothing was added since the last time."""
    written = write_checkpoint(run.ledger, run.store, run.signer)
    # Each checkpoint has a name of its own, so no later writer would take away what a killed one left.
    remove_abandoned(run.store.at("ledger", "checkpoints"))
    # Of an object whose writer was killed the next try may write another: nothing comes to its name again.
    objects = local_path(run.store.at("objects"))
    for shelf in objects.iterdir() if objects is not None and objects.is_dir() else ():
        remove_abandoned(shelf)
    head = run.ledger.head()
    how = "checkpoint written" if written else "as at the last checkpoint"
    run.log.info(f"The ledger has {head.size} event(s), head {head.hash[:12]}: {how}.")
    return written


def remove_old_staging(run: Run, days: int) -> int:
    """Remove what this DAG staged in runs that ended long ago, for it holds label content; return how many files.

    A run's folder goes when the newest file in it is older than that. The running one is never touched.
    """
    folder = run.store.at("staging", run.ref.dag_id)
    if not folder.exists():
        return 0
    oldest = run.now() - timedelta(days=days)
    running = run.staging.parent.parent.parent.name  # staging/<dag>/<run>/<task>/<map index>/<try>
    removed = runs = 0
    for one in list(folder.iterdir()):
        files = list(files_below(one))
        # A store that does not say when something was written keeps everything.
        written = [modified(file) for file in files or [one]]
        if one.name == running or any(moment is None or moment >= oldest for moment in written):
            continue
        for file in files:
            file.unlink()
        _remove_folders(one)
        removed, runs = removed + len(files), runs + 1
    if runs:
        run.log.info("Removed %d staged file(s) of %d run(s) older than %d days.", removed, runs, days)
    return removed


def _remove_folders(folder: StorePath) -> None:
    if not folder.exists():
        return  # a cloud store has no folder without a file in it
    for path in list(folder.iterdir()):
        _remove_folders(path)
    folder.rmdir()
