"""Accounts and groups, and what search finds."""

from __future__ import annotations

from collections.abc import Iterable

from include.base.errors import InvalidInput, NotFound
from include.systems.confluence.values import SearchHit, User
from include.systems.listing import Listing
from labelops.hooks.confluence.door import Door, batches, digest_of
from labelops.hooks.confluence.replies import SYSTEM

__all__ = ["People"]


class People(Door):
    """Accounts, groups, and search."""

    # --- accounts and groups ---------------------------------------------------------------------------------------

    def user(self, account_id: str) -> User:
        """Return an account.

        :raises NotFound: no such account.
        """
        found = self.users([account_id]).get(account_id)
        if found is None:
            raise NotFound(f"confluence: no account {account_id!r}", system=SYSTEM)
        return found

    def users(self, account_ids: Iterable[str]) -> dict[str, User]:
        """Return the known ones of these accounts, by id; as few requests as the flavour allows."""
        site, wanted = self._site("users"), list(dict.fromkeys(account_ids))
        found: dict[str, User] = {}
        for batch in batches(wanted, site.users_at_once):
            found |= {user.account_id: user for user in site.users(batch)}
        return {account: found[account] for account in wanted if account in found}

    def group_members(self, name: str, *, resume: str | None = None) -> Listing[User]:
        """List the members of a group, known by its name.

        :raises NotFound: no such group, or the account may not see it (when the first member is asked for).
        """
        site = self._site("group_members")
        return self._listing(
            f"members of group {name}",
            lambda place: site.group_members(name, place),
            lambda user: user.account_id,
            resume,
        )

    # --- search ----------------------------------------------------------------------------------------------------

    def search(self, cql: str, *, resume: str | None = None) -> Listing[SearchHit]:
        """List what a CQL query finds. Values from outside belong through ``cql_text``.

        Search is an index: it lags behind by minutes, does not see archived pages, and its times have whole minutes in
        the account's time zone. An absence proves nothing.

        :raises InvalidInput: the query is empty, or Confluence cannot read it (when the first hit is asked for).
        """
        site = self._site("search")
        if not cql.strip():
            raise InvalidInput("confluence: a CQL query must not be empty")
        return self._listing(
            f"search {digest_of([cql])}",
            lambda place: site.search(cql, place),
            lambda hit: f"{hit.kind} {hit.id}",
            resume,
        )
