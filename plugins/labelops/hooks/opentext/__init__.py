"""OpenText Workflow Service (IM Cloud Services): processes, people's tasks, comments, history, models.

What is known of the service comes from OpenText's own sample code and from clients that use it; it behaves as Flowable
with other paths and HAL lists. Nothing here was tried on a live tenant, so host, paths and list names are settings of
the connection. Connection ``opentext``: host is the API root (``https://us.api.opentext.com``), login the client id,
password the client secret. Extra:

=========================  ==========================================================================================
``tenant_id``              the tenant in the token address (required)
``token_style``            ``json`` (OpenText's own form), ``form`` or ``basic``
``token_path``             default ``/tenants/{tenant_id}/oauth2/token``
``workflow_path``          default ``/workflow/v1``
``history_path``           default ``/workflow-history/v1``
``history_comments``       below the history path; default ``/historic-process-instances/{id}/comments`` (Flowable's)
``paths``                  where collections are, by their names, below the two paths: ``process-instances``,
                           ``executions``, ``tasks``, ``models``, ``historic-process-instances``,
                           ``historic-task-instances``
``rels``                   names of lists in ``_embedded``, by collection, where they differ from the collection's name
``completer_field``        field of a historic task that names who completed it; default ``completedBy``
``model_encoding``         how a model's XML travels when it is deployed: ``base64`` (default), ``url`` or ``plain``
``groups``                 role to candidate group in this tenant; goes before the mapping's own ``groups``
``unclaim``                ``action`` (default) or ``update`` (the assignee is set to null): how a task is given back
``assignment_removal``     how a link is named when it is removed: ``body`` (default), ``query``, ``path`` (Flowable's)
``attachment_content``     below an attachment's address, where its bytes are; default ``/content`` (Flowable's)
``process_page``           address that shows a process to a person, with ``{id}``
``history_grace_seconds``  how long history may lag behind, default 30
``count``                  elements a list request asks for, default 100
``verify``, ``timeout``    TLS check (or a bundle's path), seconds for one reply (default 60)
=========================  ==========================================================================================
"""

from __future__ import annotations

from labelops.hooks.opentext.hook import OpenTextWorkflowHook
from labelops.hooks.opentext.values import Encrypted, parse_time, read_variables, write_variable

__all__ = ["Encrypted", "OpenTextWorkflowHook", "parse_time", "read_variables", "write_variable"]
