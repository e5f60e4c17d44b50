"""Restrictions of pages: read with those above, replaced and read back, there before a text is."""

from __future__ import annotations

from collections.abc import Sequence

from include.base.errors import Conflict, InvalidInput
from include.systems.confluence import storage
from include.systems.confluence.values import Page, Restriction, Restrictions
from labelops.hooks.confluence.pages import Pages
from labelops.hooks.confluence.replies import SYSTEM
from labelops.hooks.confluence.site import Site

__all__ = ["PLACEHOLDER", "Rights"]

PLACEHOLDER = "<p>Labelops is preparing this page.</p>"
"""The text of a restricted page until its restrictions are known to stand. It says nothing."""


class Rights(Pages):
    """Restrictions, and a page that is restricted from its first moment on."""

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> Restrictions:
        """Return the restrictions on a page and on the pages above it.

        One request for the page, one or more for its place, and one for each page above.
        """
        site = self._site("restrictions")
        own = site.restrictions(page_id)
        inherited = [
            (node.id, item)
            for node in site.ancestors(page_id, titles=False)
            if node.kind == "page"
            for item in site.restrictions(node.id)
        ]
        return Restrictions(page_id, own, tuple(inherited))

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> Restrictions:
        """Replace a page's own restrictions, read them back and return them; nothing is sent when they are equal.

        :param restrictions: at most one for each operation; none for an operation opens it.
        :raises InvalidInput: they would shut this account out, or name an operation twice.
        :raises Conflict: what was read back is not what was written.
        """
        site = self._site("set_restrictions")
        wanted = self._checked(restrictions)
        if site.restrictions(page_id) != wanted:
            with self._writing(page_id):
                site.set_restrictions(page_id, wanted)
            found = site.restrictions(page_id)
            if found != wanted:
                raise Conflict(
                    f"confluence: page {page_id}: wrote restrictions {_spell(wanted)}, read back {_spell(found)}",
                    system=SYSTEM,
                )
        return Restrictions(page_id, wanted)

    def _checked(self, restrictions: Sequence[Restriction]) -> tuple[Restriction, ...]:
        wanted = []
        me = self.current_user().account_id
        for kind in ("read", "update"):
            of_kind = [item for item in restrictions if item.operation == kind]
            if len(of_kind) > 1:
                raise InvalidInput(f"confluence: restrictions: operation `{kind}` is named {len(of_kind)} times")
            for item in of_kind:
                if not item.users and not item.groups:
                    continue
                if me not in item.users and not item.groups:
                    raise InvalidInput(
                        f"confluence: restrictions: `{kind}` without the account {me} would shut this account out"
                    )
                wanted.append(
                    Restriction(item.operation, tuple(sorted(set(item.users))), tuple(sorted(set(item.groups))))
                )
        unknown = sorted({item.operation for item in restrictions} - {"read", "update"})
        if unknown:
            raise InvalidInput(f"confluence: restrictions: found {', '.join(unknown)}, allowed are read, update")
        return tuple(wanted)

    def create_restricted_page(
        self,
        space_id: str,
        title: str,
        body: str,
        restrictions: Sequence[Restriction],
        *,
        parent_id: str | None = None,
    ) -> Page:
        """Create a page whose text nobody outside the restrictions can see at any time.

        The page is created private and without its text; then the restrictions are set and read back; only then the
        text is written, as version 2. Killed between any two steps and called again with the same arguments, it goes
        on with its own half-made page; called again after the end, it returns the page.

        :param restrictions: as for :meth:`set_restrictions`; a ``read`` one is needed.
        :raises Conflict: the space has another page of that title, or the page was changed meanwhile.
        :raises InvalidInput: no ``read`` restriction, or one that shuts this account out.
        """
        site = self._site("create_restricted_page")
        wanted = self._checked(restrictions)
        if not any(item.operation == "read" for item in wanted):
            raise InvalidInput("confluence: a restricted page needs a `read` restriction")
        page = self.find_page(space_id, title)
        if page is None:
            page = self._create(space_id, title, PLACEHOLDER, parent_id, private=True)
        if not self._is_ours(page, PLACEHOLDER, parent_id):
            return self._finished(site, page, body, wanted)
        self.set_restrictions(page.id, wanted)
        return self.update_page(page, body=body)

    def _finished(self, site: Site, page: Page, body: str, wanted: tuple[Restriction, ...]) -> Page:
        """Return the page of an earlier call that came to its end.

        :raises Conflict: it is something else.
        """
        ours = (
            page.version.number == 2
            and page.version.author_id == self.current_user().account_id
            and storage.equal(page.body or "", body)
        )
        if not ours:
            raise Conflict(
                f"confluence: the space has another page of the title, {page.id}, at version {page.version.number} by "
                f"{page.version.author_id}",
                system=SYSTEM,
            )
        found = site.restrictions(page.id)
        if found != wanted:
            raise Conflict(
                f"confluence: page {page.id} was made with restrictions {_spell(wanted)} and has {_spell(found)} now",
                system=SYSTEM,
            )
        return page


def _spell(restrictions: Sequence[Restriction]) -> str:
    if not restrictions:
        return "none"
    return "; ".join(f"{item.operation}: {', '.join((*item.users, *item.groups))}" for item in restrictions)
