# SPDX-License-Identifier: GPL-2.0
"""The kernel's own tools/testing/selftests/net/l2tp.sh, unmodified.

L2TP_KSRC names the kernel source tree; otherwise the usual places are searched.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

SCRIPT = "tools/testing/selftests/net/l2tp.sh"
#: The script of 7.3 makes 16 checks; fewer would mean that it gave up half-way.
AT_LEAST = 16


def kernel_source() -> Path:
    """The first tree that has the script."""
    named = os.environ.get("L2TP_KSRC")
    kdir = os.environ.get("KDIR", "/nonexistent")
    places = [Path(named)] if named else [
        Path(kdir).parent / "source", Path(kdir, "source"),
        *sorted(Path("/usr/src").glob("linux*"))]
    for place in places:
        if (place / SCRIPT).is_file():
            return place
    raise AssertionError(f"no {SCRIPT} in {', '.join(map(str, places))}: set L2TP_KSRC")


def test_l2tp_sh(tmp_path: Path) -> None:
    """Every TEST line says OK, and as many of them as there should be."""
    source = kernel_source() / "tools/testing/selftests"
    # the script sources lib.sh and what that sources; copy the folder's shell part only
    target = tmp_path / "net"
    shutil.copytree(source / "net/lib", target / "lib",
                    ignore=lambda _, names: [n for n in names if n.endswith((".c", ".py"))])
    for name in ("l2tp.sh", "lib.sh"):
        shutil.copy(source / "net" / name, target / name)
    done = subprocess.run(("bash", "./l2tp.sh"), cwd=target, capture_output=True, text=True,
                          timeout=300)
    print(done.stdout, done.stderr)
    results = re.findall(r"^TEST: (.*?)\s+\[\s*(OK|FAIL)\s*\]$", done.stdout, re.MULTILINE)
    failed = [name for name, result in results if result != "OK"]
    assert not failed, failed
    assert len(results) >= AT_LEAST, f"only {len(results)} checks ran"
    assert re.search(rf"^Tests passed:\s*{len(results)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^Tests failed:\s*0$", done.stdout, re.MULTILINE)
