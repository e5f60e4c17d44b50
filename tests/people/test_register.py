from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from include.base.errors import InvalidInput
from include.people.register import Register
from include.settings import ROOT

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SAMPLE = ROOT / "include" / "projects" / "register.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "register.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_shipped_register_loads_and_maps_accounts() -> None:
    register = Register.load(SAMPLE)
    assert register.resolve("opentext", "dana@people.example", NOW).id == "dana"
    assert register.resolve("prodigy", "anna", NOW).id == "anna"
    assert register.resolve("confluence", "anna", NOW) is None
    assert register.person("rita").name == "Rita Ruiz"
    assert register.person("nobody") is None


def test_e_mails_are_compared_without_case_and_other_names_are_not() -> None:
    register = Register.load(SAMPLE)
    assert register.resolve("opentext", "Dana@People.Example", NOW).id == "dana"
    assert register.resolve("prodigy", "Anna", NOW) is None


@pytest.mark.parametrize("account", [None, "", "2024-05-11_10-11-12", "stranger"])
def test_a_session_that_nobody_named_is_nobody(account: str | None) -> None:
    assert Register.load(SAMPLE).resolve("prodigy", account, NOW) is None


def test_services_resolve_to_nobody() -> None:
    register = Register.load(SAMPLE)
    assert register.is_service("opentext", "labelops-service")
    assert not register.is_service("confluence", "labelops-service")
    assert not register.is_service("opentext", None)
    assert register.resolve("opentext", "labelops-service", NOW) is None


def test_a_shared_account_is_nobody(tmp_path: Path) -> None:
    path = write(tmp_path, "persons: []\nshared:\n  - {system: prodigy, account: team}\n")
    register = Register.load(path)
    assert register.resolve("prodigy", "team", NOW) is None
    assert not register.is_service("prodigy", "team")


def test_roles_hold_per_project_and_for_a_time(tmp_path: Path) -> None:
    register = Register.load(
        write(
            tmp_path,
            """
persons:
  - id: vera
    name: Vera Voss
    accounts: {opentext: [vera@people.example]}
    roles:
      - {role: data_owner, projects: [one], valid_from: 2026-01-01, valid_until: 2026-06-30}
      - {role: annotator}
""",
        )
    )
    at = lambda *day: datetime(*day, tzinfo=UTC)  # noqa: E731
    assert register.has_role("vera", "data_owner", "one", at(2026, 1, 1))
    assert register.has_role("vera", "data_owner", "one", at(2026, 6, 30, 23, 59))
    assert not register.has_role("vera", "data_owner", "one", at(2026, 7, 1))
    assert not register.has_role("vera", "data_owner", "one", at(2025, 12, 31, 23, 59))
    assert not register.has_role("vera", "data_owner", "two", at(2026, 2, 1))
    assert not register.has_role("vera", "data_owner", "one", None)
    assert register.has_role("vera", "annotator", "two", None)
    assert [person.id for person in register.holders("data_owner", "one", at(2026, 2, 1))] == ["vera"]
    assert register.holders("data_owner", "two", at(2026, 2, 1)) == []


def test_an_account_is_nobodys_outside_its_persons_time(tmp_path: Path) -> None:
    register = Register.load(
        write(
            tmp_path,
            "persons:\n  - {id: vera, name: Vera, valid_until: 2026-03-01, accounts: {prodigy: [vera]}, "
            "roles: [{role: annotator}]}\n",
        )
    )
    assert register.resolve("prodigy", "vera", datetime(2026, 3, 1, 23, tzinfo=UTC)).id == "vera"
    assert register.resolve("prodigy", "vera", datetime(2026, 3, 2, tzinfo=UTC)) is None
    assert register.resolve("prodigy", "vera", None) is None
    assert not register.has_role("vera", "annotator", "p", datetime(2026, 3, 2, tzinfo=UTC))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        Register.load(SAMPLE).resolve("prodigy", "anna", datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "persons:\n  - {id: a, name: A, accounts: {opentext: [x@p.example]}}\n"
            "  - id: b\n    name: B\n    accounts:\n      opentext:\n        - X@P.example\n",
            7,
            ["persons.1.accounts.opentext.0", "x@p.example", "person b", "person a"],
        ),
        (
            "persons:\n  - {id: a, name: A, accounts: {airflow: [admin]}}\n"
            "services:\n  - {system: airflow, account: admin}\n",
            4,
            ["services.0.account", "admin", "person a"],
        ),
        ("persons:\n  - {id: a, name: A}\n  - {id: a, name: B}\n", 3, ["persons.1.id", "'a'"]),
        ("persons:\n  - id: a\n    name: A\n    acounts: {}\n", 4, ["persons.0.acounts"]),
        ("persons:\n  - id: unknown_x\n    name: A\n", 2, ["persons.0.id", "unknown"]),
        (
            "persons:\n  - id: a\n    name: A\n    accounts: {prodigy: ['2024-01-01_00-00-00']}\n",
            4,
            ["persons.0.accounts", "gave no name"],
        ),
        (
            "persons:\n  - id: a\n    name: A\n    roles:\n      - {role: r, valid_from: 2026-02-01, "
            "valid_until: 2026-01-01}\n",
            5,
            ["persons.0.roles.0", "before"],
        ),
        ("persons:\n  - id: a\n    name: A\n    accounts: {slack: [a]}\n", 4, ["persons.0.accounts.slack"]),
    ],
)
def test_an_error_names_file_line_and_field(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidInput) as caught:
        Register.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    for word in words:
        assert word in message


def test_the_digest_says_what_the_register_says_and_nothing_of_its_order(tmp_path: Path) -> None:
    content = yaml.safe_load(SAMPLE.read_text("utf-8"))
    first = Register.load(SAMPLE).digest
    content["persons"].reverse()
    content["services"].reverse()
    assert Register.load(write(tmp_path, yaml.safe_dump(content))).digest == first
    content["persons"][0]["roles"].append({"role": "data_owner"})
    assert Register.load(write(tmp_path, yaml.safe_dump(content))).digest != first
