"""### guideline_sync (A1): approved guideline pages become what annotators see

**Purpose.** Publishes each project's guideline from Confluence as a numbered release that Prodigy serves. Only the
approved version of a page is published; a page edited since is published as approved and reported.

**Runs** nightly, and by hand; `project` empty means all projects.

**Reads** the pages below the project's guideline root, those in folders too: one listing of 250 pages a request, on
Cloud one of the tree below the root, bodies only where something changed. **Writes**
`publications/<project>/guidelines/<number>-<digest>/` in the store, its pointer last, and events on the ledger.
Announces `labelops/guidelines`.

**Gate** `guideline_pages`: every page can be read, required sections, included texts and images are there, sizes, no
empty page.

**When it fails.** The leaf task names the project. *Refused by the gate*: open "Gate result" on the gate task, mend the
pages it names, have them approved, run again. *AuthError*: the credential of `confluence_default` was refused. A finding
`changed_since_approval` is no failure: somebody edited an approved page, and it waits for approval. `page_hidden` is
one: the account may not see a page of the guideline, or it was deleted for good, which `guideline.purged` says.
"""

from __future__ import annotations

from airflow.sdk import DAG

from labelops.flow import Gate, Step, use_case
from labelops.wiring import GUIDELINES

dag: DAG = use_case(
    "guideline_sync",
    __doc__,
    unit="guideline",
    lists=Step("pending"),
    steps=[
        Step("collect", on=("confluence",)),
        Gate("guideline_pages"),
        Step("publish"),
    ],
    announces=GUIDELINES,
    cron="30 1 * * *",
    tags=["confluence", "guidelines"],
)
