#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""stack.py OBJECT: how much stack each function of the module may take, which has a bound."""

import re
import sys

from elf import Object, plain, reach, way
from entries import entries

PACKET_MAX = 512
TASK_MAX = 1024


# What a call that comes back may consist of: a session holds its tunnel, which holds what sessions are
# left of it. Those hold it, too: when it is dropped, there are none.
DROP = re.compile(r"drop_in_place::.*ArcInner<l2tp::(session|tunnel)::|ArcInner<l2tp::(session|tunnel)::.*>::drop$")


def deepest(module: Object, roots: set[str]) -> tuple[int, list[str], list[list[str]]]:
    """The most that a chain of our own calls takes, that chain, and all that come back."""
    found: dict[str, tuple[int, list[str]]] = {}
    circles: list[list[str]] = []

    def visit(name: str, above: list[str]) -> tuple[int, list[str]]:
        if name in above:
            circles.append(above[above.index(name) :])
            return 0, []
        if name not in found:
            function = module.functions[name]
            further = sorted(function.refers & module.functions.keys())
            size, chain = max((visit(other, [*above, name]) for other in further), default=(0, []))
            # The return address counts as well.
            found[name] = size + function.frame + 8, [name, *chain]
        return found[name]

    size, chain = max((visit(name, []) for name in sorted(roots)), default=(0, []))
    return size, chain, circles


def check(path: str, show: bool) -> list[str]:
    module = Object(path)
    names = plain(module.functions)
    packet, _, wrong = entries(module)
    on_path = reach(packet, lambda name: module.refers(name) & module.functions.keys())
    for function in module.functions.values():
        limit = PACKET_MAX if function.name in on_path else TASK_MAX
        if function.frame > limit:
            wrong.append(f"{names[function.name]}: {function.frame} bytes of stack, more than {limit}")
            if function.name in on_path:
                wrong += [f"    called by {names[name]}" for name in way(on_path, function.name)][:-1]
        if function.unbounded:
            wrong.append(f"{names[function.name]}: no bound on its stack: {function.unbounded[0]}")
    size, chain, circles = deepest(module, packet)
    for circle in circles:
        text = [names[name] for name in circle]
        if not all(DROP.search(step) for step in text):
            wrong.append("on packet paths, a call that comes back: " + " > ".join([*text, text[0]]))
    if show:
        for text, some in (("packet paths", on_path), ("elsewhere", module.functions.keys() - on_path)):
            print(f"{text}: {len(some)} functions, the largest frames:")
            for name in sorted(some, key=lambda name: -module.functions[name].frame)[:5]:
                print(f"{module.functions[name].frame:6} {names[name]}")
        print(f"deepest chain of calls from a packet: {size} bytes")
        for name in chain:
            print(f"{module.functions[name].frame:6} {names[name]}")
    return wrong


if __name__ == "__main__":
    complaints = check(sys.argv[1], True)
    for complaint in complaints:
        print(f"check-stack: {complaint}", file=sys.stderr)
    sys.exit(bool(complaints))
