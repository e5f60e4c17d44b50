"""Real database servers for the tests, started from the installed binaries and stopped at the end.

A run has at most one of each kind, started by the first test that asks, whichever process runs it; each test works in a
database of its own. A server has its folder under the system's temporary folder, listens on a free loopback port, and
trusts whoever connects. Where the binaries are missing the tests that need them are skipped, with the reason.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from include.sandbox.processes import Process
from include.sandbox.prodigy_schema import create_schema
from tests.workers import ends_with_run, once

START_SECONDS = 60
ENGINES = ("sqlite", "postgresql", "mariadb")


def pytest_report_header() -> str:
    """Say which database servers the tests can start; the tests of a missing one are skipped."""
    found = {"PostgreSQL": _binary("initdb"), "MariaDB": _binary("mariadbd")}
    missing = [name for name, place in found.items() if place is None]
    return "database servers: " + ", ".join(
        f"{name} ({'missing, its tests are skipped' if name in missing else 'found'})" for name in found
    )


@dataclass(frozen=True)
class DatabaseServer:
    """A server that runs: where it answers, its folder and its process."""

    url: str
    folder: Path
    process: Process

    def stop(self) -> None:
        """End it and remove its folder."""
        self.process.end(5, self.folder.name)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(run_folder: Path) -> str:
    """The PostgreSQL server of the whole run; the URL's account owns it."""
    return _shared(run_folder, _postgres)


@pytest.fixture(scope="session")
def mariadb_url(run_folder: Path) -> str:
    """The MariaDB server of the whole run; the URL's account may do everything."""
    return _shared(run_folder, _mariadb)


def _shared(run_folder: Path, start: Callable[[], DatabaseServer]) -> str:
    """Return the URL of a server that the first who asks starts, for all processes of the run."""

    def begin() -> str:
        server = start()
        ends_with_run(run_folder, server.process, server.folder)
        return server.url

    return once(run_folder, start.__name__, begin)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server and give its URL; skip the test where its binaries are missing."""
    server = _postgres()
    try:
        yield server.url
    finally:
        server.stop()


def _postgres() -> DatabaseServer:
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's server binaries (initdb, postgres) are not installed")
    with _folder("postgres") as folder:
        port = _free_port()
        data = str(folder / "data")
        _run(folder, [initdb, "-D", data, "-U", "labelops", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        command = [postgres, "-D", data, "-p", str(port), "-k", str(folder), "-F"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "synchronous_commit=off"]
        return _server(folder, command, f"postgresql+psycopg://labelops@127.0.0.1:{port}/postgres")


def _mariadb() -> DatabaseServer:
    install, server = _binary("mariadb-install-db"), _binary("mariadbd")
    if install is None or server is None:
        pytest.skip("MariaDB's server binaries (mariadb-install-db, mariadbd) are not installed")
    with _folder("mariadb") as folder:
        port = _free_port()
        data = f"--datadir={folder / 'data'}"
        # Its own temporary tables too: two servers that are set up at one time would delete each other's.
        scratch = f"--tmpdir={folder}"
        install_options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        _run(folder, [install, "--no-defaults", data, scratch, *install_options])
        first = folder / "first.sql"
        # One statement a line: the server reads the file so.
        first.write_text(
            "CREATE USER labelops@'%' IDENTIFIED BY 'labelops';\nGRANT ALL ON *.* TO labelops@'%' WITH GRANT OPTION;\n"
        )
        first.chmod(0o644)
        command = [server, "--no-defaults", data, scratch, f"--socket={folder / 's.sock'}"]
        command += [f"--pid-file={folder / 'pid'}", f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        command += [f"--init-file={first}", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]
        command += ["--skip-log-bin"]
        return _server(folder, command, f"mysql+pymysql://labelops:labelops@127.0.0.1:{port}/mysql")


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """Make an empty database on a server, give its URL, and drop it."""
    name = f"prodigy_{uuid.uuid4().hex[:12]}"
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    force = " WITH (FORCE)" if engine.dialect.name == "postgresql" else ""
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE {name}{force}")


@contextmanager
def prodigy_database(request: pytest.FixtureRequest, engine: str, folder: Path) -> Iterator[str]:
    """Make an empty Prodigy database on an engine and give its URL.

    :param folder: where SQLite's file goes.
    """
    if engine == "sqlite":
        url = f"sqlite+pysqlite:///{folder / 'prodigy.db'}"
        create_schema(url)
        yield url
        return
    server = request.getfixturevalue("postgres_url" if engine == "postgresql" else "mariadb_url")
    with fresh_database(server) as url:
        create_schema(url)
        yield url


@pytest.fixture(params=ENGINES)
def prodigy_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty Prodigy database, on each engine in turn."""
    with prodigy_database(request, request.param, tmp_path) as url:
        yield url


def airflow_connection(url: str | URL) -> str:
    """Return the Airflow connection (JSON, for ``AIRFLOW_CONN_…``) that leads the hook to a database."""
    parts = make_url(url)
    engine = parts.get_backend_name()
    value: dict[str, object] = {"conn_type": "prodigy", "extra": {"engine": engine}}
    if engine == "sqlite":
        value["host"] = parts.database
    else:
        value |= {"host": parts.host, "port": parts.port, "schema": parts.database}
        value |= {"login": parts.username, "password": parts.password}
    return json.dumps(value)


# ---- processes


def _binary(name: str) -> str | None:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found:
        return found
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else None


def _account() -> str | None:
    """Return an account to run as: database servers refuse root."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "postgres", "mysql"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("running as root, and there is no ordinary account that could run a database server")


@contextmanager
def _folder(kind: str) -> Iterator[Path]:
    """Make a server's folder, and remove it when the server did not come up."""
    # Not pytest's folder: only its owner may enter that, and the server runs as somebody else.
    folder = Path(tempfile.mkdtemp(prefix=f"labelops-{kind}-"))
    try:
        if account := _account():
            shutil.chown(folder, account)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    account = _account()
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "TZ": "UTC", "LC_ALL": "C"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            user=account,
            group=pwd.getpwnam(account).pw_gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
        )


def _run(folder: Path, command: list[str]) -> None:
    if _start(folder, command).wait(START_SECONDS) != 0:
        pytest.fail(f"{command[0]} failed:\n{_log(folder)}")


def _server(folder: Path, command: list[str], url: str) -> DatabaseServer:
    process = _start(folder, command)
    try:
        _wait_until_up(folder, process, url)
        begun = Process.of(process.pid)
        assert begun is not None, _log(folder)
        return DatabaseServer(url, folder, begun)
    except BaseException:
        process.kill()
        process.wait(10)
        raise


def _wait_until_up(folder: Path, process: subprocess.Popen[bytes], url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with engine.connect():
                return
        except SQLAlchemyError as error:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{command_name(process)} did not come up ({error}):\n{_log(folder)}")
            time.sleep(0.1)


def command_name(process: subprocess.Popen[bytes]) -> str:
    """Return the name of the program that a process runs."""
    return Path(process.args[0] if isinstance(process.args, list) else str(process.args)).name


def _log(folder: Path) -> str:
    return (folder / "log").read_text("utf-8", "replace")[-3000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
