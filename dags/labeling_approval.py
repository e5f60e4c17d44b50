"""### labeling_approval (C1): finished batches become a dataset version, and people approve exactly that version

**Purpose.** Freezes the batches that finished, on top of the newest approved version, into a dataset version named by
its digest, starts the OpenText process `labeling_approval` for it, and captures the approvers' decisions with person,
time, meaning and evidence grade. One version of a project is before approvers at a time; what finishes meanwhile waits.

**Runs** hourly, when answers changed, and by hand. A run starts what is missing and harvests what is decided; it never
waits. `decision_wait` waits, one run for each version.

**Run parameters.** `project`: empty for all. `close`: digest beginnings of batches to close unfinished, in your name.
`resubmit`: digest beginnings of decided, unreleased versions to put before approvers again. `withdraw`: digest beginnings of
versions that must not be used: an open approval ends, an approval given is taken back, a release is recalled. `judge_again`:
digest beginnings of versions whose approval came to nothing: its process is read and judged anew. `accept_policy`: digest
beginning of a changed policy that waits for its guard. Each needs a `reason`, exactly one project, and at least six characters
of each digest; whoever closes or resubmits has asked, and cannot approve; to withdraw takes an approver of the version, the
project's owner, or a role of its policy.

**Reads** the project's answers, the process in OpenText. **Writes** `versions/<project>/<digest>/`, a page in Confluence
that shows approvers what they decide on (its address is the process variable `material`), the process, decisions on the
ledger. Announces `labelops/approvals`.

**Gate** `version_rows`: every row carries an answer of the right shape, with labels of the project.

**Results.** approved, rejected, rework, undecided (an outcome the mapping does not know), void (an approver who annotated,
requested, is unknown or lacks the role), expired, cancelled (ended from outside), stale (the process is about another digest
or none of ours, or what the version rests on was withdrawn), refused (its policy forbids it whatever people say, so nobody
is asked); unsettled (it rests on something that was not seen, and is looked at once more).

**When it fails.** *does not fit the mapping*: the log lists what the modeller should change. *accounts that the register does
not know*: map them; until then their batch is not frozen. *could: …*: too few people could approve; the message names them.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from labelops.flow import Gate, Step, Wait, use_case
from labelops.wiring import ANSWERS, APPROVALS, digests

BATCHES = "as the log of `list_work` names each open batch"
VERSIONS = "as the lineage report and the log of `freeze` name each version"

dag: DAG = use_case(
    "labeling_approval",
    __doc__,
    unit="version",
    lists=Step("pending", on=("prodigy",)),
    steps=[
        Step("freeze", on=("prodigy",)),
        Gate("version_rows", optional=True),
        Step("request", on=("opentext", "confluence")),
        Step("capture", on=("opentext",)),
        Wait(),
    ],
    listens=[ANSWERS],
    announces=APPROVALS,
    params={
        "close": digests("Batches to close unfinished", BATCHES),
        "resubmit": digests("Versions to resubmit", VERSIONS),
        "judge_again": digests("Approvals to judge again", VERSIONS),
        "withdraw": digests("Versions to withdraw", VERSIONS),
        "accept_policy": Param(None, type=["null", "string"], title="Beginning of the digest of a policy to accept"),
        "reason": Param(None, type=["null", "string"], title="Reason for what is decided by hand"),
    },
    by_hand=["close", "resubmit", "judge_again", "withdraw", "accept_policy"],
    cron="7 * * * *",
    tags=["prodigy", "opentext", "approval"],
)
