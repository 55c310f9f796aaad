# SPDX-License-Identifier: GPL-2.0
"""tools/switch, as tests call it."""

import contextlib
import io
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import NamedTuple

from lib import system

TOOL = Path(__file__).parent.parent.parent / "tools/switch"

_loader = SourceFileLoader("switch", str(TOOL))
_spec = spec_from_loader("switch", _loader)
assert _spec
tool = module_from_spec(_spec)
sys.modules["switch"] = tool
_loader.exec_module(tool)


class Done(NamedTuple):
    status: int
    out: str
    err: str


def switch(*arguments: str) -> Done:
    """The tool, in a process of its own, but without starting Python anew, which takes seconds."""
    def work() -> Done:
        with io.StringIO() as out, io.StringIO() as err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = tool.main(list(arguments))
            return Done(status, out.getvalue(), err.getvalue())

    return system.in_child(work)


def switched(impl: str, *arguments: str) -> str:
    done = switch("to", impl, *arguments)
    assert done.status == 0, done.err
    assert ("l2tp" in system.loaded()) == (impl == "rust")
    return done.out
