"""Moving processes on: what the engine says is written down as tasks and ends."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from include.bpmn.read import UserTaskElement, read_process
from include.sandbox.opentext.engine import Position, text_value
from include.sandbox.opentext.service import Service
from include.sandbox.opentext.wire import play, type_of, variable_items

__all__ = ["Progress"]


class Progress(Service):
    """Where processes stand."""

    def _stand(self, process_id: str, position: Position, values: Mapping[str, Any], now: float) -> None:
        """Write where the engine stands: new tasks, or the end."""
        self.state.update("process", process_id, engine=position.state)
        process = self._process(process_id)
        known = {
            row["engine_task"]
            for row in self.state.rows("SELECT engine_task FROM task WHERE process_id = ?", process_id)
        }
        elements = {task.id: task for task in read_process(process["xml"], process["key"]).user_tasks}
        for engine_task, element_id in position.waiting.items():
            if engine_task not in known:
                self._offer(process_id, engine_task, elements[element_id], values, now)
        if position.ended:
            self.state.update("process", process_id, ended=now, end_activity=position.end)

    def _offer(
        self, process_id: str, engine_task: str, element: UserTaskElement, values: Mapping[str, Any], now: float
    ) -> None:
        groups = play(lambda: text_value(element.candidate_groups, values))
        self.state.insert(
            "task",
            id=str(uuid.uuid4()),
            process_id=process_id,
            engine_task=engine_task,
            key=element.id,
            name=element.name,
            description=element.documentation,
            groups=json.dumps([group.strip() for group in groups.split(",") if group.strip()]),
            outcome_variable=element.outcome_variables[0] if element.outcome_variables else None,
            created=now,
        )

    def _set_variables(self, process_id: str, items: Any, now: float) -> None:
        for item in variable_items(items):
            self.state.insert(
                "variable",
                process_id=process_id,
                name=item["name"],
                type=item.get("type") or type_of(item.get("value")),
                value=json.dumps(item.get("value"), ensure_ascii=False),
                scope=item.get("scope") or "local",
                encryption=int(bool(item.get("encryption"))),
                at=now,
            )
