# SPDX-License-Identifier: GPL-2.0
"""Debian's programs that use L2TP, run by hand in a namespace: no init, no udev, no D-Bus."""

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.netns import NetNS
from lib.wait import eventually

#: networkd wants directories of its own, and takes a read-only /sys to mean that there is no udev
#: to wait for; each one sees the files of its host only.
_NETWORKD = """
set -e
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 systemd /run/systemd
install -d -o systemd-network -g systemd-network /run/systemd/netif
mkdir /run/systemd/network
cp "$1"/* /run/systemd/network/
chmod -R a+rX /run/systemd/network
exec env SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=debug /usr/lib/systemd/systemd-networkd
"""


class Daemon:
    """A process whose output is kept in a file."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str, times: int = 1, timeout: float = 20) -> None:
        """Wait until its output has the text, that often."""
        try:
            eventually(lambda: self.log().count(text) >= times, timeout)
        except AssertionError:
            raise AssertionError(f"{self.process.args}: no '{text}' ({times}):\n"
                                 f"{self.log()[-4000:]}") from None

    def exits(self, timeout: float = 20) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.process.args} does not end:\n"
                                 f"{self.log()[-4000:]}") from None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status, after a signal that may come too late."""
        self.process.send_signal(number)
        return self.exits()

    def stop(self) -> int:
        """SIGTERM for a daemon that runs, and its exit status."""
        assert self.runs, f"{self.process.args} ended by itself:\n{self.log()[-4000:]}"
        return self.end()

    def kill(self) -> int:
        """The same by SIGKILL: nothing is cleaned up but what the kernel cleans up."""
        assert self.runs, f"{self.process.args} ended by itself:\n{self.log()[-4000:]}"
        return self.end(signal.SIGKILL)


class Daemons:
    """Starts daemons and ends those that a test has left running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Daemon] = []

    def start(self, ns: NetNS, *command: str) -> Daemon:
        log = self._folder / f"{len(self._all)}-{Path(command[0]).name}.log"
        with open(log, "wb") as output, ns:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._all.append(Daemon(process, log))
        return self._all[-1]

    def close(self) -> None:
        for daemon in self._all:
            if daemon.runs:
                daemon.kill()
            # pytest shows it with a failure
            print(f"--- {daemon.process.args}: {daemon.process.returncode}\n{daemon.log()[-6000:]}")

    def file(self, name: str, text: str) -> Path:
        path = self._folder / f"{len(self._all)}-{name}"
        path.write_text(text)
        return path

    # --- the programs

    def ql2tpd(self, ns: NetNS, *tunnels: Mapping[str, Any]) -> Daemon:
        """Tunnels without a control protocol; each is managed, in spite of the name 'static'."""
        config = self.file("ql2tpd.toml", toml(*tunnels))
        return self.start(ns, "/usr/sbin/ql2tpd", "-verbose", "-config", str(config))

    def kl2tpd(self, ns: NetNS, *tunnels: Mapping[str, Any]) -> Daemon:
        """A LAC of version 2."""
        config = self.file("kl2tpd.toml", toml(*tunnels))
        return self.start(ns, "/usr/sbin/kl2tpd", "-verbose", "-config", str(config))

    def xl2tpd(self, ns: NetNS, address: str, lns: str = "") -> Daemon:
        """An LNS of version 2 for everybody; `lns` is more of its section."""
        config = self.file("xl2tpd.conf", f"[global]\nlisten-addr = {address}\n"
                           "access control = no\ndebug tunnel = yes\n[lns default]\n"
                           "ip range = 192.168.9.10-192.168.9.250\nlocal ip = 192.168.9.1\n"
                           f"require authentication = no\n{lns}\n")
        daemon = self.start(ns, "/usr/sbin/xl2tpd", "-D", "-c", str(config),
                            "-p", f"{config}.pid", "-C", f"{config}.control")
        daemon.says("Listening on IP address")
        return daemon

    def networkd(self, ns: NetNS, files: Mapping[str, str]) -> Daemon:
        """systemd-networkd with these .netdev and .network files."""
        folder = self._folder / f"{len(self._all)}-network"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return self.start(ns, "unshare", "--mount", "sh", "-c", _NETWORKD, "networkd", str(folder))


def toml(*tunnels: Mapping[str, Any]) -> str:
    """What go-l2tp reads: tunnels t1, t2 …, each with its `sessions` s1, s2 …."""
    out = []
    for t, tunnel in enumerate(tunnels, 1):
        out.append(_table(f"tunnel.t{t}", tunnel))
        for s, session in enumerate(tunnel.get("sessions", ()), 1):
            out.append(_table(f"tunnel.t{t}.session.s{s}", session))
    return "\n".join(out)


def _table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(list(value) if isinstance(value, bytes) else value)}"
             for key, value in values.items() if key != "sessions" and value is not None]
    return f"[{name}]\n" + "\n".join(lines) + "\n"
