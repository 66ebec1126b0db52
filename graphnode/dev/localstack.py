"""LocalStack without Docker: SQS and S3 on the loopback address, from an environment of its own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL
from types import TracebackType

from graphnode.dev.child_log import Log
from graphnode.dev.guard import GuardedProcess
from graphnode.errors import GraphNodeError

HOST = "127.0.0.1"

REGION = "us-east-1"

#: LocalStack's account, whatever the credentials.
ACCOUNT = "000000000000"

#: Where the server's start files may be: in the checkout of this module or, if it was installed from a wheel, in the
#: current directory.
PLACES = (Path(__file__).resolve().parents[2] / "localstack", Path.cwd() / "localstack")

#: The directory of the server's start files.
FILES = next((place for place in PLACES if (place / "serve.py").exists()), PLACES[0])

#: The script that the server runs when it is ready. docker-compose mounts the same file.
HOOK = FILES / "init" / "ready.d" / "10-queues-and-bucket.py"

#: Where LocalStack looks for this script, below its root.
HOOK_DIRECTORY = "etc/localstack/init/ready.d"

#: Where LocalStack looks for its index of AWS services, below its root. Making it takes 4 s: make does it once.
INDEX_DIRECTORY = "usr/lib/localstack"

#: Seconds a start may take. It takes 2 to 4 on an idle machine, and many times that on a busy one.
START_TIMEOUT_S = 60.0

#: Seconds between two looks at a server that is starting.
POLL_S = 0.05

#: A port that is free when it is chosen may be another program's when LocalStack binds it.
PORT_ATTEMPTS = 5


class LocalStackError(GraphNodeError):
    """LocalStack does not start."""

    reason = "LOCALSTACK"


class PortTakenError(LocalStackError):
    """Another program listens on the port that LocalStack was given."""

    reason = "PORT_TAKEN"


class LocalStack:
    """A starting or running LocalStack, which ends when this process ends. Its data is lost then.

    The constructor starts it and does not wait: call `wait_until_ready` before you use it.

    Parameters:
      services: further services beside SQS and S3, by LocalStack's names.

    Raises LocalStackError when LocalStack is not installed.
    """

    def __init__(self, *services: str) -> None:
        if not HOOK.exists():
            raise LocalStackError(f"The development stack runs from a checkout of the project: there is no {HOOK}.")
        self._services = ("sqs", "s3", *services)
        self._python = find_python()
        self._launch()

    @property
    def endpoint(self) -> str:
        """The URL of its SQS and S3."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    def queue_url(self, name: str) -> str:
        """The URL of one of its queues."""
        return f"{self.endpoint}/queue/{REGION}/{ACCOUNT}/{name}"

    def returncode(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.returncode()

    def wait_until_ready(self) -> None:
        """Wait until SQS and S3 answer, and the queues and the bucket exist.

        Raises LocalStackError, which ends with the server's log.
        """
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._wait_for_hook()
            except PortTakenError:
                self.stop()
                if attempt == PORT_ATTEMPTS:
                    raise
                self._launch()
            else:
                return

    def tail(self) -> str:
        """The last lines of its log, also after its end."""
        return self._log.tail()

    def stop(self) -> None:
        """End it. The contents of its queues and its bucket are lost."""
        self._process.stop()

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        self.port = _free_port()
        root = Path(tempfile.mkdtemp(prefix="graphnode-localstack-"))
        try:
            # The server lists the scripts it has run. A unique name shows that the server that answers is ours.
            self._hook_name = f"{HOOK.stem}-{root.name}{HOOK.suffix}"
            _furnish(root, self._python, self._hook_name)
            self._log = Log(root / "localstack.log")
            self._process = GuardedProcess(
                [self._python, FILES / "serve.py"],
                log=self._log.path,
                env=_environment(root, self._python, self.port, self._services),
                stop_signal=SIGKILL,  # it has no data to save
                remove=root,
            )
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise

    def _wait_for_hook(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (state := self._hook_state()) != "SUCCESSFUL":
            if state == "ERROR":
                raise LocalStackError(f"LocalStack could not make the queues and the bucket:\n{self.tail()}")
            if (code := self.returncode()) is not None:
                raise LocalStackError(f"LocalStack ended at once (exit code {code}):\n{self.tail()}")
            if time.monotonic() > deadline:
                raise LocalStackError(f"LocalStack is not ready after {START_TIMEOUT_S:.0f} s:\n{self.tail()}")
            time.sleep(POLL_S)

    def _hook_state(self) -> str | None:
        """The state of the server's script; None until the server listens. Raises PortTakenError."""
        # The loopback address needs no proxy, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.endpoint}/_localstack/init/ready", timeout=1) as answer:
                scripts = json.load(answer)["scripts"]
                return next(str(script["state"]) for script in scripts if script["name"] == self._hook_name)
        except (urllib.error.HTTPError, http.client.HTTPException, ValueError, LookupError, StopIteration):
            raise PortTakenError(f"Another program answers on port {self.port}.") from None
        except OSError:
            return None


def find_python() -> Path:
    """The Python of LocalStack's environment.

    Raises LocalStackError, which says what to run, if there is no such Python.
    """
    if given := os.environ.get("GRAPHNODE_LOCALSTACK_PYTHON"):
        python = Path(given)
        remedy = "correct GRAPHNODE_LOCALSTACK_PYTHON, or unset it and run `make install`"
    else:
        python = Path(sys.prefix) / "localstack" / "bin" / "python"
        remedy = "run `make install`, or set GRAPHNODE_LOCALSTACK_PYTHON to the Python of an environment that has it"
    if not python.exists():
        raise LocalStackError(f"LocalStack is not installed: there is no {python}. To have it, {remedy}.")
    return python


def _furnish(root: Path, python: Path, hook_name: str) -> None:
    """Put the script and the index into the server's root."""
    hooks = root / HOOK_DIRECTORY
    hooks.mkdir(parents=True)
    shutil.copyfile(HOOK, hooks / hook_name)
    index = python.parent.parent / INDEX_DIRECTORY
    if index.exists():
        (root / INDEX_DIRECTORY).parent.mkdir(parents=True)
        (root / INDEX_DIRECTORY).symlink_to(index)


def _environment(root: Path, python: Path, port: int, services: Sequence[str]) -> dict[str, str]:
    """The server's whole environment: of this process's own it has PATH only.

    The names are LocalStack's: https://docs.localstack.cloud/references/configuration/
    """
    return {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(root),
        "FILESYSTEM_ROOT": str(root),
        # Inside a container it would take the container's own directories, which several servers would then share.
        "OVERRIDE_IN_DOCKER": "0",
        "SERVICES": ",".join(services),
        "EAGER_SERVICE_LOADING": "1",
        "GATEWAY_LISTEN": f"{HOST}:{port}",
        "LOCALSTACK_HOST": f"{HOST}:{port}",
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "SQS_DISABLE_CLOUDWATCH_METRICS": "1",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        # A line for each call would be a line for each poll.
        "LS_LOG": "warning",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
