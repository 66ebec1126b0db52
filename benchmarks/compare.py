"""Compare this project's broker, dramatiq_sqs, Celery on SQS and sqs-consumer in the same failure scenarios.

Each of them runs one worker process that handles four messages at a time, configured for at-least-once delivery as its
documentation says. Each has its own queues on LocalStack, with a visibility timeout of 6 s, a redrive after 5 receives,
and 5 attempts 6 s apart. All run a scenario at the same time; the speed is measured one after the other. Celery and
sqs-consumer are installed into a temporary directory, which needs PyPI and npm's registry. Takes about six minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from dramatiq import Message
from rich.console import Console
from rich.table import Table

from benchmarks.compared.trial import ATTEMPTS, CONCURRENCY, PATIENCE_S, VISIBILITY_S, Contender, Trial, Work
from benchmarks.output import option_parser, report, tell
from benchmarks.servers import cpu_s
from graphnode.dev.localstack import LocalStack

#: The versions that are compared.
CELERY = ("celery[sqs]==5.7.0", "kombu==5.7.0")
SQS_CONSUMER = "sqs-consumer@15.0.3"

#: The Node.js that sqs-consumer needs; npm has it as a package.
NODE = "node@22"

HERE = Path(__file__).parent

#: Seconds between two attempts at a message.
BACKOFF_S = 6

#: Seconds of a handler that outlasts the visibility timeout.
LONG_S = 2.5 * VISIBILITY_S

#: Seconds of an outage that outlasts all attempts.
OUTAGE_S = 1.5 * ATTEMPTS * BACKOFF_S

#: A back-off in seconds that is longer than the longest delay of SQS, 15 minutes.
LONG_BACKOFF_S = 3600

#: Messages for measuring the speed.
MANY = 500


def killed(trial: Trial) -> str:
    """SIGKILL while a message is handled: when does the message come back?"""
    trial.send(Work("one", seconds=60))
    with trial.worker() as process:
        trial.wait(lambda: trial.events("start"), "the first start")
        os.killpg(process.pid, signal.SIGKILL)
        if not sum(trial.counts()):
            return "lost"
        took = trial.wait(lambda: trial.counts()[0], "the message")
    back = trial.sqs.receive_message(QueueUrl=trial.url, AttributeNames=["ApproximateReceiveCount"])["Messages"]
    between = int(back[0]["Attributes"]["ApproximateReceiveCount"]) - 2
    return f"back after {took:.0f} s" + (f", {between} poll of the dead in between" if between else "")


def long_handler(trial: Trial) -> str:
    """A handler that takes 2.5 times the visibility timeout: how often is its message started?"""
    trial.send(Work("one", seconds=LONG_S))
    with trial.worker():
        trial.wait(lambda: trial.events("end"), "the first end")
        starts = len(trial.events("start"))
    return "started once" if starts == 1 else f"started {starts} times"


def stopped(trial: Trial) -> str:
    """SIGTERM while four messages are handled and eight wait: when does the worker end, and are the others visible?"""
    trial.send(*(Work(f"no-{number}", seconds=3) for number in range(3 * CONCURRENCY)))
    with trial.worker() as process:
        trial.wait(lambda: len(trial.events("start")) >= CONCURRENCY, "the first starts")
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)
        took = time.monotonic() - began
        left, done = sum(trial.counts()), len(trial.events("end"))
        back = trial.wait(lambda: trial.counts()[0] == left, "the messages that were not handled")
    interrupted = len(trial.events("start")) - done
    hidden = "at once" if back < 1 else f"after {back:.0f} s"
    lost = 3 * CONCURRENCY - done - left
    return (
        f"ends after {took:.0f} s, the rest visible {hidden}"
        + (f"; {interrupted} interrupted" if interrupted else "")
        + (f"; {lost} lost" if lost else "")
    )


def outage(trial: Trial) -> str:
    """An outage of a service that all messages need, longer than five attempts: how many become dead letters?"""
    messages = 6
    trial.send(*(Work(f"no-{number}", kind="needs") for number in range(messages)))
    with trial.worker():
        trial.wait(lambda: trial.events("start"), "the first start")
        time.sleep(OUTAGE_S)
        trial.service.open()
        back = time.time()
        trial.wait(lambda: trial.dead() + len(trial.events("end")) >= messages, "an end of each message")
        ends = trial.events("end")
    letters = f"{trial.dead()} of {messages} dead letters"
    return f"{letters}, {len(ends)} done {max(ends) - back:.0f} s after its end" if ends else letters


def hopeless(trial: Trial) -> str:
    """A permanent error in the handler: when is the message a dead letter, and with a reason?"""
    trial.send(Work("one", kind="hopeless"))
    return dead_letter(trial)


def undecodable(trial: Trial) -> str:
    """A body that cannot be decoded: when is it a dead letter, and with a reason?"""
    trial.sqs.send_message(QueueUrl=trial.url, MessageBody='{"cut off')
    return dead_letter(trial)


def dead_letter(trial: Trial) -> str:
    """When the only message becomes a dead letter, and whether that has a reason."""
    with trial.worker():
        began = time.monotonic()
        trial.wait(lambda: trial.dead() or not sum(trial.counts()), "the dead letter")
        took = time.monotonic() - began
        time.sleep(1)
        letters = trial.sqs.receive_message(QueueUrl=trial.dead_letters, MessageAttributeNames=["All"])
    if not (found := letters.get("Messages")):
        return "gone"
    when = "at once" if took < 2 else f"after {took:.0f} s"
    attributes = found[0].get("MessageAttributes") or {}
    return f"{when}, reason {attributes['reason']['StringValue']}" if "reason" in attributes else f"{when}, no reason"


def long_backoff(trial: Trial) -> str:
    """A retry in an hour: does the message still exist?"""
    trial.send(Work("one", kind="fails"))
    with trial.worker():
        trial.wait(lambda: trial.events("start"), "the first start")
        time.sleep(2)
        waiting = sum(trial.counts())
        starts = len(trial.events("start"))
    return "lost" if not waiting else "waits" if starts == 1 else f"started {starts} times"


def speed(trial: Trial) -> str:
    """The rate of messages whose handler only records them, and the CPU time of a message."""
    trial.send(*(Work(f"no-{number}") for number in range(MANY)))
    with trial.worker() as process:
        before = cpu_s(process.pid)
        trial.wait(lambda: len(trial.events("end")) >= MANY and not sum(trial.counts()), "an empty queue")
        cpu = cpu_s(process.pid) - before
    ends = trial.events("end")
    return f"{(MANY - 1) / (max(ends) - min(ends)):.0f} messages/s, {cpu * 1000 / MANY:.1f} ms of CPU each"


#: The scenarios, in the order of the table.
SCENARIOS: dict[str, Callable[[Trial], str]] = {
    "handler of 15 s, visibility 6 s": long_handler,
    "SIGKILL while one is handled": killed,
    "SIGTERM, 4 running and 8 waiting": stopped,
    "45 s outage, 5 attempts 6 s apart": outage,
    "the handler gives up": hopeless,
    "a body that is no message": undecodable,
    "again in an hour": long_backoff,
    "500 messages on LocalStack": speed,
}


def main() -> None:
    """Run all scenarios, and print what happened to the messages."""
    as_json = option_parser("compare", __doc__).parse_args().json
    with tempfile.TemporaryDirectory(prefix="graphnode-compare-") as scratch, LocalStack() as localstack:
        directory = Path(scratch)
        contenders = [*ours(), *celery(directory), *sqs_consumer(directory)]
        localstack.wait_until_ready()
        found = {
            name: run_scenario(scenario, contenders, localstack=localstack, directory=directory)
            for name, scenario in SCENARIOS.items()
        }
    if as_json:
        report(found, as_json=True)
        return
    table = Table("", *(contender.name for contender in contenders))
    for name, by_contender in found.items():
        table.add_row(name, *by_contender.values(), end_section=True)
    Console().print(table)


def run_scenario(
    scenario: Callable[[Trial], str], contenders: Sequence[Contender], *, localstack: LocalStack, directory: Path
) -> dict[str, str]:
    """The result of each contender in a scenario. All run at the same time, except for the speed."""
    tell(scenario.__name__.replace("_", " "))

    def one(contender: Contender) -> str:
        backoff_s = LONG_BACKOFF_S if scenario is long_backoff else BACKOFF_S
        name = scenario.__name__.replace("_", "-")
        return scenario(Trial(contender, name, localstack=localstack, directory=directory, backoff_s=backoff_s))

    with ThreadPoolExecutor(max_workers=1 if scenario is speed else len(contenders)) as pool:
        found = dict(zip((contender.name for contender in contenders), pool.map(one, contenders), strict=True))
    for name, what in found.items():
        tell(f"  {name}: {what}")
    return found


def ours() -> list[Contender]:
    """This project's broker, and dramatiq_sqs, which it extends."""

    def encode(message: Work, queue: str) -> str:
        return b64encode(
            Message[None](queue_name=queue, actor_name="handle", args=(), kwargs=asdict(message), options={}).encode()
        ).decode()

    module = "benchmarks.compared.dramatiq_worker"
    command = [sys.executable, "-m", "dramatiq", module, "--processes", "1", "--threads", str(CONCURRENCY)]
    names = ("graphnode", f"dramatiq_sqs {version('dramatiq-sqs')}")
    return [Contender(name, command, "Worker process is ready", encode) for name in names]


def celery(directory: Path) -> list[Contender]:
    """Celery, installed into its own environment."""
    tell(f"installing {' '.join(CELERY)}")
    python = directory / "celery" / "bin" / "python"
    run(sys.executable, "-m", "venv", directory / "celery")
    run(python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *CELERY)
    module = "benchmarks.compared.celery_worker"
    options = ["--concurrency", str(CONCURRENCY), "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    return [
        Contender(
            CELERY[0].replace("[sqs]==", " ").capitalize(),
            [str(python), "-m", "celery", "--app", module, "worker", *options],
            " ready.",
            send=[str(python), "-m", module],
        )
    ]


def sqs_consumer(directory: Path) -> list[Contender]:
    """sqs-consumer, installed with the Node.js that it needs; nothing if npm is missing."""
    if not shutil.which("npm"):
        tell("npm is not installed: sqs-consumer is left out")
        return []
    tell(f"installing {SQS_CONSUMER}")
    script = directory / "node" / "worker.mjs"
    script.parent.mkdir()
    shutil.copy(HERE / "compared" / "sqs_consumer.mjs", script)
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", script.parent, SQS_CONSUMER, NODE)
    return [
        Contender(
            SQS_CONSUMER.replace("@", " "),
            [str(script.parent / "node_modules" / ".bin" / "node"), str(script)],
            "ready",
            lambda message, _queue: json.dumps(asdict(message)),
        )
    ]


def run(*command: str | Path) -> None:
    """Run an installer. Raises CalledProcessError."""
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)  # noqa: S603


if __name__ == "__main__":
    main()
