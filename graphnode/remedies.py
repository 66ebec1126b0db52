"""What a service's error means, and what mends it. The circuit breaker tells it to the operator with the error."""

from __future__ import annotations

from collections.abc import Mapping

#: By the beginning of an SQLSTATE; the first that fits counts.
DATABASE: Mapping[str, str] = {
    "42501": "Give the worker's role its rights: deploy/postgres-grants.sql.",
    "42P01": "Bring the schema up to date: `graphnode migrate`.",
    "42703": "Bring the schema up to date: `graphnode migrate`.",
    "3F000": "Bring the schema up to date: `graphnode migrate`.",
    "25006": "Let DATABASE_URL name the primary: this node takes no writes.",
    "53100": "Make room on PostgreSQL's disk.",
    "53300": "Allow more connections, or start fewer threads: `graphnode doctor` names the limit.",
    "53": "Give PostgreSQL the resource that its log names.",
    "54000": "If the NOTIFY queue is full, end the session that listens in an open transaction (pg_stat_activity).",
    "55P03": "End the session that holds the lock (pg_locks, pg_stat_activity).",
    "57014": "Find what slows the statements down: pg_stat_activity, pg_locks.",
    "58": "Look at PostgreSQL's log: its files or its disk fail.",
    "XX": "Look at PostgreSQL's log: its files are damaged.",
    "": "Make PostgreSQL reachable: `graphnode doctor` says what fails.",
}

#: Why there is no connection, by a part of libpq's text or of the server's; the first that fits counts. Their texts are
#: not shown: they quote DATABASE_URL, and a password that was encoded wrongly is then a part of the host's name.
CONNECTION: Mapping[str, str] = {
    "password authentication failed": "wrong password",
    "no password supplied": "no password",
    "authentication failed": "this user is not accepted",
    "pg_hba.conf": "pg_hba.conf does not allow this user, database and machine",
    "could not translate host name": "the host's name is unknown",
    "root certificate file": "the file of root certificates is missing",
    "certificate": "a certificate is not accepted",
    "does not support SSL": "it has no TLS, which sslmode demands",
    "does not exist": "the user or the database does not exist",
    "permission denied for database": "the user may not connect to the database",
    "too many connections for role": "all connections that its role may have are taken",
    "too many connections for database": "all connections that the database may have are taken",
    "too many": "all connections are taken",
    "remaining connection slots": "all connections are taken",
    "starting up": "it is starting",
    "not yet accepting connections": "it is starting",
    "recovery mode": "it is recovering",
    "shutting down": "it is shutting down",
    "onnection refused": "connection refused",
    "timeout expired": "time-out",
    "timed out": "time-out",
    "No route to host": "no route to the host",
    "etwork is unreachable": "no route to the host",
    "No such file or directory": "the socket is missing",
    "reset by peer": "connection closed",
    "closed": "connection closed",
    "EOF detected": "connection closed",
    "terminating connection": "connection closed",
    "invalid": "a parameter of DATABASE_URL is invalid",
    "": "psql with the same DATABASE_URL says why",
}

#: By a part of AWS's error code, or of botocore's class; the first that fits counts.
AWS: Mapping[str, str] = {
    "KMS": "Enable the bucket's KMS key, and allow the worker's role kms:Decrypt.",
    "TimeTooSkewed": "Correct this machine's clock.",
    "AccessDenied": "Allow the worker's role s3:GetObject on the bucket: deploy/iam-worker.json.",
    "AllAccessDisabled": "Ask AWS why the account or the bucket is disabled.",
    "Account": "Ask AWS what is wrong with the account.",
    "Redirect": "Set AWS_REGION to the bucket's region.",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the bucket's region.",
    "NoSuchBucket": "Create the bucket, or correct S3_PAYLOAD_BUCKET.",
    "Credential": "Let the worker find AWS credentials: `graphnode doctor`. It looks again by itself.",
    "Token": "Renew the AWS credentials. The worker reads them again by itself.",
    "AccessKeyId": "Renew the AWS credentials. The worker reads them again by itself.",
    "Signature": "Renew the AWS credentials. The worker reads them again by itself.",
    "UnrecognizedClient": "Renew the AWS credentials. The worker reads them again by itself.",
    "": "Nothing, if AWS has a fault; otherwise `graphnode doctor` says what fails.",
}

#: The same for a poll of a queue.
SQS: Mapping[str, str] = {
    "QueueDoesNotExist": "Create the queue again; or correct its URL and restart the workers.",
    "NonExistentQueue": "Create the queue again; or correct its URL and restart the workers.",
    **AWS,
    "KMS": "Enable the queue's KMS key, and allow the worker's role kms:Decrypt.",
    "AccessDenied": "Allow the worker's role sqs:ReceiveMessage on the queue: deploy/iam-worker.json.",
}


def database_advice(code: str) -> str:
    """What mends PostgreSQL after an error with this SQLSTATE; empty: it cannot be reached."""
    return next(advice for start, advice in DATABASE.items() if code.startswith(start))


def connection_failure(text: str) -> str:
    """Why there is no connection to PostgreSQL, without any quotation.

    Parameters:
      text: libpq's or the server's, which may quote a password.
    """
    return next(why for part, why in CONNECTION.items() if part in text)


def aws_advice(code: str) -> str:
    """What mends AWS after an error with this code."""
    return next(advice for part, advice in AWS.items() if part in code)


def sqs_advice(code: str) -> str:
    """What mends the polls of a queue after an error with this code."""
    return next(advice for part, advice in SQS.items() if part in code)
