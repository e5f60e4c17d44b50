"""The variables of running processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.base.errors import Conflict, InvalidReply, NotFound, Unavailable, Unsupported
from include.systems.http import read_json, segment
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.values import SYSTEM, as_object, read_variables, write_variable

__all__ = ["Variables"]


class Variables(OpenTextClient):
    """Variables of processes that run; those of an ended one come with its history."""

    def variables(self, process_id: str) -> dict[str, Any]:
        """Return a running process's variables; an encrypted one whose value the service keeps back is None.

        :raises NotFound: the process is not running.
        """
        return read_variables(self._list(self._variables_path(process_id), "variables", {}))

    def variable(self, process_id: str, name: str) -> Any:
        """Return one variable of a running process.

        :raises NotFound: the process is not running, or has no such variable.
        """
        try:
            path = f"{self._variables_path(process_id)}/{segment(name)}"
            item = as_object(read_json(self._request("GET", path), SYSTEM))
            return read_variables([{**item, "name": name}])[name]
        except (NotFound, Unsupported) as error:
            # Flowable reads one by its name; that this service does is not known, the list is.
            found = self.variables(process_id)
            if name not in found:
                raise NotFound(
                    f"{SYSTEM}: process {process_id} has no variable {name!r}", system=SYSTEM, status=404
                ) from error
            return found[name]

    def set_variable(self, process_id: str, name: str, value: Any) -> None:
        """Create or update one variable of a running process.

        :raises NotFound: the process is not running.
        """
        base = self._variables_path(process_id)
        body = write_variable(name, value)
        try:
            self._request("PUT", f"{base}/{segment(name)}", json=body, idempotent=True)
        except NotFound:
            # Flowable's PUT refuses a variable that does not exist yet; so the first write creates it.
            try:
                self._request("POST", base, json=[body])
            except Conflict:
                self._request("PUT", f"{base}/{segment(name)}", json=body, idempotent=True)

    def set_variables(self, process_id: str, variables: Mapping[str, Any]) -> None:
        """Create or update several variables of a running process; all of them stand when it returns.

        Those that are new are created in one request, the others updated one by one: the service has no single request
        for both, so another reader may see some of them before the rest.

        :raises NotFound: the process is not running.
        :raises InvalidInput: a value that no type stands for; nothing was written.
        """
        bodies = {name: write_variable(name, value) for name, value in variables.items()}
        present = self.variables(process_id)
        new = [body for name, body in bodies.items() if name not in present]
        left = [name for name in bodies if name in present]
        if new:
            try:
                self._request("POST", self._variables_path(process_id), json=new)
            except (Conflict, Unavailable, InvalidReply):
                # Somebody created one meanwhile, or the reply is lost: each by itself may be written twice.
                left = list(bodies)
        for name in left:
            self.set_variable(process_id, name, variables[name])

    def delete_variable(self, process_id: str, name: str) -> bool:
        """Delete a variable of a running process; return whether it was there.

        :raises NotFound: the process is not running.
        """
        if name not in self.variables(process_id):
            return False
        try:
            path = f"{self._variables_path(process_id)}/{segment(name)}"
            self._request("DELETE", path, idempotent=True)
        except NotFound:
            return name in self.variables(process_id)
        return True

    def _variables_path(self, process_id: str) -> str:
        return f"{self.settings.at('process-instances')}/{segment(process_id)}/variables"
