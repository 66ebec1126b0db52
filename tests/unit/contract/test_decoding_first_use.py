"""msgspec analyzes a type at its first use. If two threads do that at once, the process crashes."""

from __future__ import annotations

import subprocess
import sys

#: Makes the types again and again; each time, eight threads use them at once.
PROGRAM = """
import importlib, sys, threading
from graphnode.clients import fcm_answers
from graphnode.contract import bodies, decoding, documents, envelopes, requests

def at_once(use):
    start = threading.Barrier(8)
    def run():
        start.wait()
        use()
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

BLOCKS = b'{"blocks": [{"id": "b1", "micro_graph": {"nodes": [], "edges": []}}], "edges": [{"source": "b1"}]}'
GRAPH = b'{"nodes": [], "metadata": {"clusters": {"c1": {"name": "Baking", "key_themes": ["rye"]}}}}'
RESULT = {"userId": "ada", "status": "COMPLETED", "chunks_count": 3, "ingest_stats": {"pages": 3}}

class Refusal:
    class http_response:
        content = b'{"error": {"message": "no", "details": [{"fieldViolations": [{"field": "message.token"}]}]}}'

sys.setswitchinterval(1e-6)
for _ in range(150):
    for module in (documents, decoding, envelopes, requests, bodies, fcm_answers):
        importlib.reload(module)
    at_once(lambda: decoding.decode_block_graph(BLOCKS))
    at_once(lambda: decoding.decode_graph(GRAPH))
    at_once(lambda: bodies.decode_payload(RESULT, envelopes.MicroscopeIngestResult, {}))
    at_once(lambda: fcm_answers._is_about_the_token(Refusal))
    at_once(lambda: requests.validated(requests.AddNodeRequest(user_id="ada", s3_key="k")))
"""


def test_many_threads_may_be_the_first_to_decode() -> None:
    # A crash prints its stack, which shows the use that caused it.
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", PROGRAM], check=True, timeout=120)
