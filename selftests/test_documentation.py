# SPDX-License-Identifier: GPL-2.0
"""Documentation/l2tp.rst and l2tp.4: their commands, run in order."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import system
from lib.netns import NetNS, veth

TOP = Path(__file__).parent.parent
PAGE = TOP / "Documentation/l2tp.rst"
MANUAL = TOP / "Documentation/l2tp.4"
KERNEL = "/usr/src/kernel/source"


@pytest.fixture
def hosts(make_ns) -> Iterator[dict[str, NetNS]]:
    a, b = make_ns("a"), make_ns("b")
    veth(a, "eth0", b, "eth0")
    a.addr("eth0", "192.0.2.1/24")
    b.addr("eth0", "192.0.2.2/24")
    secrets = Path("/etc/ppp/chap-secrets")
    before = secrets.read_text()
    yield {"a": a, "b": b}
    secrets.write_text(before)
    for ns in a, b:
        subprocess.run(f"ip netns pids {ns.name} | xargs -r kill -9", shell=True, check=True)


def blocks() -> list[tuple[str, str]]:
    """Host and commands of each block."""
    found = re.findall(r"^\.\. code-block:: sh\n   :caption: on (\w+)\n\n((?:   .*\n|\n)+)",
                       PAGE.read_text(), re.MULTILINE)
    return [(host, re.sub(r"^   ", "", commands, flags=re.MULTILINE)) for host, commands in found]


def with_bpf() -> list[tuple[str, str]]:
    return [block for block in blocks() if "bpftrace" in block[1]]


def manual_blocks() -> list[tuple[str, str]]:
    """The same of the manual page."""
    return re.findall(r'^\.\\" on (\w)\n\.Bd .*\n((?:[^.].*\n)+)\.Ed$', MANUAL.read_text(), re.MULTILINE)


def run(hosts: dict[str, NetNS], commands: list[tuple[str, str]]) -> str:
    """What they print. The tool is where the package has it."""
    environment = f"KERNEL={KERNEL}; cd {TOP}; PYTHONPATH={os.pathsep.join(os.sys.path)}; " \
        f"l2tp-switch() {{ {TOP}/tools/switch \"$@\"; }}; export PYTHONPATH;"
    out = ""
    for host, block in commands:
        done = hosts[host].run("bash", "-exc", environment + block, check=False, timeout=120)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        out += done.stdout
    return out


@pytest.mark.needs("trace events")
@pytest.mark.only("rust", "LINK-KIND: the page deletes a device, and asks for what C does not have")
def test_every_command(hosts: dict[str, NetNS]) -> None:
    assert len(blocks()) == PAGE.read_text().count("code-block::") > 8
    system.modprobe("l2tp_ppp")
    out = run(hosts, [block for block in blocks() if block not in with_bpf()])
    for seen in ("1 received", "Tunnel 1, encap UDP", "Session 10 in tunnel 1", "driver: l2tpeth",
                 "'session-id': 10", "1701", "TUNNEL 1 peer 2", "from 10.0.1.1:",
                 "from 10.0.2.1:", "SESSION 'sess"):
        assert seen in out, out


@pytest.mark.needs("BPF on events")
@pytest.mark.only("rust", "PKT-DROP: C has no such event")
def test_bpftrace(hosts: dict[str, NetNS]) -> None:
    assert "Attaching 1 probe" in run(hosts, with_bpf())


@pytest.mark.only("rust", "LINK-KIND: as above")
def test_manual(hosts: dict[str, NetNS]) -> None:
    assert len(manual_blocks()) == MANUAL.read_text().count(".Bd ") > 6
    system.modprobe("l2tp_ppp")
    out = run(hosts, manual_blocks())
    for seen in ("1 received", "Session 10 in tunnel 1", "l2tpeth", "live: l2tp (Rust)",
                 "TUNNEL 1 peer 2", "PPPoL2TP driver info"):
        assert seen in out, out
