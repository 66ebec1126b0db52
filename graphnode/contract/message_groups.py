"""The message group of a user: the tenant that SQS's fair queues tell apart.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
"""

from __future__ import annotations

import re
from hashlib import sha256

from graphnode.contract.bodies import summarize_body
from graphnode.contract.task_ids import parse_task_id

#: What SQS takes as a MessageGroupId: the visible ASCII characters.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
VALID_GROUP = re.compile(r"[!-~]{1,128}")


def message_group(user_id: str) -> str:
    """The MessageGroupId of a user's messages: the user ID; its SHA-256 in hexadecimal, if SQS does not take the ID."""
    if VALID_GROUP.fullmatch(user_id):
        return user_id
    return sha256(user_id.encode(errors="surrogatepass")).hexdigest()


def message_group_of(body: str) -> str | None:
    """The MessageGroupId of a result or request by the user whom its body names; None if it names none."""
    named = summarize_body(body)
    user_id = named.user_id or (parse_task_id(named.task_id).user_id if named.task_id else None)
    return message_group(user_id) if user_id else None
