"""File systems like an image's stages, and processes in them, without Docker: overlays, chroot and namespaces of Linux.

The base stands for a slim image of Python: this machine's /usr, which can only be read, and a copy of the Python that
runs this, without what was installed into it. All mounts are in a namespace of this process and go with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

#: Set in the process that has a mount namespace of its own.
INSIDE = "RELEASE_IN_NAMESPACE"

#: What of /etc tells a process users, hosts and certificates; and pip where this machine has packages from.
ETC = (
    "ca-certificates.conf", "default", "group", "gshadow", "hosts", "ld.so.conf", "ld.so.conf.d", "login.defs",
    "nsswitch.conf", "passwd", "pip.conf", "resolv.conf", "shadow", "ssl", "xdg/pip",
)  # fmt: skip

#: What of this machine's Python belongs to no image: what was installed into it, and what only its makers need.
NOT_IN_IMAGE = ("site-packages", "test", "tests", "idlelib", "tkinter", "__pycache__", "config-*", "*.a")

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: Variables of this machine that a build has beside the image's own, as Docker's builds have the proxies.
NETWORK = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT")


class Failed(Exception):
    """A command in a file system failed."""


class Layers(NamedTuple):
    """What a stage adds to those below it: at /, and at /usr/local, which lies over this machine's /usr."""

    root: Path
    local: Path

    def size(self) -> int:
        """Bytes of its files."""
        found = (path for layer in self for path in layer.rglob("*"))
        return sum(path.lstat().st_size for path in found if path.is_file() and not path.is_symlink())


def enter_namespace() -> None:
    """Begin anew in a mount namespace of this process's own, unless it is in one. Only root on Linux can."""
    if os.environ.get(INSIDE):
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"):
        sys.exit("This needs Linux, root, and unshare (util-linux): it mounts file systems, and changes users.")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.orig_argv[1:]]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})  # noqa: S606


def make_base(place: Path) -> Layers:
    """Make what stands for the image of Python, in an empty directory."""
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
    """A stage's file system, mounted.

    Parameters:
      place: an empty directory for it.
      below: the layers it stands on, the topmost first.
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
        """Make it read-only, but for a /tmp of its own: a container with `read_only` and `tmpfs: [/tmp]`."""
        for path in (self.path / "usr" / "local", self.path):
            _mount("-o", "remount,bind,ro", path)
        _mount("-t", "tmpfs", "-o", "mode=1777,noexec,nosuid,nodev", "tmpfs", self.path / "tmp")

    def command(
        self, command: Sequence[str], *, environment: Mapping[str, str], directory: str = "/", user: str = ""
    ) -> list[str]:
        """What runs a command in it, which has this environment alone.

        Parameters:
          user: `UID:GID`; it has no capability, and can get none. Empty for root.
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
        """Run a command in it to its end; what it wrote. Raises Failed."""
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
        """Start a command in it as process 1 of a namespace, which ends with this process."""
        first = ["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={self.path / 'proc'}"]
        chain = self.command(command, environment=environment, directory=directory, user=user)
        with_us = ["setpriv", "--pdeathsig", "KILL"]
        return subprocess.Popen([*with_us, *first, *chain], stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a build has: the image's, and how this machine reaches a registry."""
    network = {name: value for name, value in os.environ.items() if name.upper().startswith(NETWORK)}
    return {**network, **environment}


def _overlay(target: Path, below: Sequence[Path], *, upper: Path, work: Path) -> None:
    lower = ":".join(map(str, below))
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", target)


def _mount(*arguments: str | Path) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if ran.returncode:
        raise Failed(f"A file system could not be mounted, as in a container without that right: {ran.stderr.strip()}")
