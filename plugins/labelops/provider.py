"""What Airflow's connection form shows: it reads this from the installed distribution, never from ``plugins/``."""

from __future__ import annotations

from typing import Any

__all__ = ["get_provider_info"]


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["string", "null"], **schema},
    }


def _number(label: str, description: str, default: int) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["integer", "null"], "default": default},
    }


def _switch(label: str, description: str, default: bool) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["boolean", "null"], "default": default},
    }


_VERIFY = _switch("Verify TLS", "Turn off only for a test system with a certificate of its own.", True)
_TIMEOUT = _number("Timeout", "Seconds to wait for one reply.", 60)


def get_provider_info() -> dict[str, Any]:
    """Return the provider metadata: three connection types with their forms."""
    return {
        "package-name": "labelops",
        "name": "Labelops",
        "description": "Annotation operations: Confluence, Prodigy's database, OpenText Workflow Service.",
        "connection-types": [
            {
                "connection-type": "confluence",
                "hook-class-name": "labelops.hooks.confluence.ConfluenceHook",
                "hook-name": "Confluence",
                "conn-fields": {
                    "flavour": _text("Flavour", "Cloud or Data Center.", enum=["cloud", "datacenter"], default="cloud"),
                    "auth": _text(
                        "Authentication",
                        "`basic`: login and API token (Data Center: password). `bearer`: a personal or access token in "
                        "the password field. `scoped`: login and a scoped token. `oauth2`: an OAuth 2 access token.",
                        enum=["basic", "bearer", "scoped", "oauth2"],
                        default="basic",
                    ),
                    "path": _text(
                        "API path",
                        "Below the site address: `/wiki` for Cloud where nothing is set; for Data Center its context "
                        "path, which is often none.",
                    ),
                    "time_zone": _text(
                        "Time zone",
                        "Data Center: in which the site reads the times of a search, such as Europe/Berlin.",
                        default="UTC",
                    ),
                    "changes": _text(
                        "Changed pages",
                        "`search`: in the list by time (Cloud) or the search index (Data Center). `listing`: by "
                        "listing the whole space, which depends on neither.",
                        enum=["search", "listing"],
                        default="search",
                    ),
                    "cloud_id": _text(
                        "Cloud id",
                        "The site's id at Atlassian's gateway, for `scoped` and `oauth2`; asked for where it is empty.",
                    ),
                    "gateway": _text(
                        "Gateway",
                        "Its address, before the cloud id.",
                        default="https://api.atlassian.com/ex/confluence",
                    ),
                    "verify": _VERIFY,
                    "timeout": _TIMEOUT,
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {
                        "host": "Site address",
                        "login": "E-mail or user name",
                        "password": "Token or password",
                    },
                    "placeholders": {"host": "https://your-site.example", "login": "service@your-site.example"},
                },
            },
            {
                "connection-type": "prodigy",
                "hook-class-name": "labelops.hooks.prodigy.ProdigyHook",
                "hook-name": "Prodigy database",
                "conn-fields": {
                    "engine": _text(
                        "Engine",
                        "The database that Prodigy writes to.",
                        enum=["sqlite", "postgresql", "mysql", "mariadb"],
                        default="sqlite",
                    ),
                    "path": _text("SQLite file", "Absolute path of prodigy.db; for SQLite only."),
                },
                "ui-field-behaviour": {
                    "hidden-fields": [],
                    "relabeling": {"schema": "Database"},
                    "placeholders": {"host": "db.example", "schema": "prodigy", "port": "5432"},
                },
            },
            {
                "connection-type": "opentext",
                "hook-class-name": "labelops.hooks.opentext.OpenTextWorkflowHook",
                "hook-name": "OpenText Workflow Service",
                "conn-fields": {
                    "tenant_id": _text("Tenant id", "The tenant in the token address."),
                    "token_style": _text(
                        "Token request",
                        "How the client credentials are sent; `json` is OpenText's own form.",
                        enum=["json", "form", "basic"],
                        default="json",
                    ),
                    "completer_field": _text(
                        "Completer field", "Field of a historic task that names who completed it."
                    ),
                    "process_page": _text(
                        "Process page", "Address that shows a process to a person; {id} is filled in."
                    ),
                    "workflow_path": _text("Workflow path", "Below the host.", default="/workflow/v1"),
                    "history_path": _text("History path", "Below the host.", default="/workflow-history/v1"),
                    "history_grace_seconds": _number(
                        "History grace", "Seconds that history may lag behind before a missing process is an error.", 30
                    ),
                    "verify": _VERIFY,
                    "timeout": _TIMEOUT,
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {"host": "API root", "login": "Client id", "password": "Client secret"},
                    "placeholders": {"host": "https://us.api.opentext.com"},
                },
            },
        ],
    }
