"""File systems like those of an image, and processes in them, without Docker: Linux overlays, chroot and namespaces.

The base replaces a slim image of Python. It is this machine's /usr, read-only, and a copy of the running Python without
installed packages. All mounts are in a mount namespace of this process, and disappear with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from release.output import Failed

#: The environment variable of a process in its own mount namespace.
INSIDE = "RELEASE_IN_NAMESPACE"

#: The entries of /etc with users, hosts and certificates, and pip's configuration.
ETC = (
    "ca-certificates.conf", "default", "group", "gshadow", "hosts", "ld.so.conf", "ld.so.conf.d", "login.defs",
    "nsswitch.conf", "passwd", "pip.conf", "resolv.conf", "shadow", "ssl", "xdg/pip",
)  # fmt: skip

#: The parts of this machine's Python that an image lacks: installed packages, and files for developing Python itself.
NOT_IN_IMAGE = ("site-packages", "test", "tests", "idlelib", "tkinter", "__pycache__", "config-*", "*.a")

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: The prefixes of this machine's environment variables that a build gets as well, as Docker passes on proxies.
NETWORK = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT")


class Layers(NamedTuple):
    """The files that a stage adds: at /, and at /usr/local, which is mounted over this machine's /usr."""

    root: Path
    local: Path

    def size(self) -> int:
        """The size of its files in bytes."""
        found = (path for layer in self for path in layer.rglob("*"))
        return sum(path.lstat().st_size for path in found if path.is_file() and not path.is_symlink())


def enter_namespace() -> None:
    """Restart this process in its own mount namespace, unless it is in one. Exits if it is not root on Linux."""
    if os.environ.get(INSIDE):
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"):
        sys.exit("This needs Linux, root and unshare (util-linux), because it mounts file systems and changes users.")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.orig_argv[1:]]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})  # noqa: S606


def make_base(place: Path) -> Layers:
    """Make the base, which replaces Python's image, in an empty directory."""
    base = Layers(place / "base", place / "base-local")
    for name in ("dev", "etc", "proc", "root", "run", "tmp", "usr", "var/tmp"):
        (base.root / name).mkdir(parents=True)
    (base.root / "tmp").chmod(0o1777)
    for link in ("bin", "lib", "lib64", "sbin"):
        (base.root / link).symlink_to(f"usr/{link}")
    for name in ETC:
        source, target = Path("/etc") / name, base.root / "etc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        elif source.exists():
            shutil.copy2(source, target)
    shutil.copytree(sys.base_prefix, base.local, symlinks=True, ignore=shutil.ignore_patterns(*NOT_IN_IMAGE, "bin"))
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (base.local / "bin").mkdir()
    shutil.copy2(Path(sys.base_prefix) / "bin" / python, base.local / "bin" / python)
    (base.local / "bin" / "python").symlink_to(python)
    (base.local / "bin" / "python3").symlink_to(python)
    return base


class Root:
    """The mounted file system of a stage.

    Parameters:
      place: an empty directory for it.
      below: the layers below it, the topmost first.
    """

    def __init__(self, place: Path, below: Sequence[Layers]) -> None:
        self.path = place / "mounted"
        self.layers = Layers(place / "root", place / "local")
        for directory in (self.path, *self.layers, place / "work", place / "work-local"):
            directory.mkdir(parents=True)
        _overlay(self.path, [layers.root for layers in below], upper=self.layers.root, work=place / "work")
        usr = self.path / "usr"
        _mount("--bind", "/usr", usr)
        _mount("-o", "remount,bind,ro", usr)
        _overlay(usr / "local", [layers.local for layers in below], upper=self.layers.local, work=place / "work-local")
        _mount("-t", "proc", "proc", self.path / "proc")
        device_directory = self.path / "dev"
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", device_directory)
        for name in DEVICES:
            (device_directory / name).touch()
            _mount("--bind", f"/dev/{name}", device_directory / name)
        (device_directory / "shm").mkdir(mode=0o1777)
        (device_directory / "shm").chmod(0o1777)

    def freeze(self) -> None:
        """Make it read-only with a new /tmp, as a container with `read_only` and `tmpfs: [/tmp]`."""
        for path in (self.path / "usr" / "local", self.path):
            _mount("-o", "remount,bind,ro", path)
        _mount("-t", "tmpfs", "-o", "mode=1777,noexec,nosuid,nodev", "tmpfs", self.path / "tmp")

    def command(
        self, command: Sequence[str], *, environment: Mapping[str, str], directory: str = "/", user: str = ""
    ) -> list[str]:
        """The command line that runs a command in it, with only this environment.

        Parameters:
          user: `UID:GID`, without capabilities; empty for root.
        """
        variables = [f"{name}={value}" for name, value in environment.items()]
        uid, _, gid = user.partition(":")
        drop = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"]
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *drop] if user else []
        inside = [*as_user, "env", "--ignore-environment", f"--chdir={directory}", *variables, *command]
        return ["chroot", str(self.path), *inside]

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str = "/",
        user: str = "",
        timeout_s: float = 900,
    ) -> str:
        """Run a command in it; its output. Raises Failed."""
        try:
            ran = subprocess.run(  # noqa: S603
                self.command(command, environment=environment, directory=directory, user=user),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(command)} still runs after {timeout_s:.0f} s.") from None
        if ran.returncode:
            raise Failed(f"{' '.join(command)} ended with exit code {ran.returncode}:\n{ran.stdout}")
        return ran.stdout

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], directory: str, user: str, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command in it as process 1 of a PID namespace. It ends with this process."""
        first = ["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={self.path / 'proc'}"]
        chain = self.command(command, environment=environment, directory=directory, user=user)
        with_us = ["setpriv", "--pdeathsig", "KILL"]
        return subprocess.Popen([*with_us, *first, *chain], stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a build: the image's variables, and those with which this machine reaches a registry."""
    network = {name: value for name, value in os.environ.items() if name.upper().startswith(NETWORK)}
    return {**network, **environment}


def _overlay(target: Path, below: Sequence[Path], *, upper: Path, work: Path) -> None:
    lower = ":".join(map(str, below))
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", target)


def _mount(*arguments: str | Path) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if ran.returncode:
        raise Failed(f"Mounting a file system failed; a container may not be allowed to: {ran.stderr.strip()}")
