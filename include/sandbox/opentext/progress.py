"""Moving processes on: what the engine says is written down as tasks, called processes and ends."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from include.base.errors import InvalidInput
from include.sandbox.http import HttpError, Reply, Request
from include.sandbox.opentext.engine import EngineError, Position, World, advance, begin, text_value, tick
from include.sandbox.opentext.expressions import ExpressionError, compile_expression
from include.sandbox.opentext.model import TaskElement, read_model
from include.sandbox.opentext.service import Service, Subject
from include.sandbox.opentext.shapes import utc_time
from include.sandbox.opentext.timers import read_schedule
from include.sandbox.opentext.wire import play, type_of, variable_items

__all__ = ["Progress"]

_DEEPEST = 30
"""Processes that call each other deeper than this never end."""


class Progress(Service):
    """Where processes stand."""

    _depth = 0

    def tick(self) -> int:
        """Let every timer fire whose time has come; return how many processes were moved.

        Each process is a transaction of its own. One that cannot go on keeps its place and its timer is not tried
        again, as the real engine does with a job that has no retries left.
        """
        now = self.clock()
        moved = 0
        while self.state.row("SELECT 1 FROM process WHERE due <= ? AND ended IS NULL", now):
            process_id = None
            try:
                with self.state.transaction():
                    waiting = "SELECT id, engine FROM process WHERE due <= ? AND ended IS NULL ORDER BY due, rowid"
                    found = self.state.row(waiting, now)
                    if found is None:
                        return moved
                    process_id, state = found["id"], found["engine"]
                    self._move(process_id, lambda world, state=state: tick(state, world), now)  # type: ignore[misc]
            except HttpError:
                with self.state.transaction():
                    self.state.update("process", str(process_id), due=None)
            moved += 1
        return moved

    def _signed_in(self, handler: Callable[[Request, Subject], Reply]) -> Callable[[Request], Reply]:
        answer = super()._signed_in(handler)

        def run(request: Request) -> Reply:
            self.tick()
            return answer(request)

        return run

    # --- starting and ending ---------------------------------------------------------------------------------------

    def _begin(self, model: Any, items: Any, now: float, **columns: Any) -> str:
        """Start a process and return its id. ``columns`` are further ones of its row."""
        process_id = str(uuid.uuid4())
        self.state.insert("process", id=process_id, model_id=model["id"], started=now, engine="", **columns)
        self._set_variables(process_id, items, now)
        self._move(process_id, lambda world: begin(model["xml"], model["key"], world), now)
        return process_id

    def _stop(self, process_id: str, reason: str, now: float) -> None:
        """End a process, its tasks and the processes it called, from outside."""
        self.state.update("process", process_id, ended=now, delete_reason=reason, due=None)
        for task in self.state.rows("SELECT id FROM task WHERE process_id = ? AND ended IS NULL", process_id):
            self.state.update("task", task["id"], ended=now, delete_reason=reason)
        for child in self.state.rows("SELECT id FROM process WHERE parent_id = ? AND ended IS NULL", process_id):
            self._stop(child["id"], reason, now)

    # --- one step --------------------------------------------------------------------------------------------------

    def _move(self, process_id: str, step: Callable[[World], Position], now: float) -> None:
        """Play one step of a process and everything that follows from it, here and in other processes.

        :raises HttpError: 500, as Flowable's plain exception; nothing is kept.
        """
        if self._depth >= _DEEPEST:
            raise play_error("processes call each other without an end")
        world = World(self.state.values(process_id), now)
        position = play(lambda: step(world))
        self._depth += 1
        try:
            self._stand(process_id, position, world.variables, now)
        finally:
            self._depth -= 1

    def _stand(self, process_id: str, position: Position, values: Mapping[str, Any], now: float) -> None:
        process = self._process(process_id)
        model = read_model(process["xml"], process["key"])
        self.state.update("process", process_id, engine=position.state, due=position.due)
        self._drop_gone(process_id, position, now)
        for engine_task, element_id in position.waiting.items():
            if element_id in model.tasks:
                self._offer(process_id, engine_task, model.tasks[element_id], values, now)
            elif element_id in model.calls:
                self._call(process, engine_task, model.calls[element_id], values, now)
        if position.ended:
            self.state.update("process", process_id, ended=now, end_activity=position.end, due=None)
            self._return(process, now)

    def _drop_gone(self, process_id: str, position: Position, now: float) -> None:
        """End the tasks and called processes that the model does not wait for any more."""
        reason = position.stopped_by or "process ended"
        open_tasks = "SELECT id, engine_task FROM task WHERE process_id = ? AND ended IS NULL"
        for task in self.state.rows(open_tasks, process_id):
            if task["engine_task"] not in position.waiting:
                self.state.update("task", task["id"], ended=now, delete_reason=reason)
        children = "SELECT id, super_execution FROM process WHERE parent_id = ? AND ended IS NULL"
        for child in self.state.rows(children, process_id):
            if child["super_execution"] not in position.waiting:
                self._stop(child["id"], reason, now)

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _offer(
        self, process_id: str, engine_task: str, element: TaskElement, values: Mapping[str, Any], now: float
    ) -> None:
        if self.state.row("SELECT 1 FROM task WHERE engine_task = ?", engine_task):
            return

        def text(expression: str) -> str:
            return str(_played(text_value, expression, values))

        read = element.element
        outcome = read.outcome_variables[0] if read.outcome_variables else None
        groups, users = text(read.candidate_groups), text(element.candidate_users)
        self.state.insert(
            "task",
            id=str(uuid.uuid4()),
            process_id=process_id,
            engine_task=engine_task,
            key=read.id,
            name=text(read.name),
            description=read.documentation,
            assignee=text(element.assignee) or None,
            groups=json.dumps(_names(groups)),
            users=json.dumps(_names(users)),
            priority=_played(_priority, text(element.priority)),
            due=_played(_due, text(element.due), now),
            outcome_variable=outcome,
            created=now,
        )

    def _go_on(self, process_id: str, engine_task: str, now: float) -> None:
        state = self._process(process_id)["engine"]
        self._move(process_id, lambda world: advance(state, engine_task, world), now)

    # --- called processes ------------------------------------------------------------------------------------------

    def _call(self, process: Any, engine_task: str, call: Any, values: Mapping[str, Any], now: float) -> None:
        if self.state.row("SELECT 1 FROM process WHERE super_execution = ?", engine_task):
            return
        key = _played(text_value, call.called, values)
        model = self.state.row("SELECT * FROM model WHERE key = ? ORDER BY version DESC", key)
        if model is None:
            raise play_error(f"no processes deployed with key '{key}'")
        own = [(name, name) for name in self.state.values(process["id"])] if call.inherits else []
        handed = self._handed(process["id"], [*own, *call.passed], values)
        called_by = {"parent_id": process["id"], "super_execution": engine_task, "super_activity": call.id}
        self._begin(model, handed, now, started_by=process["started_by"], **called_by)

    def _handed(
        self, process_id: str, pairs: Iterable[tuple[str, str]], values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return variables of a process, or what expressions come to in it, under the names of another one."""
        rows = {row["name"]: row for row in self.state.variables(process_id)}
        items = []
        for here, there in pairs:
            item = {"name": there, "value": _played(_value, here, values)}
            if here in rows:
                item |= {"type": rows[here]["type"], "encryption": bool(rows[here]["encryption"])}
            items.append(item)
        return items

    def _return(self, process: Any, now: float) -> None:
        """Hand the variables of a process that ended to the one that called it, and let that go on."""
        if process["parent_id"] is None:
            return
        parent = self._process(process["parent_id"])
        if parent["ended"] is not None:
            return
        call = read_model(parent["xml"], parent["key"]).calls[process["super_activity"]]
        back = self._handed(process["id"], call.returned, self.state.values(process["id"]))
        self._set_variables(parent["id"], back, now)
        self._go_on(parent["id"], process["super_execution"], now)

    # --- variables -------------------------------------------------------------------------------------------------

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


def play_error(text: str) -> HttpError:
    """Return what Flowable's plain exception becomes."""
    return HttpError(500, {"message": "Internal server error", "exception": text})


def _played(step: Callable[..., Any], *arguments: Any) -> Any:
    return play(lambda: step(*arguments))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _priority(text: str) -> int:
    try:
        return int(text or 50)
    except ValueError as error:
        raise EngineError(f"Priority does not resolve to a number: {text}") from error


def _due(text: str, now: float) -> str | None:
    if not text:
        return None
    try:
        return utc_time(read_schedule("timeDate", text, now).first)
    except InvalidInput as error:
        raise EngineError(f"Due date expression does not resolve to a date: {text}") from error


def _value(source: str, values: Mapping[str, Any]) -> Any:
    """Return a variable, or what an expression comes to; a variable that is not there is null."""
    if source.replace("_", "a").isalnum():
        return values.get(source)
    try:
        return compile_expression("${" + source + "}")(values)
    except ExpressionError as error:
        raise EngineError(str(error)) from error
