from __future__ import annotations

from graphnode.dev.child_processes import worker_environment


def test_nothing_of_another_deployment_is_inherited() -> None:
    inherited = {
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL_SQS": "https://sqs.example",
        "DATABASE_URL": "postgresql://production/db",
        "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "GRAPHNODE_MAX_ATTEMPTS": "1",
        "PATH": "/bin",
    }

    environment = worker_environment({"DATABASE_URL": "postgresql://here/db"}, inherited=inherited)

    assert environment["PATH"] == "/bin"
    assert environment["DATABASE_URL"] == "postgresql://here/db"
    assert not environment.keys() & (inherited.keys() - {"PATH", "DATABASE_URL"})


def test_own_settings_win_over_those_for_development() -> None:
    environment = worker_environment({"GRAPHNODE_POLL_GRACE": "7"}, inherited={})

    assert environment["GRAPHNODE_POLL_GRACE"] == "7"


def test_the_loopback_address_is_reached_without_the_proxy_that_others_need() -> None:
    environment = worker_environment({}, inherited={"HTTPS_PROXY": "http://proxy", "NO_PROXY": "intranet"})

    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_the_line_that_says_it_is_ready_is_logged_at_every_level() -> None:
    quiet = worker_environment({"GRAPHNODE_LOG_LEVEL": "error"}, inherited={})
    chatty = worker_environment({"GRAPHNODE_LOG_LEVEL": "debug"}, inherited={})

    assert quiet["GRAPHNODE_LOG_LEVEL"] == "info"
    assert chatty["GRAPHNODE_LOG_LEVEL"] == "debug"
