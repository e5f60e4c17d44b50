"""What the repository says about itself is true: documents, settings files, lock files, licences."""

from __future__ import annotations

import ast
import importlib.metadata as metadata
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("dags/*.md")])
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".lock", ".bpmn", ".svg", ".css", ".cfg", ".sh", ".example", ""}


def tracked() -> list[Path]:
    """Return the files of the working tree that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def lines() -> Iterator[tuple[str, str]]:
    """Yield each line of each text file with its place."""
    for path in tracked():
        if path.suffix not in TEXT or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line


FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.$])/(?:home/\w|Users/\w|work/(?:main|shared)|root/)"),
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|registry\.npmjs|test\.pypi|/simple/?(?:\s|$)|--(?:extra-)?index-url|[?&]index=",
        re.I,
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token of a known shape": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20}|AKIA[0-9A-Z]{16}|xox[abpr]-[\w-]{10,}|ATATT3[\w=-]{20,}"
        r"|eyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{15,})"
    ),
    "a password in an address": re.compile(
        r"\w+://[^\s/:@{}<>'\"$]+:(?!\*\*\*)[^\s/@{}<>'\"$]{3,}@(?!127\.0\.0\.1|localhost)"
    ),
}
"""What no line may hold. Test files may spell passwords of servers that they start themselves."""


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = FORBIDDEN[what]
    found = [
        f"{place}: {line.strip()[:120]}"
        for place, line in lines()
        if pattern.search(line) and not (what == "a password in an address" and place.startswith("tests/"))
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_the_patterns_find_what_they_are_for() -> None:
    bad = {
        "a path of somebody's machine": "see /home/anna/labelops",
        "a package registry": "--index-url https://mirror.example/simple",
        "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
        "a token of a known shape": "ghp_" + "a1B2" * 9,
        "a password in an address": "postgresql://labelops:hunter2@db.example/labelops",
    }
    assert set(bad) == set(FORBIDDEN)
    for what, line in bad.items():
        assert FORBIDDEN[what].search(line), what
    assert not FORBIDDEN["a password in an address"].search("postgresql+psycopg://labelops@ledger-db.example:5432/x")


# --- documents -----------------------------------------------------------------------------------------------------


def dag_ids() -> list[str]:
    return sorted(path.stem for path in (ROOT / "dags").glob("*.py"))


@pytest.mark.parametrize("document", ["README.md", "dags/README.md"])
def test_the_dag_table_lists_every_dag_file_and_no_other(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \|", text, re.M)
    listed = [name for name in rows if not name.endswith("_default")]
    assert sorted(listed) == dag_ids()


def _slug(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def _headings(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    return {_slug(found) for found in re.findall(r"^#{1,6} (.+)$", text, re.M)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
    problems = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        path = (document.parent / place).resolve() if place else document
        if not path.exists():
            problems.append(f"{target}: no such file")
        elif anchor and path.suffix == ".md" and anchor not in _headings(path):
            problems.append(f"{target}: no such heading")
    assert not problems


def test_every_document_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in reached or path.suffix != ".md" or not path.exists():
            continue
        reached.add(path)
        text = path.read_text("utf-8")
        links = re.findall(r"\]\(([^)\s:]+)\)", text)
        ahead += [(path.parent / target.partition("#")[0]).resolve() for target in links]
        ahead += [ROOT / named for named in re.findall(r"`(docs/[\w-]+\.md)`", text)]
    assert set(DOCUMENTS) <= reached


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {
        (path.name, name)
        for path in DOCUMENTS
        for name in re.findall(r"(?:^|`|&& )make ([a-z]+)", path.read_text("utf-8"), re.M)
    }
    assert ("README.md", "demo") in named
    assert {name for _, name in named} <= targets


def test_the_example_project_of_the_readme_is_valid() -> None:
    from include.projects.model import Project

    example = re.search(r"^```yaml\n(name: .*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert example
    assert Project.model_validate(yaml.safe_load(example[1])).policy.evidence == "attested"


def test_the_settings_of_the_readme_are_those_of_the_code() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = set(re.findall(r"^\| `(LABELOPS_[A-Z_]+)` \|", readme, re.M))
    assert table == _settings_in_code()


def test_the_errors_of_the_guide_are_those_of_the_code() -> None:
    guide = (ROOT / "docs" / "data-engineer.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([A-Z][A-Za-z]+)` \| (?:yes|no) \|", guide, re.M))
    tree = ast.parse((ROOT / "include" / "base" / "errors.py").read_text("utf-8"))
    ours = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)} - {"LabelopsError", "OutsideError"}
    assert named == ours | {"ItemFailed"}


def test_what_the_guide_says_of_retries_is_so() -> None:
    from include.base import errors
    from labelops.operators.frame import ItemFailed
    from labelops.retry import LabelopsRetryPolicy

    guide = (ROOT / "docs" / "data-engineer.md").read_text("utf-8")
    for name, retried in re.findall(r"^\| `([A-Z][A-Za-z]+)` \| (yes|no) \|", guide, re.M):
        error = {"ItemFailed": ItemFailed}.get(name) or getattr(errors, name)
        decision = LabelopsRetryPolicy().evaluate(error("x"), 1, 4)
        assert (decision.action.name == "RETRY") == (retried == "yes"), name


def _actions_in_code() -> set[str]:
    """Return the actions of ledger events that the code spells out."""
    found = set()
    for path in (ROOT / "include").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = [keyword.value for keyword in node.keywords if keyword.arg == "action"]
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("note", "event", "finish"):
                named += node.args[:1]
            found |= {one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {one for one in found if "." in one or one == "finding"}  # argparse's `action` is another thing


def test_the_auditors_guide_explains_every_action_of_the_ledger() -> None:
    from include.decisions.state import TERMINAL

    guide = (ROOT / "docs" / "auditor.md").read_text("utf-8")
    rows = "\n".join(re.findall(r"^\| (`[a-z]+(?:\.[a-z_]+)?`.*?) \|", guide, re.M))
    explained = set(re.findall(r"`([a-z_.]+)`", rows))
    asking = {f"{kind}.{what}" for kind in ("approval", "release") for what in ("asked", "requested")}
    actions = _actions_in_code() | asking | {f"approval.{state}" for state in TERMINAL}
    assert {"guideline.published", "decision.recorded", "release.done"} <= actions
    assert actions <= explained


# --- settings files ------------------------------------------------------------------------------------------------


def _settings_in_code() -> set[str]:
    source = (ROOT / "include" / "settings.py").read_text("utf-8")
    return set(re.findall(r"""env(?:iron)?\.get\(\s*"(LABELOPS_[A-Z_]+)""", source))


def _variables(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text("utf-8").splitlines():
        match = re.match(r"(?:# )?([A-Z][A-Z0-9_]+)=(.*)\Z", line)
        if match:
            found[match[1]] = match[2]
    return found


def test_env_example_names_known_variables_and_no_secret() -> None:
    variables = _variables(ROOT / ".env.example")
    ours = {name for name in variables if name.startswith("LABELOPS_")}
    assert ours == _settings_in_code()
    others = set(variables) - ours
    assert {"PYTHONPATH", "AIRFLOW__CORE__PLUGINS_FOLDER"} <= others
    assert all(name == "PYTHONPATH" or name.startswith("AIRFLOW__") for name in others)
    paths = {"LABELOPS_SIGNING_KEY"}  # where the key is, not the key
    secret = re.compile(r"SECRET|PASSWORD|TOKEN|KEY|CONN_[A-Z]+_DEFAULT")
    assert not [name for name in variables if secret.search(name) and name not in paths]


@pytest.mark.airflow
def test_env_example_names_options_that_airflow_has() -> None:
    from airflow.configuration import conf

    for name in _variables(ROOT / ".env.example"):
        if name.startswith("AIRFLOW__"):
            section, option = name.lower().removeprefix("airflow__").split("__")
            assert conf.has_option(section, option), name


CONNECTION_KEYS = {"conn_id", "conn_type", "conn_uri", "conn_extra"} | {
    f"conn_{field}" for field in ("host", "schema", "login", "password", "port")
}
POOL_KEYS = {"pool_name", "pool_slot", "pool_description"}


def test_airflow_settings_has_the_keys_that_astro_reads() -> None:
    content = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text("utf-8"))
    assert set(content) == {"airflow"}
    assert set(content["airflow"]) == {"connections", "pools", "variables"}
    for connection in content["airflow"]["connections"]:
        assert set(connection) <= CONNECTION_KEYS
        assert {"conn_id", "conn_type"} <= set(connection)
    for pool in content["airflow"]["pools"]:
        assert set(pool) == POOL_KEYS
        assert isinstance(pool["pool_slot"], int)


def test_airflow_settings_has_our_connections_and_pools() -> None:
    from labelops.provider import get_provider_info
    from labelops.systems import POOLS

    content = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text("utf-8"))["airflow"]
    types = {one["connection-type"] for one in get_provider_info()["connection-types"]}
    assert {one["conn_type"] for one in content["connections"]} == types
    assert {one["conn_id"] for one in content["connections"]} == {f"{name}_default" for name in types}
    pools = set(POOLS.values())
    assert {one["pool_name"] for one in content["pools"]} == pools
    readme = (ROOT / "README.md").read_text("utf-8")
    assert pools <= set(re.findall(r"airflow pools set (\w+)", readme))


def test_airflow_settings_holds_values_of_the_stand_ins_only() -> None:
    from include.sandbox import demo, world

    content = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text("utf-8"))["airflow"]
    known = {f"{world.TOKEN}labelops", demo.CLIENT["secret"], "postgres"}
    assert {one["conn_password"] for one in content["connections"]} == known
    hosts = {re.sub(r"^\w+://|[:/].*", "", one["conn_host"]) for one in content["connections"]}
    assert hosts <= {"host.docker.internal", "127.0.0.1", "localhost", "postgres"}


def test_the_image_is_pinned_to_the_airflow_of_the_lock_file() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^FROM (\S+)$", dockerfile, re.M) == ["astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12"]
    assert "apache-airflow==3.3.2" in (ROOT / "requirements.txt").read_text("utf-8")
    assert "--no-deps --editable" in dockerfile
    assert dockerfile.rstrip().split("USER ")[-1].startswith("astro")


def test_what_is_local_stays_out_of_the_image_and_of_git() -> None:
    ignored = set((ROOT / ".dockerignore").read_text("utf-8").split("\n"))
    assert {".env", ".labelops", ".venv", ".git", "airflow_settings.yaml"} <= ignored
    assert {".env", ".labelops/", ".venv/"} <= set((ROOT / ".gitignore").read_text("utf-8").split("\n"))
    assert yaml.safe_load((ROOT / ".astro" / "config.yaml").read_text("utf-8")) == {"project": {"name": "labelops"}}


def test_packages_txt_holds_names_and_comments_only() -> None:
    for line in (ROOT / "packages.txt").read_text("utf-8").splitlines():
        assert re.fullmatch(r"\s*(#.*|[a-z0-9][a-z0-9.+-]+)?", line), line


# --- what is installed ---------------------------------------------------------------------------------------------


def _requirements(name: str) -> list[Requirement]:
    text = re.sub(r"\s*#.*$", "", (ROOT / name).read_text("utf-8"), flags=re.M)
    stated = re.sub(r"\s*\\\n\s*--hash=\S+", "", text)
    return [Requirement(line) for line in stated.splitlines() if line.strip()]


def _locked(*names: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for name in names:
        for requirement in _requirements(name):
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize(
    ("asked", "locks"),
    [
        ("requirements.txt", ("requirements.lock",)),
        ("requirements-dev.txt", ("requirements-dev.lock", "requirements.lock")),
    ],
)
def test_the_lock_has_each_requirement_at_a_version_that_fits(asked: str, locks: tuple[str, ...]) -> None:
    locked = _locked(*locks)
    for requirement in _requirements(asked):
        pins = locked.get(canonicalize_name(requirement.name))
        assert pins, f"{requirement.name} is not locked: make lock"
        for pin in pins:
            [version] = pin.specifier
            assert version.operator == "=="
            assert requirement.specifier.contains(version.version, prereleases=True), f"{requirement} against {pin}"


def test_the_lock_pins_everything_exactly_and_consistently() -> None:
    runtime, develop = _locked("requirements.lock"), _locked("requirements-dev.lock")
    for name, pins in {**runtime, **develop}.items():
        assert all([clause.operator for clause in pin.specifier] == ["=="] for pin in pins), name
    for name in set(runtime) & set(develop):
        assert {str(pin.specifier) for pin in develop[name]} <= {str(pin.specifier) for pin in runtime[name]}, name


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_has_hashes_of_every_package_and_installs_check_them(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    pins = re.findall(r"^[a-z0-9].*==.*$", text, flags=re.M | re.I)
    assert len(pins) == len(_requirements(name))
    assert all(pin.endswith(" \\") for pin in pins), "a package without hashes: make lock"
    for place in ("Makefile", "Dockerfile", "README.md", "docs/data-engineer.md"):
        installs = re.findall(r"pip install [^`&]{,80}?-r\s\S*requirements\.lock", (ROOT / place).read_text("utf-8"))
        assert installs
        assert all("--require-hashes" in one for one in installs), f"{place}: {installs}"


def test_each_neighbour_has_a_floor() -> None:
    for requirement in _requirements("requirements-neighbours.txt"):
        assert [clause.operator for clause in requirement.specifier] == [">="], requirement


def _licence(name: str) -> str:
    found = metadata.metadata(name)
    classifiers = [value for value in found.get_all("Classifier") or [] if value.startswith("License ::")]
    return found.get("License-Expression") or " / ".join(classifiers) or (found.get("License") or "")[:200]


def _installed() -> list[str]:
    names = _locked("requirements.lock", "requirements-dev.lock")
    have = {canonicalize_name(one.name) for one in metadata.distributions()}
    return sorted(have & set(names))


COPYLEFT = re.compile(r"\bA?GPL|General Public|EUPL|SSPL|BUSL", re.I)
LESSER = re.compile(r"LGPL|Lesser General Public", re.I)


def test_no_package_is_under_the_gpl_and_exceptions_are_explained() -> None:
    explained = {
        canonicalize_name(name)
        for row in re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "licences.md").read_text("utf-8"), re.M)
        for name in re.split(r",\s*", row.strip())
    }
    installed = _installed()
    assert len(installed) > 100
    unexplained, unexpected = [], []
    for name in installed:
        licence = _licence(name)
        if LESSER.search(licence) and name not in explained:
            unexplained.append(f"{name}: {licence}")
        rest = LESSER.sub("", re.sub(r"GNU Library or Lesser General Public License", "", licence))
        if COPYLEFT.search(rest) and "Artistic" not in licence:
            unexpected.append(f"{name}: {licence}")
        elif COPYLEFT.search(rest) and name not in explained:
            unexplained.append(f"{name}: {licence}")
    assert not unexpected
    assert not unexplained


def test_the_validation_page_lists_the_tests_that_prove_something() -> None:
    from tests import validation

    proofs = validation.marks()
    assert set(validation.PROMISES) <= {one.requirement for one in proofs}, "a promise without a test"
    assert validation.listed() == proofs, "run `make validation`"
    assert "FAILED" not in validation.PAGE.read_text("utf-8")


def test_the_licence_is_the_one_that_the_distribution_names() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_changelog_has_the_version_of_the_distribution() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
