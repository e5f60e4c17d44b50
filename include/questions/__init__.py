"""An auditor's questions, one function each, answered from the ledger and the store. Nothing here writes.

Every answer is a frozen dataclass whose ``basis`` names the events and the files it rests on, so that each sentence can
be looked up. :func:`as_json` turns one into JSON, :func:`lines` into text. Answers hold identifiers, digests, counts
and reasons, never label content.
"""

from include.questions.changes import changed
from include.questions.labels import in_force, trace, trace_source
from include.questions.lacking import released_without
from include.questions.models import models_of, versions_of_model
from include.questions.people import person_record, void_decisions, who
from include.questions.shared import Records, as_json, find_version
from include.questions.soundness import unsound
from include.questions.text import lines
from include.questions.waiting import pending

__all__ = [
    "Records",
    "as_json",
    "changed",
    "find_version",
    "in_force",
    "lines",
    "models_of",
    "pending",
    "person_record",
    "released_without",
    "trace",
    "trace_source",
    "unsound",
    "versions_of_model",
    "void_decisions",
    "who",
]
