"""What Airflow sees of this project when it loads plugins and providers, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from labelops.provider import get_provider_info
from tests.airflow_home import PLUGINS, ROOT, environment

pytestmark = pytest.mark.airflow
TYPES = {"confluence", "opentext", "prodigy"}

LOAD = """
import json, sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
from airflow.plugins_manager import get_fastapi_plugins, get_import_errors, get_plugin_info
twice = {}
for name, module in list(sys.modules.items()):
    place = getattr(module, "__file__", None) or ""
    if place.startswith(PLUGINS):
        twice.setdefault(place, []).append(name)
standard = {name: sys.modules[name].__file__ for name in ("json", "types", "operator", "platform", "code")
            if name in sys.modules}
loaded = {
    "errors": get_import_errors(),
    "plugins": [one["name"] for one in get_plugin_info()],
    "names": twice,
    "standard": standard,
    "heavy": sorted({one.partition(".")[0] for one in sys.modules}
                    & {"pandas", "great_expectations", "matplotlib", "pyarrow", "lxml"}),
    "applications": [[one["url_prefix"], type(one["app"]).__name__] for one in get_fastapi_plugins()[0]],
}
"""

PROVIDERS = """
import json
from airflow.providers_manager import ProvidersManager
from airflow._shared.module_loading import import_string
manager = ProvidersManager()
forms = {one.connection_type: [one.hook_name, one.hook_class_name, one.field_behaviour]
         for one in manager.iter_connection_type_hook_ui_metadata() if one.connection_type in TYPES}
for name in forms:
    forms[name].append(sorted(one.field_name for one in manager._connection_form_widgets_from_metadata.values()
                              if one.hook_class_name == forms[name][1]))
hooks = {}
for name in TYPES:
    hook = manager.hooks[name]
    made = import_string(hook.hook_class_name)
    hooks[name] = {
        "class": hook.hook_class_name, "shown": hook.hook_name, "package": hook.package_name,
        "type": made.conn_type, "attribute": made.conn_name_attr, "default": made.default_conn_name,
        "testable": callable(getattr(made, "test_connection", None)),
        "made": type(made(**{made.conn_name_attr: made.default_conn_name})).__name__,
    }
provided = {
    "hooks": hooks,
    "form": forms,
    "providers": {name: one.data.get("package-name") for name, one in manager.providers.items() if "labelops" in name},
}
print(json.dumps([loaded, provided]))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    home = tmp_path_factory.mktemp("airflow")
    # The plugins first: what they load is looked at before the providers load more.
    code = f"PLUGINS, TYPES = {str(PLUGINS)!r}, {sorted(TYPES)!r}\n{LOAD}\n{PROVIDERS}"
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, cwd=home, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loaded(seen: list[Any]) -> Any:
    return seen[0]


@pytest.fixture(scope="module")
def provided(seen: list[Any]) -> Any:
    return seen[1]


def test_the_plugin_loads_without_an_error(loaded: Any) -> None:
    assert loaded["errors"] == {}
    assert "labelops" in loaded["plugins"]


def test_no_file_of_ours_takes_the_name_of_a_standard_module(loaded: Any) -> None:
    library = sysconfig.get_path("stdlib")
    assert {"json", "types", "operator"} <= set(loaded["standard"])
    assert [name for name, place in loaded["standard"].items() if not place.startswith(library)] == []


def test_every_file_is_executed_once_under_its_own_name(loaded: Any) -> None:
    names = loaded["names"]
    assert str(PLUGINS / "labelops" / "operators" / "gate.py") in names
    for place, found in names.items():
        path = Path(place).relative_to(PLUGINS)
        expected = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        if path.name == "labelops_plugin.py":
            assert len(found) == 1
        else:
            assert found == [expected]


def test_loading_the_plugin_costs_a_task_nothing_heavy(loaded: Any) -> None:
    """The plugin file is loaded in the process of every task."""
    assert loaded["heavy"] == []
    assert loaded["applications"] == [["/labelops", "LazyApp"]]


def test_only_the_plugin_file_lies_open_in_the_folder() -> None:
    assert [path.name for path in PLUGINS.glob("*.py")] == ["labelops_plugin.py"]
    assert "labelops/" in (PLUGINS / ".airflowignore").read_text("utf-8").splitlines()


def test_the_provider_names_its_own_distribution(provided: Any) -> None:
    """Airflow refuses metadata whose package name is not the distribution's."""
    [entry] = importlib.metadata.entry_points(group="apache_airflow_provider", name="provider_info").select(
        module="labelops.provider"
    )
    assert entry.dist is not None
    assert get_provider_info()["package-name"] == entry.dist.name
    assert provided["providers"] == {entry.dist.name: entry.dist.name}


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_connection_type_leads_to_its_hook(provided: Any, kind: str) -> None:
    hook = provided["hooks"][kind]
    declared = next(one for one in get_provider_info()["connection-types"] if one["connection-type"] == kind)
    assert hook["class"] == declared["hook-class-name"]
    assert hook["shown"] == declared["hook-name"]
    assert hook["type"] == kind
    assert hook["attribute"] == f"{kind}_conn_id"
    assert hook["default"] == f"{kind}_default"
    assert hook["made"] == declared["hook-class-name"].rpartition(".")[2]
    assert hook["testable"]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_the_connection_form_shows_our_fields(provided: Any, kind: str) -> None:
    """What the UI reads: metadata only, no hook is imported for it."""
    declared = next(one for one in get_provider_info()["connection-types"] if one["connection-type"] == kind)
    name, made, behaviour, fields = provided["form"][kind]
    assert (name, made) == (declared["hook-name"], declared["hook-class-name"])
    assert fields == sorted(declared["conn-fields"])
    assert behaviour["relabeling"] == declared["ui-field-behaviour"]["relabeling"]
    assert behaviour["hidden_fields"] == declared["ui-field-behaviour"]["hidden-fields"]


def test_the_metadata_fits_airflows_schema() -> None:
    """The same check that Airflow makes when it starts; it drops a provider that fails, silently."""
    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text("utf-8"))
    info = get_provider_info()
    jsonschema.validate(info, schema)
    assert {one["connection-type"] for one in info["connection-types"]} == TYPES
    for one in info["connection-types"]:
        assert one["conn-fields"]
        for name, field in one["conn-fields"].items():
            assert field["label"], name
            assert field["description"], name
            assert field["schema"]["type"][1] == "null", name
            allowed = field["schema"].get("enum")
            assert allowed is None or field["schema"]["default"] in allowed
