"""The three published contracts of Confluence, mended, with the replies that the live service gives besides.

Marks of the sources: S (the publisher's own documents), L (verified on a live site by a third party), R (reported by
third parties).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from include.sandbox.http import App
from tests.contracts import datacenter
from tests.contracts.contract import METHODS, Contract, Exchange, Operation, load, objects

V2 = "/wiki/api/v2"
V1 = "/wiki/rest/api"
REST = "/rest/api"
FLAVOURS = ("cloud", "datacenter")

V2_ERROR = {
    "type": "object",
    "required": ["errors"],
    "additionalProperties": False,
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["status", "code", "title", "detail"],
                "additionalProperties": False,
                "properties": {
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                    "title": {"type": "string"},
                    "detail": {"type": "string", "nullable": True},
                },
            },
        }
    },
}
V1_ERROR = {
    "type": "object",
    "required": ["statusCode", "message"],
    "additionalProperties": False,
    "properties": {
        "statusCode": {"type": "integer", "minimum": 400, "maximum": 599},
        "message": {"type": "string"},
        "data": {
            "type": "object",
            "nullable": True,
            "additionalProperties": False,
            "required": ["authorized", "valid", "errors", "successful"],
            "properties": {
                "authorized": {"type": "boolean"},
                "valid": {"type": "boolean"},
                "allowedInReadOnlyMode": {"type": "boolean"},
                "errors": {"type": "array", "items": {"type": "object"}},
                "successful": {"type": "boolean"},
            },
        },
        "reason": {"type": "string"},
    },
}
PLAIN_ERROR = {
    "type": "object",
    "required": ["message"],
    "additionalProperties": False,
    "properties": {"message": {"type": "string"}, "code": {"type": "integer"}},
}


@dataclass(frozen=True)
class Known:
    """A reply that a contract does not declare and the service gives.

    :param on: pattern of ``METHOD template``, whole.
    :param schemas: the bodies it may have.
    :param html: whether it may be a page in HTML, from the container before Confluence.
    :param source: who says so, with its mark.
    """

    contract: str
    status: int
    on: str
    schemas: tuple[dict[str, Any], ...]
    source: str
    html: bool = False


KNOWN = (
    Known("v2", 400, ".*", (V2_ERROR,), "error bodies of v2 (L: markfluence; R: md2conf#114, Pipedream#15776)"),
    Known("v2", 401, ".*", (PLAIN_ERROR,), "scope failure at the gateway, or HTML (L: markfluence)", html=True),
    Known("v2", 404, ".*", (V2_ERROR,), "rejected credential, also where nothing can be missing (L: markfluence)"),
    Known(
        "v2",
        409,
        "(POST|PUT) /.*",
        (V2_ERROR,),
        "version and property conflicts (L; R: confluencebuilder#1067)",
    ),
    Known("v2", 413, "(POST|PUT) /.*", (V2_ERROR,), "5 MB (S: declared for creating a page)"),
    Known("v2", 429, ".*", (PLAIN_ERROR,), "rate limits (S: rate-limiting page, Aug 2026)"),
    Known("v1", 400, ".*", (V1_ERROR,), "error bodies of v1 (L: markfluence; R: duo-labs#6)"),
    Known("v1", 401, ".*", (PLAIN_ERROR,), "scope failure at the gateway, or HTML (L: markfluence)", html=True),
    Known("v1", 403, ".*", (V1_ERROR, PLAIN_ERROR), "rejected credential; XSRF check (L: markfluence; S)"),
    Known("v1", 404, ".*", (V1_ERROR,), "error bodies of v1 (L: markfluence)"),
    Known("v1", 409, "(POST|PUT|DELETE) .*", (V1_ERROR,), "OptimisticLockException (R: duo-labs#6)"),
    Known("v1", 413, "(POST|PUT) .*", (V1_ERROR,), "files over the site's limit (S: descriptions)"),
    Known("v1", 429, ".*", (PLAIN_ERROR,), "rate limits (S: rate-limiting page, Aug 2026)"),
    Known("datacenter", 400, ".*", (V1_ERROR,), "error bodies of v1 (L: markfluence)"),
    Known(
        "datacenter",
        401,
        ".*",
        (V1_ERROR, PLAIN_ERROR),
        "rejected credential (S: declared elsewhere; L: HTML)",
        html=True,
    ),
    Known("datacenter", 403, ".*", (V1_ERROR, PLAIN_ERROR), "no right, or the XSRF check (S: declared elsewhere)"),
    Known("datacenter", 404, ".*", (V1_ERROR,), "error bodies of v1 (L: markfluence)"),
    Known("datacenter", 409, "(POST|PUT) .*", (V1_ERROR,), "version conflict (S: declared for properties; L)"),
    Known("datacenter", 413, "(POST|PUT) .*", (V1_ERROR,), "too large (S: declared for attachments)"),
    Known("datacenter", 429, ".*", (PLAIN_ERROR, V1_ERROR), "rate limits (S: document 1333822054)"),
)


# --- mending -------------------------------------------------------------------------------------------------------


def mend(document: dict[str, Any]) -> None:
    """Mend the published files' known defects in place, changing no meaning."""
    for node in list(objects(document)):
        _mend_schema(node)
    for item in document["paths"].values():
        for method in METHODS:
            if "parameters" in item.get(method, {}):
                item[method]["parameters"] = _without_duplicates(item[method]["parameters"])


def _mend_schema(node: dict[str, Any]) -> None:
    kind, items = node.get("type"), node.get("items")
    if node.get("format") == "string" and kind is None:
        node["type"] = kind = node.pop("format")
    if kind in ("string", "integer", "boolean", "number") and isinstance(items, dict):
        # One value, described as if it were a list of them.
        for name in ("type", "items", "enum"):
            node.pop(name, None)
        node.update(items)
    _mend_default(node)
    alternatives = node.get("oneOf")
    if isinstance(alternatives, list) and sum("BodyWrite" in str(one.get("$ref")) for one in alternatives) == 2:
        # Both alternatives admit any object, so that every body satisfies two of one.
        node["anyOf"] = node.pop("oneOf")
    _mend_null(node)


def _mend_default(node: dict[str, Any]) -> None:
    if "default" not in node:
        return
    outside = isinstance(node.get("enum"), list) and node["default"] not in node["enum"]
    untyped_null = node["default"] is None and "type" in node and not node.get("nullable")
    if outside or untyped_null:
        del node["default"]


def _mend_null(node: dict[str, Any]) -> None:
    """Let null be where the description or the list of values says that it may be."""
    described = node.get("description")
    says = isinstance(described, str) and re.search(r"\bor null\b|\bNull or\b|\breturns? null\b", described)
    if not says and not (isinstance(node.get("enum"), list) and None in node["enum"]):
        return
    if "$ref" in node:
        reference = node.pop("$ref")
        node["anyOf"] = [{"$ref": reference}, {"enum": [None], "nullable": True, "type": "string"}]
    elif "type" in node:
        node["nullable"] = True
        if "enum" in node and None not in node["enum"]:
            node["enum"] = [*node["enum"], None]


def _without_duplicates(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one of each name and place; of two, the one that says more about the type."""
    kept: dict[Any, dict[str, Any]] = {}
    for number, one in enumerate(parameters):
        key = (one["name"], one["in"]) if "name" in one else number
        if key not in kept or kept[key].get("schema", {}).get("type") == "string":
            kept[key] = {**kept.get(key, {}), **one}
    return list(kept.values())


def _declare(document: dict[str, Any], name: str) -> None:
    """Add the known replies to each operation that they concern, and bodies to errors that have none."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            for known in KNOWN:
                if known.contract == name and re.fullmatch(known.on, f"{method.upper()} {path}"):
                    described = item[method]["responses"].setdefault(str(known.status), {})
                    described.setdefault("description", known.source)
                    if not described.get("content"):
                        schema = {"anyOf": list(known.schemas)} if len(known.schemas) > 1 else known.schemas[0]
                        described["content"] = {"application/json": {"schema": schema}}
                    if known.html:
                        described["content"] = {**described["content"], "text/html": {}}


# --- contracts -----------------------------------------------------------------------------------------------------


@cache
def document(name: str) -> dict[str, Any]:
    """Return one mended document: ``v2``, ``v1`` or ``datacenter``."""
    file = {"v2": "confluence-cloud-v2", "v1": "confluence-cloud-v1", "datacenter": "confluence-datacenter-10.0.3"}
    found = load(f"{file[name]}.json", mend)
    if name == "datacenter":
        datacenter.mend(found)
    _declare(found, name)
    return found


@cache
def contract(name: str) -> Contract:
    """Return one contract: ``v2``, ``v1`` or ``datacenter``."""
    anywhere = datacenter.ANYWHERE if name == "datacenter" else frozenset()
    return Contract(name, document(name), V2 if name == "v2" else "", anywhere)


def contract_of(flavour: str, path: str) -> Contract | None:
    """Return the contract that a path belongs to, or None for an address of no API."""
    if flavour == "datacenter":
        return contract("datacenter") if path.startswith(REST) else None
    if path.startswith(V2):
        return contract("v2")
    return contract("v1") if path.startswith(V1) else None


def canonical_path(flavour: str, path: str) -> str:
    """Return a path as the contract writes it: without the gateway's prefix, or the site's context path."""
    root = "/rest/" if flavour == "datacenter" else "/wiki/"
    return path[path.index(root) :] if root in path else path


def request_faults(flavour: str, exchange: Exchange) -> list[str]:
    """Return in what a request goes against the contract of its flavour."""
    found = contract_of(flavour, exchange.path)
    return [f"{exchange}: an address of no contract"] if found is None else found.request_faults(exchange)


def reply_faults(flavour: str, exchange: Exchange) -> list[str]:
    """Return in what a reply goes against the contract of its flavour."""
    found = contract_of(flavour, exchange.path)
    return [f"{exchange}: an address of no contract"] if found is None else found.reply_faults(exchange)


def played(app: App, contract: Contract) -> list[Operation]:
    """Return the contract's operations that a stand-in has a route for."""

    def answers(operation: Operation) -> bool:
        path = re.sub(r"\{[^}]+\}", "x", operation.template)
        return any(method == operation.method and pattern.match(path) for method, pattern, _ in app._routes)

    return [one for one in contract.operations if answers(one)]
