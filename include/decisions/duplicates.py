"""Two processes for one business key: which one counts, and the end of the other.

The service has no idempotency key. A try that stood still between its look-up and its request, and was given up
meanwhile, starts a second process when it goes on. The one on the ledger counts. The other is ended: by the try that
started it, which learns at that moment that it was taken over, and else by the next run that looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from include.base.errors import Fenced
from include.projects.model import Project
from include.run.run import Run
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import ProcessStart

__all__ = ["end_duplicates", "end_if_overtaken"]


@contextmanager
def end_if_overtaken(
    run: Run, opentext: OpenTextClient, process_id: str, created: bool, recorded: Callable[[], str | None]
) -> Iterator[None]:
    """Record a process that was just started; where a newer try has recorded another one, end it again.

    :param created: whether this try started the process.
    :param recorded: returns the id of the process that is on the ledger, None where there is none.
    :raises Fenced: when a newer try has taken over.
    """
    try:
        yield
    except Fenced:
        known = recorded()
        if created and known not in (None, process_id):
            opentext.terminate(process_id, f"started twice: {known} counts")
            run.log.warning("Process %s was started twice and is ended: %s counts.", process_id, known)
        raise


def end_duplicates(
    run: Run,
    project: Project,
    subject: str,
    opentext: OpenTextClient,
    business_key: str,
    process_id: str,
    foreign: Callable[[ProcessStart], bool],
) -> int:
    """End what runs under a business key beside the process on the ledger, each with a finding; return how many.

    :param foreign: tells that a process is none of ours: it is left alone.
    """
    running = opentext.processes(business_key=business_key)
    duplicates = [one.id for one in running if one.id != process_id and not foreign(one.start)]
    for other in duplicates:
        detail = (
            f"process {other} was started beside {process_id}, which counts; it was ended, and no decision in it counts"
        )
        run.finding(project.name, subject, "process started twice", detail)
        opentext.terminate(other, f"started twice: {process_id} counts")
    return len(duplicates)
