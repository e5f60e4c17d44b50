"""A published OpenAPI contract, mended in memory, and what a request or a reply does against it.

The files lie beside the repository (``shared/specs``), belong to their publishers and are not part of it. They hold
no error bodies, no 409 and no 429; what the live service is known to answer besides is listed in
:mod:`tests.contracts.confluence` with the source of each.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator, oas30_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT4

from include.settings import ROOT

SPECS = ROOT.parent / "shared" / "specs"
ABSENT = f"published contracts are not there: {SPECS} does not exist"
METHODS = ("get", "post", "put", "delete", "patch", "head")
URN = "urn:contract"
JSON_TYPES = ("application/json",)


@dataclass(frozen=True)
class Exchange:
    """One request and, where it is known, its reply. ``path`` is as the contract writes it, without a query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    reply_headers: Mapping[str, str] = field(default_factory=dict)
    reply: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True)
class Operation:
    """One operation of a contract."""

    method: str
    template: str
    pattern: re.Pattern[str]
    document: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that a token needs for it, as the contract names them at present."""
        named = self.document.get("x-atlassian-oauth2-scopes", [])
        return frozenset(scope for one in named if one["state"] == "Current" for scope in one["scopes"])

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


def load(name: str, mend: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return a contract file, mended."""
    document = json.loads((SPECS / name).read_text("utf-8"))
    mend(document)
    return document


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in a document, inner ones last."""
    if isinstance(node, dict):
        yield node
    for value in list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(value)


class Contract:
    """The operations of one document.

    :param document: a mended OpenAPI 3.0 document.
    :param prefix: what stands before each path.
    :param anywhere: members that any object of a reply may have.
    """

    def __init__(
        self, name: str, document: dict[str, Any], prefix: str = "", anywhere: frozenset[str] = frozenset()
    ) -> None:
        self.name = name
        self.document = document
        self.prefix = prefix
        self.anywhere = anywhere
        self._absolute = _with_absolute_references(document)
        self._registry = Registry().with_resource(URN, DRAFT4.create_resource(self._absolute))
        self._validators: dict[tuple[int, bool], Any] = {}

    def __repr__(self) -> str:
        return f"Contract({self.name})"

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, those with few variables first, so that ``/user/current`` goes before ``/user/{id}``."""
        found = []
        for path, item in self._absolute["paths"].items():
            template = self.prefix + path
            pattern = re.compile(
                "".join(
                    f"(?P<v{number}>[^/]+)" if number % 2 else re.escape(piece)
                    for number, piece in enumerate(re.split(r"\{([^}]+)\}", template))
                )
                + r"\Z"
            )
            for method in METHODS:
                if method in item:
                    parameters = [
                        self.resolve(one) for one in (*item.get("parameters", ()), *item[method].get("parameters", ()))
                    ]
                    found.append(Operation(method.upper(), template, pattern, item[method], tuple(parameters)))
        return tuple(sorted(found, key=lambda one: one.template.count("{")))

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation that a request is for, or None."""
        return next((one for one in self.operations if one.method == method and one.pattern.match(path)), None)

    def resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow a reference."""
        while "$ref" in node:
            found: Any = self._absolute
            for piece in node["$ref"].removeprefix(URN + "#/").split("/"):
                found = found[piece.replace("~1", "/").replace("~0", "~")]
            node = found
        return node

    # --- requests ------------------------------------------------------------------------------------------------

    def request_faults(self, exchange: Exchange) -> list[str]:
        """Return in what a request goes against the contract."""
        operation = self.find(exchange.method, exchange.path)
        if operation is None:
            return [f"{exchange}: no such operation"]
        faults = [
            *self._path_faults(operation, exchange),
            *self._query_faults(operation, exchange),
            *self._header_faults(operation, exchange),
            *self._body_faults(operation, exchange),
        ]
        return [f"{exchange}: {fault}" for fault in faults]

    def _path_faults(self, operation: Operation, exchange: Exchange) -> Iterator[str]:
        found = operation.pattern.match(exchange.path)
        assert found
        names = re.findall(r"\{([^}]+)\}", operation.template)
        schemas = {one["name"]: one["schema"] for one in operation.parameters if one["in"] == "path"}
        for name, value in zip(names, found.groups(), strict=True):
            yield from self._value_faults(f"path {name}", unquote(value), schemas.get(name, {}))

    def _query_faults(self, operation: Operation, exchange: Exchange) -> Iterator[str]:
        sent: dict[str, list[str]] = {}
        for name, value in parse_qsl(exchange.query, keep_blank_values=True):
            sent.setdefault(name, []).append(value)
        known = {one["name"]: one for one in operation.parameters if one["in"] == "query"}
        for name in sorted(set(sent) - set(known)):
            yield f"query {name}: not a parameter of {operation}"
        for name, parameter in known.items():
            if name not in sent:
                if parameter.get("required"):
                    yield f"query {name}: is required"
                continue
            schema = self.resolve(parameter.get("schema", {}))
            if schema.get("type") == "array":
                values = [piece for value in sent[name] for piece in value.split(",")]
                item = self.resolve(schema.get("items", {}))
                typed = [_typed(value, item) for value in values]
                yield from (f"query {name}: {fault}" for fault in self._faults(typed, schema, write=True))
            elif len(sent[name]) > 1:
                yield f"query {name}: given {len(sent[name])} times, and is no list"
            else:
                yield from self._value_faults(f"query {name}", sent[name][0], schema)

    def _value_faults(self, where: str, value: str, schema: Mapping[str, Any]) -> Iterator[str]:
        typed = _typed(value, self.resolve(schema))
        yield from (f"{where}: {fault}" for fault in self._faults(typed, schema, write=True))

    def _header_faults(self, operation: Operation, exchange: Exchange) -> Iterator[str]:
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        if operation.document.get("security", self.document.get("security")) and "authorization" not in headers:
            yield "header Authorization: missing"
        for parameter in operation.parameters:
            if parameter["in"] == "header" and parameter.get("required") and parameter["name"].lower() not in headers:
                yield f"header {parameter['name']}: missing"
        # Said in the descriptions of the published files only.
        guarded = "X-Atlassian-Token" in operation.document.get("description", "")
        if guarded and headers.get("x-atlassian-token") not in ("nocheck", "no-check"):
            yield "header X-Atlassian-Token: nocheck is missing"

    def _body_faults(self, operation: Operation, exchange: Exchange) -> Iterator[str]:
        described = self.resolve(operation.document.get("requestBody", {}))
        if not described:
            if exchange.body:
                yield "body: the operation takes none"
            return
        if not exchange.body:
            if described.get("required"):
                yield "body: missing"
            return
        content_type = _header(exchange.headers, "content-type")
        kind = content_type.partition(";")[0].strip().lower()
        content = described.get("content", {})
        if kind not in content:
            yield f"body: Content-Type {kind!r}, declared are {', '.join(content)}"
            return
        schema = content[kind].get("schema", {})
        if kind == "multipart/form-data":
            yield from self._multipart_faults(operation, exchange.body, content_type, schema)
            return
        try:
            value = json.loads(exchange.body)
        except ValueError:
            yield "body: not JSON"
            return
        yield from (f"body: {fault}" for fault in self._faults(value, schema, write=True))

    def _multipart_faults(
        self, operation: Operation, body: bytes, content_type: str, schema: Mapping[str, Any]
    ) -> Iterator[str]:
        head = b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {str(part.get_param("name", "", "content-disposition")): part for part in message.iter_parts()}
        schema = self.resolve(schema)
        for name in schema.get("required", ()):
            if name not in parts:
                yield f"part {name}: is required"
        for name, part in parts.items():
            if name not in schema.get("properties", {}):
                yield f"part {name}: not declared"
            elif name == "file":
                if not part.get_filename():
                    yield "part file: has no file name"
            elif "charset" in operation.document.get("description", "") and (
                part.get_content_type() != "text/plain" or (part.get_content_charset() or "") != "utf-8"
            ):
                yield f"part {name}: must be text/plain; charset=utf-8, is {part.get('content-type')!r}"

    # --- replies -------------------------------------------------------------------------------------------------

    def reply_faults(self, exchange: Exchange) -> list[str]:
        """Return in what a reply goes against the contract; a status that is not declared is one."""
        operation = self.find(exchange.method, exchange.path)
        if operation is None:
            return [f"{exchange}: answered {exchange.status}, and there is no such operation"]
        responses = operation.document["responses"]
        declared = responses.get(str(exchange.status))
        if declared is None:
            return [f"{exchange}: status {exchange.status} is not declared ({', '.join(responses)})"]
        return [f"{exchange}: {exchange.status}: {fault}" for fault in self._reply_body_faults(declared, exchange)]

    def _reply_body_faults(self, declared: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
        content = self.resolve(declared).get("content") or {}
        kind = _header(exchange.reply_headers, "content-type").partition(";")[0].strip().lower()
        if exchange.status == 204 and exchange.reply:
            yield "has a body"
        if not content:
            if exchange.reply and exchange.status in (200, 201):
                yield f"has a body of {kind}, and none is declared"
            return
        if kind not in content:
            yield f"Content-Type {kind!r}, declared are {', '.join(content)}"
            return
        if kind not in JSON_TYPES:
            return
        try:
            value = json.loads(exchange.reply)
        except ValueError:
            yield "not JSON"
            return
        yield from self._faults(value, content[kind].get("schema", {}), write=False)

    # --- schemas -------------------------------------------------------------------------------------------------

    def _faults(self, value: Any, schema: Mapping[str, Any], *, write: bool) -> Iterator[str]:
        key = (id(schema), write)
        if key not in self._validators:
            kind = OAS30WriteValidator if write else OAS30ReadValidator
            # The schema is kept with its validator, so that its id stays its own.
            self._validators[key] = (schema, kind(schema, registry=self._registry, format_checker=oas30_format_checker))
        for error in self._validators[key][1].iter_errors(value):
            yield _say(error)
        for where in self.undeclared(value, [schema]):
            yield f"{where}: not declared"

    def undeclared(self, value: Any, schemas: Iterable[Mapping[str, Any]], where: str = "$") -> Iterator[str]:
        """Yield the members of a value that no schema names.

        JSON Schema lets unknown members pass. A stand-in that answers with one, or a client that sends one, believes
        something about the service that its publisher never said.
        """
        flat = [one for schema in schemas for one in self._branches(schema)]
        if isinstance(value, list):
            items = [one["items"] for one in flat if "items" in one]
            for number, item in enumerate(value):
                if items:
                    yield from self.undeclared(item, items, f"{where}[{number}]")
        elif isinstance(value, dict):
            is_open = any(one.get("additionalProperties") for one in flat)
            is_open = is_open or not any("properties" in one for one in flat)
            for name, member in value.items():
                named = [one["properties"][name] for one in flat if name in one.get("properties", {})]
                if name in self.anywhere:
                    continue
                if named:
                    yield from self.undeclared(member, named, f"{where}.{name}")
                elif not is_open:
                    yield f"{where}.{name}"

    def _branches(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        schema = self.resolve(schema)
        yield schema
        for word in ("allOf", "anyOf", "oneOf"):
            for branch in schema.get(word, ()):
                yield from self._branches(branch)


def _with_absolute_references(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: URN + value if name == "$ref" and isinstance(value, str) else _with_absolute_references(value)
            for name, value in node.items()
        }
    return [_with_absolute_references(item) for item in node] if isinstance(node, list) else node


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    """Return a parameter's text as its schema's type, or the text itself, which then fails."""
    kind = schema.get("type")
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((str(value) for key, value in headers.items() if key.lower() == name), "")


def _say(error: Any) -> str:
    where = "$" + "".join(f"[{piece}]" if isinstance(piece, int) else f".{piece}" for piece in error.absolute_path)
    return f"{where}: {error.message[:300]}"
