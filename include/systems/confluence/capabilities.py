"""What each flavour of Confluence can do, and what the account needs for it: one table, also shown in the documents."""

from __future__ import annotations

from dataclasses import dataclass

from include.base.errors import InvalidInput

__all__ = ["OPERATIONS", "Operation", "operation", "scopes_of"]


@dataclass(frozen=True)
class Operation:
    """One thing the client does.

    :param methods: methods of ``ConfluenceClient`` that do it; the first names the operation.
    :param does: what it does, for people.
    :param right: what the account must be allowed to do.
    :param scopes: what a scoped token or an OAuth app needs on Cloud, besides the right.
    :param missing: why a flavour cannot do it; a flavour that is not named can.
    """

    methods: tuple[str, ...]
    does: str
    right: str
    scopes: tuple[str, ...]
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.methods[0]

    def why_not(self, flavour: str) -> str:
        """Return why the flavour cannot do it, or an empty text."""
        return dict(self.missing).get(flavour, "")


def _not_on_data_center(reason: str) -> tuple[tuple[str, str], ...]:
    return (("datacenter", reason),)


READ_PAGE = "read:page:confluence"
WRITE_PAGE = "write:page:confluence"
READ_SPACE = "read:space:confluence"
READ_COMMENT = "read:comment:confluence"
WRITE_COMMENT = "write:comment:confluence"
READ_TASK = "read:task:confluence"
READ_TREE = "read:hierarchical-content:confluence"
READ_METADATA = "read:content.metadata:confluence"
READ_ATTACHMENT = "read:attachment:confluence"
READ_USER = "read:confluence-user"
READ_GROUPS = "read:confluence-groups"
READ_SUMMARY = "read:confluence-content.summary"
READ_ALL = "read:confluence-content.all"
WRITE_CONTENT = "write:confluence-content"
WRITE_FILE = "write:confluence-file"
DOWNLOAD = "readonly:content.attachment:confluence"
SEARCH = "search:confluence"

_VIEW, _EDIT = "view the page", "edit the page"

OPERATIONS: tuple[Operation, ...] = (
    Operation(("current_user", "check"), "who the credential belongs to", "use Confluence", (READ_USER,)),
    Operation(("space",), "a space by its key", "view the space", (READ_SPACE,)),
    Operation(
        ("pages_in_space", "pages", "page", "find_page", "versions"),
        "pages by space, ids, id and title; a body at a version; versions",
        _VIEW,
        (READ_PAGE,),
    ),
    Operation(("changed_pages",), "pages written since an earlier read", _VIEW, (READ_PAGE,)),
    Operation(("descendants",), "what is below a page, at any depth", _VIEW, (READ_TREE,)),
    Operation(("pages_above",), "the pages above a page", _VIEW, (READ_METADATA,)),
    Operation(("create_page",), "a new page", "add pages", (WRITE_PAGE, READ_PAGE, READ_USER)),
    Operation(("update_page",), "the version after the one read", _EDIT, (WRITE_PAGE, READ_PAGE, READ_USER)),
    Operation(("labels",), "labels of a page", _VIEW, (READ_PAGE,)),
    Operation(("add_label", "remove_label"), "labels put on and taken off", _EDIT, (WRITE_CONTENT, READ_PAGE)),
    Operation(("pages_with_label",), "pages by label, from the search index", _VIEW, (SEARCH,)),
    Operation(
        ("content_state",),
        "the content state (page status)",
        _VIEW,
        (READ_SUMMARY,),
        _not_on_data_center("Data Center has no content states"),
    ),
    Operation(("attachments",), "attachments of a page", _VIEW, (READ_ATTACHMENT,)),
    Operation(("download",), "an attachment as a stream", _VIEW, (DOWNLOAD,)),
    Operation(("upload",), "a file, unless the same bytes are there", "add attachments", (WRITE_FILE, READ_ATTACHMENT)),
    Operation(("properties", "property"), "content properties", _VIEW, (READ_PAGE,)),
    Operation(("set_property",), "a content property written", _EDIT, (WRITE_PAGE, READ_PAGE)),
    Operation(("footer_comments",), "footer comments", _VIEW, (READ_COMMENT,)),
    Operation(
        ("add_footer_comment",), "a footer comment written", "add comments", (WRITE_COMMENT, READ_COMMENT, READ_USER)
    ),
    Operation(("inline_comments",), "inline comments with their resolution", _VIEW, (READ_COMMENT,)),
    Operation(
        ("inline_tasks",),
        "inline tasks with assignee, completer and times",
        _VIEW,
        (READ_TASK,),
        _not_on_data_center("Data Center has no call for inline tasks; they are in the page's storage only"),
    ),
    Operation(("restrictions",), "restrictions of a page and of those above it", _VIEW, (READ_ALL, READ_METADATA)),
    Operation(
        ("set_restrictions",),
        "a page's restrictions replaced and read back",
        _EDIT,
        (WRITE_CONTENT, READ_ALL, READ_USER, READ_GROUPS),
    ),
    Operation(
        ("create_restricted_page",),
        "a page whose text is never visible to others",
        "add pages, restrict them",
        (WRITE_PAGE, READ_PAGE, READ_USER, WRITE_CONTENT, READ_ALL, READ_GROUPS),
    ),
)

_BY_METHOD = {method: item for item in OPERATIONS for method in item.methods}


def operation(name: str) -> Operation:
    """Return the operation of a method of the client.

    :raises InvalidInput: there is none of that name.
    """
    if name not in _BY_METHOD:
        raise InvalidInput(f"confluence: no operation {name!r}; there are {', '.join(sorted(_BY_METHOD))}")
    return _BY_METHOD[name]


def scopes_of(*names: str) -> tuple[str, ...]:
    """Return the scopes that a Cloud token needs for these operations (none named: for all), sorted."""
    chosen = [operation(name) for name in names] if names else OPERATIONS
    return tuple(sorted({scope for item in chosen for scope in item.scopes}))
