"""What to do about a dead letter, by its reason. docs/runbook.md has a chapter on each."""

from __future__ import annotations

#: The reason of a letter that has none, and whose body can be decoded.
UNEXPLAINED = "UNEXPLAINED"

#: Reasons that only workers of version 0.1 give.
OF_EARLIER_VERSIONS = frozenset({"SERVICE_BUSY"})

#: By reason: what is wrong, and what to do. It has every reason that a dead letter may have.
ADVICE = {
    UNEXPLAINED: "No worker gave a verdict: SQS moved it after too many receives, or somebody sent it here. "
    "It may crash its worker: `graphnode dlq show ID --diagnose`, and watch one worker's memory while you redrive it.",
    "PERMANENT": "It fails the same way each time: fix what its error names, then redrive it.",
    "INVALID_ENVELOPE": "The sender broke the contract, and a redrive fails again: have the result sent again, "
    "then delete the letter.",
    "UNKNOWN_TASK_TYPE": "No actor handles this type: deploy the worker that does, then redrive it; "
    "if there is none, delete it.",
    "REQUEST_ON_RESULT_QUEUE": "The API server sent a request to the wrong queue: correct its SQS_REQUEST_QUEUE_URL, "
    "make the request again (`graphnode request`), then delete the letter.",
    "INVALID_MESSAGE": "Not a message of this worker: find out who else sends to the queue, then delete it. "
    "The notification is not lost: the sweep sends what is due.",
    "INVALID_DOCUMENT": "The document in S3 breaks the contract: have the AI server write it again under the same key, "
    "then redrive; until then a redrive fails again.",
    "DOCUMENT_TOO_LARGE": "Raise the limit that the error names, or have a smaller document written under the same "
    "key, then redrive.",
    "WRONG_OWNER": "It names another user than its task or document has: never force it. "
    "Find out who mixed them up, then delete the letter.",
    "NOT_REGISTERED": "Nobody asked for its task, or made its workspace, and GRAPHNODE_REGISTERED_ONLY is set: never "
    "force it. Find out who sent it. If the API server rightly registers nothing, unset it, then redrive; "
    "if not, delete the letter.",
    "FORBIDDEN_KEY": "It names an object that its user may not name: never force it. If the AI server rightly "
    "writes there, add the prefix to GRAPHNODE_S3_ALLOWED_PREFIXES, then redrive; "
    "if not, find out who sent it, then delete it.",
    "REFUSED_BY_DATABASE": "PostgreSQL refuses a value: find it by the error and the stack, fix the document "
    "or the worker, then redrive.",
    "TRANSIENT": "All its attempts failed: fix the cause that the error names, then redrive.",
    "OBJECT_NOT_FOUND": "The object never came: `graphnode dlq show ID` says whether it exists now. If so, redrive; "
    "if not, have the AI server do the task again.",
    "OBJECT_CHANGED": "The object was overwritten during each attempt: once nobody writes it any more, redrive.",
    "S3_FAULT": "S3 failed this message at each attempt, and answered others: read the object that the error names, "
    "then redrive.",
    "DATABASE_FAULT": "PostgreSQL failed this message at each attempt, and answered others: look up the error's code, "
    "then redrive.",
    "SERVICE_BUSY": "A service throttled or failed for too long: once it has recovered, redrive with a --rate.",
    "SPOOL_FULL": "The disk of GRAPHNODE_SPOOL_DIR was full at each attempt: make room there, then redrive.",
    "DATABASE_CONFLICT": "A conflict or a constraint ended its transaction at each attempt: once the database is "
    "quiet, redrive with a --rate.",
    "TIME_LIMIT": "It exceeds its time limit: look at its documents' sizes and at the database's load, then redrive.",
    "UNEXPECTED": "Most likely a bug in this worker: the stack in `graphnode dlq show ID` names the line. Deploy the "
    "fixed worker, then redrive.",
}

#: The page with a chapter on each reason.
RUNBOOK = "docs/runbook.md"

#: The advice for a reason that this version does not know.
UNKNOWN = "This version does not know the reason: a newer worker wrote it. Use that version's command."


def advice(reason: str) -> str:
    """What to do about letters with this reason."""
    return ADVICE.get(reason, UNKNOWN)


def runbook_chapter(reason: str) -> str:
    """The link to the runbook's chapter on a reason."""
    return f"{RUNBOOK}#{reason.lower() if reason in ADVICE else 'dead-letters'}"
