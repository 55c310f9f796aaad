# SPDX-License-Identifier: GPL-2.0
"""Fixtures and rules for the whole suite; run by tools/vm -- pytest selftests, as root."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lib import system  # noqa: E402
from lib.genl import L2tp  # noqa: E402
from lib.netns import Hosts, NetNS, remove_stale, settle  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "only(impl, why): the test says something about one implementation only")
    config.addinivalue_line(
        "markers", "unloads: the test unloads and reloads the module; such tests run last")
    config.addinivalue_line(
        "markers", "needs(feature): left out, and named at the end, on a kernel without it")
    if os.geteuid() != 0:
        raise pytest.UsageError("the suite needs root inside a disposable guest")
    try:
        system.impl()
    except RuntimeError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about this implementation, or that this kernel cannot do; run
    module-unloading tests last."""
    chosen, others = [], []
    for item in items:
        mark = item.get_closest_marker("only")
        lacking = [need.args[0] for need in item.iter_markers("needs")
                   if not system.has(need.args[0])]
        _left_out.extend((feature, item.nodeid) for feature in lacking)
        wanted = mark is None or mark.args[0] == system.impl()
        (chosen if wanted and not lacking else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
    chosen.sort(key=lambda item: item.get_closest_marker("unloads") is not None)
    items[:] = chosen


#: What the kernel lacks, and the test that needs it.
_left_out: list[tuple[str, str]] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for feature, test in _left_out:
        terminalreporter.write_line(f"left out, as this kernel has no {feature}: {test}")


def pytest_report_header() -> str:
    return f"l2tp implementation: {system.impl()}, kernel {os.uname().release}"


@pytest.fixture(scope="session")
def _kernel_log() -> Iterator[system.KernelLog]:
    log = system.KernelLog()
    yield log
    log.close()


@pytest.fixture(autouse=True)
def kernel_log(_kernel_log: system.KernelLog) -> Iterator[Callable[[], list[str]]]:
    """Fails the test on any splat during it; gives the test the log lines it caused so far."""
    _kernel_log.new_lines()
    seen: list[str] = []

    def lines() -> list[str]:
        seen.extend(_kernel_log.new_lines())
        return seen

    yield lines
    bad = system.splats(lines())
    if bad:
        pytest.fail("kernel splat:\n" + "\n".join(seen[-80:]), pytrace=False)


@pytest.fixture(autouse=True)
def _same_namespace() -> Iterator[None]:
    """No test leaves the others in a namespace of its own."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield
    after = os.stat("/proc/thread-self/ns/net")
    try:
        assert os.path.samestat(os.fstat(before), after)
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)


@pytest.fixture(scope="session", autouse=True)
def _steady_kernel_text() -> Iterator[None]:
    """Keeps the switches on that sockets of the tests turn on in the text of the network stack.

    QEMU's emulation, with several processors, at times misses that an instruction was replaced
    while one of them runs it ("Oops: int3").  With time stamps and UDP encapsulations always on,
    and two kinds of tunnels whose packets UDP may merge, it seldom is.
    """
    with contextlib.ExitStack() as stack:
        for family, option in ((socket.AF_INET, 2), (socket.AF_INET6, 2)):
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO
            sock.setsockopt(socket.IPPROTO_UDP, 100, option)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
            sock.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
        yield


@pytest.fixture(scope="session", autouse=True)
def _module() -> None:
    """The whole implementation is loaded, and no namespace of an earlier run is left."""
    remove_stale()
    system.load()


@pytest.fixture
def ns() -> Iterator[NetNS]:
    """One host, with 127.0.0.0/8, ::1, fd00::1 and fd00::2 on its loopback."""
    namespace = NetNS("host")
    namespace.addr("lo", "fd00::1/128", "fd00::2/128")
    yield namespace
    namespace.close()


@pytest.fixture
def l2tp(ns: NetNS) -> L2tp:
    """The l2tp family as seen from `ns`."""
    return ns.l2tp


@pytest.fixture(scope="session")
def scratch() -> Iterator[L2tp]:
    """A namespace for all tests whose requests create nothing: cheaper than one for each."""
    namespace = NetNS("scratch")
    yield namespace.l2tp
    namespace.close()


@pytest.fixture
def other_ns() -> Iterator[NetNS]:
    namespace = NetNS("other")
    yield namespace
    namespace.close()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Hosts a and b on one wire."""
    pair = Hosts()
    yield pair
    pair.close()


@pytest.fixture
def routed_hosts() -> Iterator[Hosts]:
    """Hosts a and b with a router between them."""
    pair = Hosts(routed=True)
    yield pair
    pair.close()


@pytest.fixture
def ours_at_the_end() -> Iterator[None]:
    """For tests of the tool that goes from one implementation to the other."""
    from lib.switch import switched

    settle()
    yield
    settle()
    if "l2tp" not in system.loaded():
        switched("rust", "--force")


@pytest.fixture
def make_ns() -> Iterator[Callable[[str], NetNS]]:
    """Any number of namespaces: make_ns("name")."""
    made: list[NetNS] = []

    def make(hint: str = "ns") -> NetNS:
        made.append(NetNS(hint))
        return made[-1]

    yield make
    for namespace in made:
        namespace.close()
