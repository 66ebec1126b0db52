"""What to do about a dead letter, by its reason: in a sentence or two. docs/runbook.md has a chapter on each."""

from __future__ import annotations

#: What a letter is called that came without a reason and whose body tells none.
UNEXPLAINED = "UNEXPLAINED"

#: By reason, what is wrong and what to type. Every reason with which a message can be given up has its line.
ADVICE = {
    UNEXPLAINED: "No worker gave a verdict: SQS moved it after too many deliveries, or somebody put it here. "
    "It may kill its workers: `graphnode dlq show ID --diagnose`, and watch one worker's memory as you redrive it.",
    "PERMANENT": "It fails the same way each time: mend what its error names, then redrive it.",
    "INVALID_ENVELOPE": "The sender broke the contract, and a redrive fails again: have the result sent anew, "
    "then delete the letter.",
    "UNKNOWN_TASK_TYPE": "No actor handles this type: deploy the worker that does, then redrive it; "
    "if there is none, delete it.",
    "REQUEST_ON_RESULT_QUEUE": "The API server sent a request to the wrong queue: correct its SQS_REQUEST_QUEUE_URL, "
    "ask anew (`graphnode request`), then delete the letter.",
    "INVALID_MESSAGE": "Not a message of this worker: find out who else writes to the queue, then delete it. "
    "A notification itself is not lost: the sweep sends what is due.",
    "INVALID_DOCUMENT": "The document in S3 breaks the contract: have the AI server write it anew under the same key, "
    "then redrive; until then a redrive fails again.",
    "DOCUMENT_TOO_LARGE": "Raise the limit that the error names, or have a smaller document written under the same "
    "key, then redrive.",
    "WRONG_OWNER": "It names a user whom the task or document does not belong to: never force it. "
    "Find out who mixed them up, then delete the letter.",
    "FORBIDDEN_KEY": "It names an object that is not its user's to name: never force it. If the AI server rightly "
    "writes there, add the prefix to GRAPHNODE_S3_ALLOWED_PREFIXES, then redrive; "
    "if not, find out who sent it, then delete it.",
    "REFUSED_BY_DATABASE": "PostgreSQL refuses a value: find it by the error and the stack, mend the document "
    "or the worker, then redrive.",
    "TRANSIENT": "It did not work within its attempts: see to the cause that the error names, then redrive.",
    "OBJECT_NOT_FOUND": "The object never came: `graphnode dlq show ID` looks whether it is there now. If so, redrive; "
    "if not, have the AI server do the task again.",
    "OBJECT_CHANGED": "The object was overwritten at each attempt: once its writer has come to rest, redrive.",
    "SERVICE_BUSY": "A service throttled or failed for too long: once it has recovered, redrive with a --rate.",
    "DATABASE_CONFLICT": "Its transaction was ended at each attempt, by locks or a conflict: once the database is "
    "quiet, redrive with a --rate.",
    "TIME_LIMIT": "It runs over its time limit: look at its documents' sizes and at the database's load, then redrive.",
    "UNEXPECTED": "Most likely a fault in this worker: the stack in `graphnode dlq show ID` names the line. Deploy the "
    "mended worker, then redrive.",
}

#: Where each reason has its chapter, for whoever needs more than a sentence.
RUNBOOK = "docs/runbook.md"

#: What to do about a reason that this version does not know.
UNKNOWN = "This version does not know the reason: a newer worker wrote it. Look with that version."


def advice(reason: str) -> str:
    """What to do about letters with this reason."""
    return ADVICE.get(reason, UNKNOWN)


def runbook_chapter(reason: str) -> str:
    """Where the runbook has more on it."""
    return f"{RUNBOOK}#{reason.lower() if reason in ADVICE else 'dead-letters'}"
