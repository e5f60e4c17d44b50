"""The hook: its parts put together."""

from __future__ import annotations

from labelops.hooks.opentext.comments import Comments
from labelops.hooks.opentext.executions import Executions
from labelops.hooks.opentext.history import History
from labelops.hooks.opentext.models import Models
from labelops.hooks.opentext.processes import Processes
from labelops.hooks.opentext.tasks import Tasks
from labelops.hooks.opentext.variables import Variables

__all__ = ["OpenTextWorkflowHook"]


class OpenTextWorkflowHook(Processes, Variables, Executions, Tasks, Comments, History, Models):
    """Talks to OpenText Workflow Service through one connection.

    Retries: reads, and writes that may be repeated, are tried again by the shared policy. A process start is never sent
    a second time without looking first; completing a task and commenting are sent once.

    :param opentext_conn_id: the connection's id.
    :param policy: the retry policy of single requests.
    :param connection: the connection itself, where the caller had to look it up (in a trigger, say).
    """
