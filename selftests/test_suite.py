# SPDX-License-Identifier: GPL-2.0
"""The suite checked by itself: the register of differences, and that no test hides as a skip."""

import re
from pathlib import Path

from lib import system
from lib.differences import all_differences

OTHERS = [path for path in Path(__file__).parent.rglob("*.py")
          if path.name not in ("test_suite.py", "differences.py")]


def test_every_difference_is_registered_and_used() -> None:
    text = "".join(path.read_text() for path in OTHERS)
    used = set(re.findall(r"""expect\(\s*"([^"]+)\"""", text))
    used |= set(re.findall(r"""only\("(?:rust|c)", "([A-Z0-9-]+):""", text))
    assert used == set(all_differences())


def test_every_difference_says_where_and_why() -> None:
    for name, difference in all_differences().items():
        assert difference.abi and len(difference.why) > 40, name


def test_every_difference_is_documented() -> None:
    text = (Path(__file__).parent.parent / "Documentation/compatibility.rst").read_text()
    documented = set(re.findall(r"^   \* - ``([A-Z0-9-]+)``$", text, re.MULTILINE))
    assert set(all_differences()) - documented == set()


def test_documented_tests_exist() -> None:
    text = (Path(__file__).parent.parent / "Documentation/compatibility.rst").read_text()
    named = re.findall(r"``(test_\w+)\.py::(test_\w+)``", text)
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (Path(__file__).parent / f"{file}.py").read_text(), name


def test_every_invariant_is_documented() -> None:
    """Each type of src/abstractions/ that promises something is in safety.rst."""
    root = Path(__file__).parent.parent
    page = (root / "Documentation/safety.rst").read_text()
    types = set()
    for path in (root / "src/abstractions").rglob("*.rs"):
        for doc, name in re.findall(r"((?:^ *///.*\n)+)(?: *#\[.*\n)* *pub(?:\(\w+\))? struct (\w+)",
                                    path.read_text(), re.MULTILINE):
            if "# Invariants" in doc:
                types.add(name)
    assert len(types) > 30
    assert {name for name in types if f"``{name}``" not in page} == set()


def test_every_defect_of_c_has_a_test() -> None:
    """Those that abi.md lists as B1 to B31; it leaves out some of the numbers."""
    defects = set(range(1, 32)) - {3, 11, 18, 25, 29}
    tests = "".join(path.read_text() for path in OTHERS if path.name.startswith("test_"))
    named = {int(number) for number in re.findall(r"\bB(\d+)\b", tests)}
    assert defects - named == set()


def test_no_test_skips() -> None:
    for path in OTHERS:
        assert not re.search(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|xfail)",
                             path.read_text()), path.name


def test_splat_pattern_fires() -> None:
    bad = ["BUG: kernel NULL pointer dereference", "WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1",
           "unregister_netdevice: waiting for l2tpeth0 to become free",
           "l2tp: tunnel IDR not empty at net 0 exit", "rust_kernel: panicked at src/x.rs:1:1"]
    assert system.splats(bad) == bad
    assert not system.splats(["l2tp_core: L2TP core driver, V2.0", "eth0: renamed from tmp"])
