"""``labelops ask <question>``: an auditor's questions; and ``labelops used``, which says what a model was trained on.

Exit codes: 0 all is well, 1 something was released that should not have been (``ask without``), or the ledger is behind
its checkpoint, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include import questions
from include.base.errors import InvalidInput
from include.base.text import printable
from include.governance.ledger import Ledger
from include.governance.usage import record_use
from include.people.register import Register
from include.questions.lacking import CHECKS
from include.questions.shared import Records, find_version, version_ref
from include.settings import settings
from labelops.commands.places import add_store, on_ledger, store

__all__ = ["add_ask", "add_used"]

Ask = Callable[[Records, argparse.Namespace], Iterable[Any]]


def add_ask(ask: argparse.ArgumentParser) -> None:
    """Add one sub-command for each question."""
    listed = ask.add_subparsers(required=True, metavar="question")

    def add(name: str, function: Ask, words: str) -> argparse.ArgumentParser:
        parser = listed.add_parser(name, help=words, description=words)
        on_ledger(parser, lambda ledger, options: _answer(ledger, options, function))
        add_store(parser)
        parser.add_argument("--project", help="only this labelling project; needed where a version is given by number")
        parser.add_argument("--names", action="store_true", help="print names from the register beside ids")
        parser.add_argument("--register", type=Path, help="the register's file (default: LABELOPS_REGISTER)")
        parser.add_argument("--json", action="store_true", help="print one JSON object for each answer")
        parser.set_defaults(question=name)
        return parser

    add("who", _who, "who labelled, reviewed, adjudicated, approved and released a version").add_argument(
        "version", help="digest, six or more characters of it, or a number with --project"
    )
    guideline = add("inforce", _in_force, "which guideline and taxonomy were in force for a label")
    guideline.add_argument("version", help="digest, six or more characters of it, or a number with --project")
    guideline.add_argument("task", help="the task's id")
    trace = add("trace", _trace, "one task from its source record to the models that used it, and back")
    trace.add_argument("task", nargs="?", help="the task's id; or give --source and --record")
    trace.add_argument("--source", help="the file, table or feed that a record came from")
    trace.add_argument("--record", help="which record of it: a line, a key, a row number")
    compare = add("changed", _changed, "what changed between two versions, and why")
    compare.add_argument("old", help="the earlier version")
    compare.add_argument("new", help="the later version")
    models = add("models", _models, "which models used a version, or which versions a model used")
    models.add_argument("version", nargs="?", help="the version; or give --model")
    models.add_argument("--model", help="the model's name")
    models.add_argument("--model-version", help="only this version of the model")
    waiting = add("pending", _pending, "what waits for whom, since when, and what is overdue")
    waiting.add_argument("--at", type=_moment, metavar="TIME", help="as of this time (default: now)")
    lacking = add("without", _without, "what was released without what it needed; exit code 1 unless that is nothing")
    lacking.add_argument(
        "check", nargs="*", metavar="CHECK", help=f"demand these of every release: {', '.join(CHECKS)}, role:<role>"
    )
    person = add("person", _person, "what a person decided, labelled and did in a period")
    person.add_argument("person", help="the person's id in the register")
    person.add_argument("--since", type=_moment, metavar="TIME", help="from this time on, as 2026-01-31 or with a time")
    person.add_argument("--until", type=_moment, metavar="TIME", help="before this time")
    add("void", _void, "which decisions do not count, and why").add_argument(
        "--person", help="only those of this person"
    )


def add_used(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``used``."""
    on_ledger(parser, _used)
    add_store(parser)
    parser.add_argument("version", help="digest, six or more characters of it, or a number with --project")
    parser.add_argument("--project", help="the labelling project, where the version is given by number")
    parser.add_argument("--model", required=True, help="the model's name, as its registry has it")
    parser.add_argument("--model-version", required=True, help="which version of the model was made")
    parser.add_argument("--actor", required=True, help="the person of the register who answers for the training")
    parser.add_argument("--location", default="", help="where the model is, without user and password")
    parser.add_argument("--training-run", default="", help="the pipeline's own name of its run")
    parser.add_argument("--reason", default="", help="what it was used for, in words")
    parser.add_argument("--register", type=Path, help="the register's file (default: LABELOPS_REGISTER)")


def _used(ledger: Ledger, options: argparse.Namespace) -> int:
    version = find_version(Records(ledger, store(options)), options.version, options.project)
    event, new = record_use(
        ledger,
        Register.load(options.register or settings().register),
        version,
        model=options.model,
        model_version=options.model_version,
        actor=options.actor,
        location=options.location,
        training_run=options.training_run,
        reason=options.reason,
    )
    done = "is recorded" if new else "was recorded before"
    sys.stdout.write(
        f"That model {options.model} {options.model_version} used {version_ref(version)} {done} as event {event.seq}.\n"
    )
    return 0


def _answer(ledger: Ledger, options: argparse.Namespace, ask: Ask) -> int:
    records = Records(ledger, store(options))
    register = _register(options) if options.names else None
    code = 0
    for answer in ask(records, options):
        if options.json:
            said = {"question": options.question, **questions.as_json(answer)}
            if register is not None:
                said["names"] = {one.id: one.name for one in register.content.persons}
            sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
        else:
            for line in questions.lines(answer, _namer(register)):
                sys.stdout.write(printable(line) + "\n")
        code = code or int(not getattr(answer, "ok", True))
    return code


def _namer(register: Register | None) -> Callable[[str], str]:
    def name(person: str) -> str:
        found = register.person(person) if register is not None else None
        return f"{found.name} ({person})" if found is not None else person

    return name


def _who(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    return [questions.who(records, find_version(records, options.version, options.project))]


def _in_force(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    version = find_version(records, options.version, options.project)
    return [questions.in_force(records, version, options.task)]


def _trace(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    if options.task is not None and options.source is None and options.record is None:
        return [questions.trace(records, options.task, options.project)]
    if options.task is None and options.source is not None and options.record is not None:
        return questions.trace_source(records, options.source, options.record, options.project)
    raise InvalidInput("trace: give a task id, or --source with --record")


def _changed(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    old, new = (find_version(records, one, options.project) for one in (options.old, options.new))
    return [questions.changed(records, old, new)]


def _models(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    if options.version is not None and options.model is None:
        return [questions.models_of(records, find_version(records, options.version, options.project))]
    if options.version is None and options.model is not None:
        return [questions.versions_of_model(records, options.model, options.model_version, options.project)]
    raise InvalidInput("models: give a version, or --model")


def _pending(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    return [questions.pending(records, options.project, register=_register(options), now=options.at)]


def _without(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    return [questions.released_without(records, options.project, options.check)]


def _person(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    return [
        questions.person_record(
            records, options.person, since=options.since, until=options.until, project=options.project
        )
    ]


def _void(records: Records, options: argparse.Namespace) -> Iterable[Any]:
    return [questions.void_decisions(records, options.project, options.person)]


def _register(options: argparse.Namespace) -> Register:
    return Register.load(options.register or settings().register)


def _moment(text: str) -> datetime:
    """Return a moment from a date or a time in ISO 8601; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 2026-01-31 or 2026-01-31T09:00+00:00") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
