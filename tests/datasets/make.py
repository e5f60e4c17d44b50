"""Answers for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from include.annotation.answers import Answer, AnswerValue
from include.annotation.tasks import task_id
from include.base.canonical import digest_of
from include.people.register import Register, RegisterFile
from include.projects.load import load_project
from include.projects.model import Interface, Project
from include.settings import ROOT

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
GUIDELINE = digest_of("guideline 3")
LABELS = ("billing", "delivery", "account", "other")
REGISTER = Register.load(ROOT / "include" / "projects" / "register.yaml")
_DEFINITIONS = ROOT / "include" / "projects" / "definitions"


def project(name: str = "ticket_topics", *, policy: dict[str, Any] | None = None, **annotation: Any) -> Project:
    value = load_project(_DEFINITIONS, name).model_dump(mode="json")
    value["annotation"].update(annotation)
    value["policy"].update(policy or {})
    return Project.model_validate(value)


def shown(number: int) -> dict[str, Any]:
    return {"text": f"ticket {number} äöü 🙂", "options": [{"id": label, "text": label} for label in LABELS]}


def task(number: int) -> str:
    return task_id("ticket_topics", shown(number))


def answer(
    number: int,
    account: str | None,
    *picked: str,
    link: int | None = None,
    minutes: float = 0,
    verdict: str = "accept",
    round_: int = 1,
    guideline: str | None = GUIDELINE,
    **changes: Any,
) -> Answer:
    link = link if link is not None else number * 100 + (sum(map(ord, account or "")) % 97)
    accepted = tuple(sorted(picked)) if verdict == "accept" else ()
    return Answer(
        **{
            "link_id": link,
            "example_id": link + 1000,
            "row_digest": digest_of([number, account, list(picked), verdict, round_, str(minutes)]),
            "task_id": task(number),
            "value": AnswerValue(Interface.CHOICE, verdict, accepted=accepted),
            "account": account,
            "session": f"ticket_topics-{account}" if account else "2026-05-01_08-00-00",
            "time": START + timedelta(minutes=minutes),
            "guideline": guideline,
            "guideline_number": 3 if guideline else None,
            "round": round_,
            "view_id": "choice",
            "shown": shown(number),
            **changes,
        }
    )


def register_of(accounts: list[str]) -> Register:
    """Return a register with one person per Prodigy account."""
    return Register(
        RegisterFile.model_validate(
            {
                "persons": [
                    {
                        "id": f"person-{place}",
                        "name": f"Person {place}",
                        "accounts": {"prodigy": [account]},
                        "roles": [{"role": "annotator"}],
                    }
                    for place, account in enumerate(accounts)
                ]
            }
        )
    )
