# SPDX-License-Identifier: GPL-2.0
"""tools/switch: what it takes along, and what it does not touch.  switching.py has the rest."""

import os
import shutil
import subprocess

import pytest

from lib import system
from lib.netns import NetNS
from lib.pppox import Address, PppSocket
from lib.switch import TOOL, switch, switched, tool
from lib.uapi import PwType

pytestmark = [pytest.mark.unloads, pytest.mark.usefixtures("ours_at_the_end"),
              pytest.mark.only("rust", "beside the C modules there is nothing to switch to")]


def test_daemons_are_asked_first(ns: NetNS) -> None:
    """What belongs to a process is not taken from it, unless one says so."""
    ns.l2tp.tunnel(1, 1)
    sock = ns.udp(("127.0.0.1", 6000), ("127.0.0.2", 6001))
    ns.l2tp.tunnel(2, 2, fd=sock.fileno())
    ns.l2tp.tunnel(3, 3, version=2, sport=7000)
    ns.l2tp.session(3, 7, 8, PwType.PPP)
    done = switch("to", "c")
    assert done.status == 1 and f"(process {os.getpid()})" in done.err, done
    assert "tunnel 2 in namespace" in done.err and "session 7 of tunnel 3" in done.err
    assert "tunnel 1" not in done.err
    assert system.loaded() == {"l2tp": system.loaded()["l2tp"]} and ns.l2tp.tunnels() == [1, 2, 3]
    switched("c", "--force")
    ns.forget_clients()
    assert ns.l2tp.tunnels() == [1, 3] and ns.l2tp.has_session(3, 7)


def test_sockets_keep_the_module(ns: NetNS) -> None:
    """There is no force against that."""
    udp = ns.udp(("127.0.0.1", 6000), ("127.0.0.2", 6001))
    with PppSocket(ns):  # not connected, it has no name
        done = switch("to", "c", "--force")
        assert done.status == 1 and "a PPP socket" in done.err, done
    with PppSocket(ns) as management, PppSocket(ns) as session:
        management.connect(Address(3, 0, 4, 0, udp.fileno()))
        session.connect(Address(3, 5, 4, 6))
        done = switch("to", "c", "--force")
        assert done.status == 1 and "a PPP socket" in done.err, done
        assert "l2tp" in system.loaded() and ns.l2tp.tunnels() == [3]


def test_names_without_ours() -> None:
    """Where ours cannot be loaded, all names load the C modules."""
    found = subprocess.run(("modinfo", "-n", "l2tp"), capture_output=True, text=True, check=True)
    module = found.stdout.strip()
    system.unload()
    shutil.copy(TOOL.with_name("l2tp-rust.conf"), tool.CHOICE)
    subprocess.run(("mount", "--bind", "/dev/null", module), check=True)
    try:
        system.modprobe("net-pf-2-proto-115-type-2")
        assert set(system.loaded()) >= {"l2tp_ip", "l2tp_ip6", "l2tp_ppp", "l2tp_eth"}
        done = switch("to", "rust")
        assert done.status == 2 and "live as before: the C modules" in done.err, done
    finally:
        subprocess.run(("umount", module), check=True)
        tool.CHOICE.unlink(missing_ok=True)
    assert "l2tp_eth" in system.loaded()
