"""What the published contract of Data Center gets wrong or leaves out, mended in memory.

Most of its schemas are written from the server's Java classes, not from what is sent; each mend says what is sent, and
where that is written. Marks of the sources as in :mod:`tests.contracts.confluence`.
"""

from __future__ import annotations

from typing import Any

SCHEMAS = "#/components/schemas/"

ANYWHERE = frozenset({"_links", "_expandable"})
"""Members that any object of the REST API may have (S: the API's introduction, on expansion and links)."""

MORE: dict[str, dict[str, Any]] = {
    # S: the contract's own examples of users; the schema of the known ones is empty.
    "Person": {"username": {"type": "string"}, "userKey": {"type": "string"}, "status": {"type": "string"}},
    # S: the contract declares these for the class of search replies, and the calls use another.
    "SearchResult": {name: {} for name in ("content", "space", "user", "entityType", "timestamp")},
    # S: Cloud's contract declares the same call so; L: md2conf reads it so.
    "MockRestrictionsResponse": {name: {"$ref": f"{SCHEMAS}OperationRestriction"} for name in ("read", "update")},
}
SEARCHES = ("/rest/api/search", "/rest/api/content/search")
ANY: dict[str, Any] = {}


def mend(document: dict[str, Any]) -> None:
    """Mend the contract in place."""
    schemas = document["components"]["schemas"]
    for name in list(schemas):
        # A reference to a thing is sent as the thing, or, not expanded, left to `_expandable`.
        if name.startswith("Reference") and name.removeprefix("Reference") in schemas:
            schemas[name] = {"allOf": [{"$ref": SCHEMAS + name.removeprefix("Reference")}]}
    for name, more in MORE.items():
        schemas[name]["properties"] |= more
    # A property's value is any JSON (S: the contract's description of the call).
    schemas["JsonString"] = ANY
    # L: an empty list where there are none; the class holds a list.
    schemas["ValidationResult"]["properties"]["errors"] = {
        "anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]
    }
    paths = document["paths"]
    for path in SEARCHES:
        found = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
        declared = schemas["SearchPageResponseSearchResult"]["properties"]
        found |= {name: declared[name] for name in ("cqlQuery", "totalSize", "searchDuration", "archivedResultCount")}
    files = paths["/rest/api/content/{id}/child/attachment"]
    # L: a list is answered with 200, and what was added comes as a list.
    files["get"]["responses"]["200"] = files["get"]["responses"]["201"]
    files["post"]["responses"]["200"]["content"] = files["get"]["responses"]["201"]["content"]
    groups = paths["/rest/api/user/memberof"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    groups["properties"]["results"]["items"] = {"$ref": f"{SCHEMAS}Group"}
