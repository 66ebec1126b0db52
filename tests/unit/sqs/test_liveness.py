from __future__ import annotations

import threading

from graphnode.sqs.liveness import last_signs, report_alive, report_end


def test_a_thread_that_has_ended_counts_no_longer() -> None:
    def run() -> None:
        report_alive(within_s=5.0)
        assert last_signs()["mayfly"].within_s == 5.0
        report_end()

    thread = threading.Thread(target=run, name="mayfly")
    thread.start()
    thread.join()

    assert "mayfly" not in last_signs()
