# SPDX-License-Identifier: GPL-2.0
"""abi 2.12 and 9.1: what the kernel asks modprobe for, and that the answer is our module."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib import system, uapi
from lib.differences import expect
from lib.genl import Genl
from lib.netns import NetNS, settle
from lib.uapi import Encap, PwType

SETTING = Path("/proc/sys/kernel/modprobe")
SCRIPT = Path("/run/l2tp-modprobe")
LOG = Path("/run/l2tp-modprobe.log")


@pytest.fixture
def requests() -> Iterator[Callable[[], list[str]]]:
    """Puts a script in modprobe's place that notes what is asked for; gives the l2tp part."""
    before = SETTING.read_text()
    SCRIPT.write_text(f'#!/bin/sh\necho "$4$3" >>{LOG}\nexec {before.strip()} "$@"\n')
    SCRIPT.chmod(0o755)
    LOG.write_text("")
    SETTING.write_text(str(SCRIPT))

    def noted() -> list[str]:
        # modprobe -q -- NAME
        names = [line.removeprefix("--") for line in LOG.read_text().split()]
        return [name.removesuffix("--") for name in names if "l2tp" in name or "115" in name]

    yield noted
    SETTING.write_text(before)


@pytest.fixture
def unloaded() -> None:
    settle()
    system.unload()


@pytest.fixture(scope="module", autouse=True)
def loaded_again() -> Iterator[None]:
    yield
    settle()
    system.load()


FAMILY = "net-pf-16-proto-16-family-l2tp"


@pytest.mark.unloads
def test_family(ns: NetNS, unloaded: None, requests: Callable[[], list[str]]) -> None:
    """Naming the family loads it."""
    with ns, Genl() as genl:
        assert genl.ctrl("l2tp")
    assert requests() == [FAMILY]
    assert system.module_of("l2tp_netlink") in system.loaded()


@pytest.mark.unloads
def test_session_type(ns: NetNS, unloaded: None, requests: Callable[[], list[str]]) -> None:
    ns.l2tp.tunnel()
    ns.l2tp.session(pw_type=PwType.ETH)
    assert requests() == [FAMILY] + expect("PW-AUTOLOAD", c=["net-l2tp-type-5"], rust=[])


@pytest.mark.parametrize("pw_type", [0, 1, 4, 8, 11])
def test_unknown_session_type(ns: NetNS, requests: Callable[[], list[str]], pw_type: int) -> None:
    ns.l2tp.tunnel()
    assert ns.l2tp.try_session(pw_type=pw_type).errno == 93  # EPROTONOSUPPORT
    assert requests() == expect("PW-AUTOLOAD", c=[f"net-l2tp-type-{pw_type}"], rust=[])


@pytest.mark.unloads
@pytest.mark.parametrize("family,number", [(4, 2), (6, 10)])
def test_ip_encapsulation(ns: NetNS, unloaded: None, requests: Callable[[], list[str]],
                          family: int, number: int) -> None:
    local, peer = {4: ("127.0.0.1", "127.0.0.2"), 6: ("fd00::1", "fd00::2")}[family]
    ns.l2tp.tunnel(encap=Encap.IP, local=local, peer=peer)
    wanted = f"net-pf-{number}-proto-115-type-2"
    assert requests() == [FAMILY] + expect("PW-AUTOLOAD", c=[wanted], rust=[])


@pytest.mark.unloads
@pytest.mark.parametrize("family,number", [(socket.AF_INET, 2), (socket.AF_INET6, 10)],
                         ids=["4", "6"])
def test_socket(ns: NetNS, unloaded: None, requests: Callable[[], list[str]], family: int,
                number: int) -> None:
    """9.1: socket(115) loads the module."""
    ns.socket(family, socket.SOCK_DGRAM, uapi.IPPROTO_L2TP)
    assert requests() == [f"net-pf-{number}-proto-115-type-2"]
    assert system.module_of("l2tp_ip") in system.loaded()


ALIASES = {
    FAMILY: "l2tp_netlink", "net-l2tp-type-5": "l2tp_eth", "net-pf-2-proto-115": "l2tp_ip",
    "net-pf-2-proto-115-type-2": "l2tp_ip", "net-pf-10-proto-115": "l2tp_ip6",
    "net-pf-10-proto-115-type-2": "l2tp_ip6", "net-l2tp-type-7": "l2tp_ppp",
    "net-pf-24-proto-1": "l2tp_ppp"} | {name: name for name in system.C_MODULES}


@pytest.mark.parametrize("name", ALIASES)
def test_alias(name: str) -> None:
    """9.1: every name that ever meant one of the C modules leads to the implementation."""
    done = subprocess.run(("modprobe", "-R", name), capture_output=True, text=True)
    assert system.module_of(ALIASES[name]) in done.stdout.split(), done


@pytest.mark.unloads
def test_modprobe_by_old_names(unloaded: None) -> None:
    """9.3: explicit loads in how-tos work, one after the other and repeated."""
    for name in ("l2tp_core", "l2tp_netlink", "l2tp_eth", "l2tp_ip", "l2tp_ip6", "l2tp_eth"):
        system.modprobe(name)
        assert system.module_of(name) in system.loaded()
    for c_name in ("l2tp_core", "l2tp_eth"):
        assert Path("/sys/module", system.module_of(c_name), "version").exists()


@pytest.mark.only("rust", "C cannot be loaded beside itself")
@pytest.mark.unloads
@pytest.mark.parametrize("c_name", ["l2tp_netlink", "l2tp_ip", "l2tp_ip6"])
def test_beside_the_c_modules(unloaded: None, c_name: str) -> None:
    """Refused with a message that says so, and without a trace; fine when they are gone."""
    # without the modprobe.d file that makes the names mean ours
    subprocess.run(("modprobe", "-C", "/dev/null", c_name), check=True)
    assert c_name in system.loaded()
    c_modules = [name for name in system.C_MODULES if name in system.loaded()]
    try:
        done = subprocess.run(("modprobe", "l2tp"), capture_output=True, text=True)
        # EEXIST, of which the kernel makes EBUSY so that it does not mean "this module is loaded"
        assert done.returncode and "busy" in done.stderr, done
        assert "l2tp" not in system.loaded()
        log = subprocess.run(("dmesg",), capture_output=True, text=True, check=True).stdout
        assert any("l2tp: L2TP is there already: remove the C modules" in line
                   for line in log.splitlines()[-5:]), log[-1000:]
    finally:
        subprocess.run(("rmmod", *c_modules), check=True)
    system.modprobe("l2tp")
    assert "l2tp" in system.loaded()
