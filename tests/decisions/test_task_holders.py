"""Who has a task is put on the ledger at each look, because a reassignment may leave no trace in history."""

from __future__ import annotations

from typing import Any

import pytest


def state(house: Any) -> str:
    [result] = house.judged()
    return result["state"]


def open_task(house: Any) -> Any:
    [task] = house.opentext_client().tasks()
    return task


def holders(house: Any) -> list[tuple[Any, Any, Any]]:
    return [(event.body["assignee"], event.body["owner"], event.body["delegation"]) for event in assigned(house)]


def assigned(house: Any) -> list[Any]:
    return house.events("task.assigned")


def decisions(house: Any) -> dict[str, Any]:
    ledger = house.ledger()
    found = {one.role: one for one in ledger.decisions(house.version().digest)}
    ledger.close()
    return found


def test_a_change_is_an_event_and_a_quiet_look_is_none(asked: Any) -> None:
    assert state(asked) == "waiting"
    assert assigned(asked) == []
    task = open_task(asked)
    quentin = asked.person("quentin")
    quentin.claim(task.id)
    assert [state(asked), state(asked)] == ["waiting", "waiting"]
    [event] = assigned(asked)
    assert event.actor == "labelops"
    assert event.subject == f"version:{asked.version().digest}"
    assert event.body["task_id"] == task.id
    assert event.body["role"] == "quality_reviewer"
    asked.opentext_client().update_task(task.id, assignee="stranger@people.example", owner="quentin@people.example")
    assert state(asked) == "waiting"
    stranger, owner, _ = holders(asked)[1]
    assert (stranger[:8], owner) == ("unknown:", "quentin")
    assert "stranger" not in str([event.body for event in assigned(asked)])
    asked.opentext_client().update_task(task.id, assignee=None, owner=None)
    assert state(asked) == "waiting"
    assert holders(asked)[2] == (None, None, None)


@pytest.mark.parametrize(("again", "grade", "result"), [(False, "asserted", "void"), (True, "attested", "approved")])
def test_a_comment_before_a_reassignment_attests_nothing(asked: Any, again: bool, grade: str, result: str) -> None:
    """Claimed, commented, seen with another, given back with the owner named, completed."""
    task, digest = open_task(asked), asked.version().digest
    quentin = asked.person("quentin")
    quentin.claim(task.id)
    quentin.comment(task.process_id, f"approved {digest[:12]}")
    client = asked.opentext_client()
    client.update_task(task.id, assignee="dana@people.example")
    assert state(asked) == "waiting"
    client.update_task(task.id, assignee="quentin@people.example", owner="dana@people.example")
    if again:
        quentin.comment(task.process_id, f"approved {digest[:12]}")
    quentin.complete(task.id, "approved")
    asked.say("dana", "approved")
    assert state(asked) == result
    assert decisions(asked)["quality_reviewer"].grade == grade


def test_a_task_that_changed_hands_between_two_looks_is_a_finding(asked: Any) -> None:
    task = open_task(asked)
    asked.opentext_client().update_task(task.id, assignee="dana@people.example")
    assert state(asked) == "waiting"
    asked.opentext_client().update_task(task.id, assignee="quentin@people.example", owner="dana@people.example")
    quentin = asked.person("quentin")
    quentin.comment(task.process_id, f"approved {asked.version().digest[:12]}")
    quentin.complete(task.id, "approved")
    asked.say("dana", "approved")
    state(asked)
    assert any("it changed hands between two looks" in event.reason for event in asked.events("finding"))
