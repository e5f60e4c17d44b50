"""The register of persons: who is behind an account, and what they may decide, as of a moment.

Every comparison of people goes through it (four eyes, distinct annotators, roles). It fails closed: an account that is
not in it, is shared, belongs to a service, or is a session that nobody named, is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from include.base.canonical import digest_of
from include.base.configuration import Document, read_yaml
from include.base.errors import InvalidInput

__all__ = ["UNKNOWN", "Grant", "Person", "Register", "RegisterFile", "SystemAccount", "account_key", "is_unknown"]

UNKNOWN = "unknown"
"""How the name of somebody who is not in the register begins, wherever person ids are listed."""

System = Literal["prodigy", "confluence", "opentext", "jira", "airflow"]

UNNAMED_SESSION = re.compile(r"\d{4}-\d{2}-\d{2}[_ T]\d{2}-\d{2}-\d{2}\Z")
"""How Prodigy calls the session of somebody who gave no name (the server's local time)."""

REGISTER_BYTES = 8 * 1024 * 1024
"""Bytes that a register may have: some 50,000 persons."""

PERSON_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Valid(_Strict):
    """A span of days, both ends included, in UTC; an absent end is open."""

    valid_from: date | None = None
    valid_until: date | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> _Valid:
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise ValueError(f"valid_until {self.valid_until} is before valid_from {self.valid_from}")
        return self

    def covers(self, at: datetime | None) -> bool:
        """Tell whether ``at`` lies in the span. An act of unknown time is covered only by a span open at both ends."""
        if at is None:
            return self.valid_from is None and self.valid_until is None
        day = at.astimezone(UTC).date()
        return (self.valid_from or date.min) <= day <= (self.valid_until or date.max)


class Grant(_Valid):
    """One role of a person, in some projects (all of them when none is named), for a span of days."""

    role: str = Field(min_length=1)
    projects: tuple[str, ...] = ()


class Person(_Valid):
    """One human: an id that never changes, a name, their accounts in each system, and their roles.

    Outside the person's own span of days their accounts are nobody's.
    """

    id: str
    name: str = Field(min_length=1)
    accounts: dict[System, tuple[str, ...]] = Field(default_factory=dict)
    roles: tuple[Grant, ...] = ()

    @field_validator("id")
    @classmethod
    def _id_is_plain(cls, value: str) -> str:
        if not PERSON_ID.match(value) or value.startswith(UNKNOWN):
            raise ValueError(f"{value!r}: 1 to 64 of a-z, 0-9, dot, dash and underscore; not starting with `unknown`")
        return value

    @field_validator("accounts")
    @classmethod
    def _accounts_name_people(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for system, accounts in value.items():
            for account in accounts:
                if not account.strip() or account != account.strip():
                    raise ValueError(f"{system}: account {account!r} is empty or has spaces at its ends")
                if UNNAMED_SESSION.match(account):
                    raise ValueError(f"{system}: {account!r} is the session of somebody who gave no name")
        return value


class SystemAccount(_Strict):
    """An account that is no person: a service, or one that several people share."""

    system: System
    account: str = Field(min_length=1)


class RegisterFile(_Strict):
    """The register as written."""

    persons: tuple[Person, ...]
    services: tuple[SystemAccount, ...] = ()
    shared: tuple[SystemAccount, ...] = ()


@dataclass(frozen=True)
class _Claim:
    """Who claims an account, and where in the file."""

    key: tuple[str, str]
    owner: str
    location: tuple[str | int, ...]


def account_key(account: str) -> str:
    """Return the form in which accounts are compared: e-mail addresses without case, all others as they are."""
    return account.strip().casefold() if "@" in account else account


def is_unknown(person: str) -> bool:
    """Tell whether an entry in a list of persons stands for somebody who is not in the register."""
    return person == UNKNOWN or person.startswith(f"{UNKNOWN}:")


class Register:
    """The checked register.

    :param content: what the file holds.
    :param document: the file that it was read from, for messages.
    :raises InvalidInput: for an id given twice, or an account that two persons, or a person and a service, claim.
    """

    def __init__(self, content: RegisterFile, *, document: Document | None = None) -> None:
        self.content = content
        self._persons = {person.id: person for person in content.persons}
        self._owners: dict[tuple[str, str], str] = {}
        self._refuse_repeated_persons(document)
        self._refuse_contested_accounts(document)
        self._services = {(entry.system, account_key(entry.account)) for entry in content.services}

    @classmethod
    def load(cls, path: Path) -> Register:
        """Return the register in a YAML file.

        :raises InvalidInput: naming file, line, field, what was found and what is allowed.
        """
        document = read_yaml(path, REGISTER_BYTES)
        return cls(document.checked(RegisterFile), document=document)

    @classmethod
    def from_kept(cls, value: object) -> Register:
        """Return the register that :meth:`as_kept` wrote down."""
        return cls(RegisterFile.model_validate(value))

    @property
    def ids(self) -> Collection[str]:
        """Return the ids of all persons."""
        return self._persons.keys()

    @property
    def owners(self) -> Mapping[tuple[str, str], str]:
        """Return whose each personal account is: id by system and account, in the form accounts are compared in."""
        return self._owners

    @property
    def digest(self) -> str:
        """Return the SHA-256 over what the register says; the order it says it in makes no difference."""
        return digest_of(self.as_kept())

    def as_kept(self) -> dict[str, Any]:
        """Return what the register says in one order, as its digest is made of."""
        value = self.content.model_dump(mode="json")
        for person in value["persons"]:
            person["accounts"] = {system: sorted(names) for system, names in person["accounts"].items()}
            for grant in person["roles"]:
                grant["projects"].sort()
            person["roles"].sort(key=digest_of)
        value["persons"].sort(key=lambda person: person["id"])
        value["services"].sort(key=digest_of)
        value["shared"].sort(key=digest_of)
        return value

    def resolve(self, system: str, account: str | None, at: datetime | None) -> Person | None:
        """Return the person behind an account at the time of an act, or None where nobody can be named.

        :param at: aware time of the act. None (unknown) finds only persons whose validity is unbounded.
        :raises ValueError: for a time without a zone.
        """
        if at is not None and at.tzinfo is None:
            raise ValueError(f"{at.isoformat()}: the time of an act needs a zone")
        if not account or UNNAMED_SESSION.match(account):
            return None
        owner = self._owners.get((system, account_key(account)))
        person = self._persons.get(owner) if owner else None
        return person if person is not None and person.covers(at) else None

    def is_service(self, system: str, account: str | None) -> bool:
        """Tell whether an account is registered as a service, which can decide nothing."""
        return bool(account) and (system, account_key(str(account))) in self._services

    def has_role(self, person_id: str, role: str, project: str, at: datetime | None) -> bool:
        """Tell whether a person held a role in a project at a moment."""
        person = self._persons.get(person_id)
        if person is None or not person.covers(at):
            return False
        return any(
            grant.role == role and (not grant.projects or project in grant.projects) and grant.covers(at)
            for grant in person.roles
        )

    def person(self, person_id: str) -> Person | None:
        """Return a person by id, or None."""
        return self._persons.get(person_id)

    def holders(self, role: str, project: str, at: datetime | None) -> list[Person]:
        """Return who holds a role in a project at a moment, by id."""
        return sorted(
            (person for person in self.content.persons if self.has_role(person.id, role, project, at)),
            key=lambda person: person.id,
        )

    def _refuse_repeated_persons(self, document: Document | None) -> None:
        seen: set[str] = set()
        for index, person in enumerate(self.content.persons):
            if person.id in seen:
                location: tuple[str | int, ...] = ("persons", index, "id")
                raise InvalidInput(f"{_place(document, location)}: {person.id!r} is another person's id already")
            seen.add(person.id)

    def _refuse_contested_accounts(self, document: Document | None) -> None:
        claimed: dict[tuple[str, str], _Claim] = {}
        for claim in _claims(self.content):
            earlier = claimed.setdefault(claim.key, claim)
            if earlier is not claim:
                raise InvalidInput(
                    f"{_place(document, claim.location)}: {claim.key[0]} account {claim.key[1]!r} of {claim.owner} "
                    f"is claimed by {earlier.owner} already; an account belongs to one person or one service "
                    "(list it under `shared` when several people use it)"
                )
        for key, claim in claimed.items():
            if claim.owner.startswith("person "):
                self._owners[key] = claim.owner.removeprefix("person ")


def _claims(content: RegisterFile) -> Iterator[_Claim]:
    for index, person in enumerate(content.persons):
        for system, accounts in person.accounts.items():
            for place, account in enumerate(accounts):
                yield _Claim(
                    (system, account_key(account)),
                    f"person {person.id}",
                    ("persons", index, "accounts", system, place),
                )
    for kind, entries in (("service", content.services), ("shared", content.shared)):
        field = "services" if kind == "service" else "shared"
        for index, entry in enumerate(entries):
            yield _Claim(
                (entry.system, account_key(entry.account)), f"{kind} entry {index + 1}", (field, index, "account")
            )


def _place(document: Document | None, location: tuple[str | int, ...]) -> str:
    """Return ``file:line: field``; without a file, the field in the register."""
    field = ".".join(map(str, location))
    return f"register: {field}" if document is None else f"{document.source}:{document.line_of(location)}: {field}"
