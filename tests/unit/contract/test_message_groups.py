"""The message group of a user: SQS takes it, whatever the user ID is."""

from __future__ import annotations

import json
from string import ascii_letters, digits, punctuation

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphnode.contract.envelopes import LONGEST_ID
from graphnode.contract.message_groups import message_group, message_group_of

#: The characters of a MessageGroupId, as AWS documents them.
TAKEN = frozenset(ascii_letters + digits + punctuation)

ODD_IDS = st.text(st.characters(codec=None), min_size=1, max_size=LONGEST_ID)
VALID_IDS = st.text(st.sampled_from(sorted(TAKEN)), min_size=1, max_size=128)


@given(ODD_IDS)
@example("a b")
@example("ada\n")
@example("x" * 129)
@example("사용자")
@example("\ud800")
@example("\0")
def test_sqs_takes_the_group_of_any_user(user_id: str) -> None:
    group = message_group(user_id)

    assert 1 <= len(group) <= 128
    assert TAKEN.issuperset(group)


@given(VALID_IDS)
def test_a_user_id_that_sqs_takes_is_the_group(user_id: str) -> None:
    assert message_group(user_id) == user_id


@given(ODD_IDS, ODD_IDS)
@example("x" * 128 + "a", "x" * 128 + "b")
@example("사용자 1", "사용자 2")
@example("\ud800", "\ud801")
def test_two_users_have_two_groups_and_one_user_always_the_same(one: str, other: str) -> None:
    assert (message_group(one) == message_group(other)) == (one == other)


def test_the_group_of_another_id_is_its_sha_256_so_that_all_producers_agree() -> None:
    assert message_group("José") == "24c2ab65b7adab7e070ba05a00a3f3ae074e28b8bcdd59735b7107e7a538a551"


@pytest.mark.parametrize(
    ("body", "group"),
    [
        ({"taskType": "ADD_NODE_RESULT", "taskId": "t", "payload": {"userId": "ada"}}, "ada"),
        ({"taskType": "ADD_NODE_REQUEST", "taskId": "t", "payload": {"user_id": "ada"}}, "ada"),
        ({"taskId": "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZZ_block", "payload": {}}, "ada"),
        ({"taskId": "t", "payload": {"userId": ""}}, None),
        ({"taskId": "t", "payload": []}, None),
        ([], None),
    ],
)
def test_a_bodys_group_is_its_users(body: object, group: str | None) -> None:
    assert message_group_of(json.dumps(body)) == group


def test_a_body_that_is_no_json_has_no_group() -> None:
    assert message_group_of('{"taskType": "ADD_NODE_RESULT", "payload": {"userId": "ada"') is None
