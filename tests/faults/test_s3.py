"""Documents are read from a stub of S3 whose connections break."""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from graphnode.clients.memory import GRAPH, SMALL_BYTES, Admission, Claim, current_claim
from graphnode.clients.s3 import (
    CHUNK_BYTES,
    MOST_STREAM_RATIO,
    PROBED_BYTES,
    open_features,
    probe,
    read_document,
)
from graphnode.errors import DocumentTooLarge, InvalidDocument, NoMemoryYet, ObjectChanged, ObjectNotFound, S3Fault
from tests.faults.s3_stub import Object, S3Stub, running_stub, settings_of, use

LIMIT = 4 * CHUNK_BYTES

#: More than two chunks of random bytes, so that a wrong offset always gives other bytes.
BODY = random.Random(7).randbytes(2 * CHUNK_BYTES + 12_345)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Stub]:
    with running_stub() as stub:
        yield stub


@pytest.fixture
def s3(server: S3Stub, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> S3Stub:
    """An empty bucket, with the settings to read it."""
    known = settings_of(server, GRAPHNODE_MAX_DOCUMENT_BYTES=str(LIMIT), GRAPHNODE_MAX_FEATURES_BYTES=str(LIMIT))
    use(known, monkeypatch)
    server.objects.clear()
    return server


def test_a_document_is_read_whole(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY)

    assert read_document("a", GRAPH) == BODY
    assert s3.objects["a"].requests == [""]


def test_an_empty_document_is_empty(s3: S3Stub) -> None:
    s3.objects["a"] = Object(b"")

    assert read_document("a", GRAPH) == b""


def test_a_missing_document_may_still_come(s3: S3Stub) -> None:
    with pytest.raises(ObjectNotFound, match=r"s3://payloads/a does not exist \(yet\)"):
        read_document("a", GRAPH)


@pytest.mark.parametrize("breaks_at", [[1], [CHUNK_BYTES - 1], [CHUNK_BYTES], [CHUNK_BYTES + 1, 2 * CHUNK_BYTES]])
def test_a_read_resumes_at_the_byte_where_its_connection_broke(s3: S3Stub, breaks_at: list[int]) -> None:
    s3.objects["a"] = Object(BODY, breaks_at=list(breaks_at))

    assert read_document("a", GRAPH) == BODY
    resumed = s3.objects["a"].requests[1:]
    assert len(resumed) == len(breaks_at)
    assert all(given.startswith("bytes=") for given in resumed)


def test_a_read_whose_connection_always_breaks_at_the_same_byte_fails(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY, breaks_at=[CHUNK_BYTES] * 20)

    with pytest.raises(S3Fault, match=rf"breaks off at byte {CHUNK_BYTES} of {len(BODY)}"):
        read_document("a", GRAPH)


def test_a_document_that_is_overwritten_half_way_is_not_mixed_with_the_new_one(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY, breaks_at=[CHUNK_BYTES], replaced_by=BODY[::-1])

    with pytest.raises(ObjectChanged, match="was overwritten while it was read"):
        read_document("a", GRAPH)


def test_a_document_over_the_limit_is_not_read(s3: S3Stub) -> None:
    s3.objects["a"] = Object(bytes(LIMIT + 1))

    with pytest.raises(DocumentTooLarge, match=rf"has {LIMIT + 1} bytes; the limit is {LIMIT} \(GRAPHNODE_MAX_DOC"):
        read_document("a", GRAPH)


def test_a_gzipped_document_is_unpacked(s3: S3Stub) -> None:
    s3.objects["a"] = Object(gzip.compress(BODY), encoding="gzip", breaks_at=[CHUNK_BYTES])

    assert read_document("a", GRAPH) == BODY


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", "gzip,aws-chunked", "aws-chunked, gzip"])
def test_gzip_has_several_spellings(s3: S3Stub, encoding: str) -> None:
    s3.objects["a"] = Object(gzip.compress(BODY), encoding=encoding)

    assert read_document("a", GRAPH) == BODY


@pytest.mark.parametrize("encoding", ["identity", "aws-chunked", "UTF-8"])
def test_a_content_encoding_that_changes_no_byte_is_none(s3: S3Stub, encoding: str) -> None:
    s3.objects["a"] = Object(BODY, encoding=encoding)

    assert read_document("a", GRAPH) == BODY


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "compress", "gzip, gzip", "ada's own"])
def test_another_content_encoding_is_refused_by_name(s3: S3Stub, encoding: str) -> None:
    s3.objects["a"] = Object(BODY, encoding=encoding)

    with pytest.raises(InvalidDocument) as caught:
        read_document("a", GRAPH)

    assert str(caught.value) == f"s3://payloads/a: Content-Encoding is {encoding}; the worker reads gzip or none"
    assert caught.value.log_text == "Content-Encoding is neither gzip nor none"


def test_bytes_that_do_not_match_their_checksum_are_read_again_later(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY, checksum=crc32(BODY[::-1]))
    s3.objects["b"] = Object(BODY, checksum=crc32(BODY))

    with pytest.raises(S3Fault, match="s3://payloads/a does not match its checksum") as caught:
        read_document("a", GRAPH)

    assert caught.value.log_text == "a document does not match its checksum: it was damaged on its way from S3"
    assert s3.objects["a"].requests == [""]
    assert read_document("b", GRAPH) == BODY


def test_the_limit_applies_to_the_unpacked_size(s3: S3Stub) -> None:
    s3.objects["bomb"] = Object(gzip.compress(bytes(LIMIT + 1)), encoding="gzip")

    with pytest.raises(DocumentTooLarge, match=rf"over {LIMIT} bytes, unpacked.*GRAPHNODE_MAX_DOCUMENT_BYTES"):
        read_document("bomb", GRAPH)


def test_the_limit_applies_to_the_stored_size_of_gzip_too(s3: S3Stub) -> None:
    s3.objects["bomb"] = Object(bytes(LIMIT + 1), encoding="gzip")

    with pytest.raises(DocumentTooLarge, match=rf"has {LIMIT + 1} bytes; the limit is {LIMIT}"):
        read_document("bomb", GRAPH)


def test_features_that_gzip_shortens_too_much_are_refused(s3: S3Stub) -> None:
    s3.objects["bomb"] = Object(gzip.compress(bytes(LIMIT)), encoding="gzip")

    with pytest.raises(InvalidDocument, match=f"its gzip unpacks to over {MOST_STREAM_RATIO} times its bytes"):
        read_all("bomb")


@pytest.fixture
def admission() -> Iterator[Admission]:
    """The memory for big documents, of which this thread's message claims."""
    admission = Admission(memory_bytes=8 * SMALL_BYTES, most=10)
    token = current_claim.set(Claim(admission))
    yield admission
    current_claim.reset(token)


def claimed() -> int:
    claim = current_claim.get()
    assert claim
    return claim.needed


def test_memory_is_claimed_before_a_document_is_read(s3: S3Stub, admission: Admission) -> None:
    s3.objects["a"] = Object(BODY)
    with admission_taken(admission), pytest.raises(NoMemoryYet):
        read_document("a", GRAPH)

    assert read_document("a", GRAPH) == BODY
    assert claimed() >= GRAPH.of(BODY)


def test_after_a_document_was_read_only_what_it_needs_is_claimed(s3: S3Stub, admission: Admission) -> None:
    body = b'"' + random.Random(1).randbytes(SMALL_BYTES // 8).hex().encode() + b'"'
    s3.objects["a"] = Object(gzip.compress(body), encoding="gzip")

    assert read_document("a", GRAPH) == body

    assert GRAPH.of(body) > SMALL_BYTES
    assert claimed() == GRAPH.of(body)


@pytest.mark.parametrize("element", [b"{},", b"[],", b'"a",', b"1,"])
def test_values_count_with_the_memory_they_take_however_short_their_text(
    s3: S3Stub, admission: Admission, element: bytes
) -> None:
    few = element * (admission.memory_bytes // GRAPH.of(element) - 1000)
    s3.objects["few"] = Object(few, encoding="")
    s3.objects["many"] = Object(gzip.compress(few + element * 2000), encoding="gzip")

    assert len(few) < LIMIT
    assert read_document("few", GRAPH) == few
    assert GRAPH.of(few) <= claimed() <= admission.memory_bytes
    current_claim.set(Claim(Admission(memory_bytes=admission.memory_bytes, most=1)))
    with pytest.raises(DocumentTooLarge, match=r"takes over \d+ bytes of memory, and .*GRAPHNODE_DOCUMENT_ME"):
        read_document("many", GRAPH)


@contextmanager
def admission_taken(admission: Admission) -> Iterator[None]:
    """Another message has all the memory."""
    other = Claim(admission)
    other.take("another's", admission.memory_bytes)
    yield
    admission.end(other)


@pytest.mark.parametrize("body", [BODY, gzip.compress(BODY)[:-500], gzip.compress(BODY)[:-2] + b"xx"])
def test_a_body_that_is_not_the_gzip_it_claims_to_be_is_refused(s3: S3Stub, body: bytes) -> None:
    s3.objects["a"] = Object(body, encoding="gzip")

    with pytest.raises(InvalidDocument, match="Content-Encoding is gzip, its bytes are not"):
        read_document("a", GRAPH)


def test_features_can_be_read_in_pieces(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY)

    with open_features("a") as document:
        assert document.read(0) == b""
        assert document.read(10) == BODY[:10]
        assert document.read(20) == BODY[10:30]


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()


def read_all(key: str) -> None:
    with open_features(key) as document:
        while document.read():
            pass


@pytest.mark.parametrize("refusal", [(503, "SlowDown"), (403, "AccessDenied"), (400, "KMS.DisabledException")])
def test_a_refused_call_is_a_fault_of_s3_that_names_the_code_and_not_the_object(
    s3: S3Stub, refusal: tuple[int, str]
) -> None:
    s3.objects["secret"] = Object(BODY, refusal=refusal)

    with pytest.raises(S3Fault) as raised:
        read_document("secret", GRAPH)

    assert refusal[1] in raised.value.log_text
    assert "secret" not in raised.value.log_text
    assert raised.value.key == "secret"


def test_a_server_that_is_not_there_is_a_fault_of_s3(s3: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    use(settings_of(s3, AWS_ENDPOINT_URL="http://127.0.0.1:1"), monkeypatch)

    with pytest.raises(S3Fault, match="S3 cannot be reached"):
        read_document("a", GRAPH)


def test_a_probe_succeeds_if_the_object_that_failed_can_be_read(s3: S3Stub) -> None:
    s3.objects["a"] = Object(BODY)

    probe("a")

    assert s3.objects["a"].requests == [f"bytes=0-{PROBED_BYTES - 1}"]


def test_a_probe_succeeds_if_another_object_can_be_read(s3: S3Stub) -> None:
    s3.objects.update(a=Object(BODY), b=Object(BODY, refusal=(403, "AccessDenied")))
    read_document("a", GRAPH)

    probe("b")

    assert len(s3.objects["b"].requests) == 1
    assert s3.objects["a"].requests == ["", f"bytes=0-{PROBED_BYTES - 1}"]


def test_a_probe_fails_if_neither_object_can_be_read_although_the_bucket_answers(s3: S3Stub) -> None:
    s3.objects.update(a=Object(BODY), b=Object(BODY))
    read_document("a", GRAPH)
    for each in s3.objects.values():
        each.refusal = (403, "AccessDenied")

    with pytest.raises(S3Fault, match="AccessDenied"):
        probe("b")


def test_a_probe_takes_a_missing_object_for_an_answer(s3: S3Stub) -> None:
    probe("a")


def test_a_probe_of_no_object_asks_for_the_bucket(s3: S3Stub) -> None:
    probe()
    s3.refused_keys.add("test")
    with pytest.raises(S3Fault, match="HeadBucket"):
        probe()
    s3.refused_keys.clear()
