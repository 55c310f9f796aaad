# SPDX-License-Identifier: GPL-2.0
"""What an object file of the kernel says about its code: which function calls which, whose address
is taken, how much stack each takes, where it traps.  Read from the disassembly of x86-64, relocations
resolved, as everything in a module is reached through one."""

import bisect
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Addresses that are noted down for the kernel to find, not to be called.
NOTES = re.compile(
    r"\.debug|\.eh_|\.orc|__mcount|__patchable|\.ibt|\.call_sites|\.return_sites|\.retpoline"
    r"|\.static_call|\.alt|__bug_table|__jump_table|__ex_table|\.smp_locks|\.discard"
)
CODE = re.compile(r"\.(text|init\.text|exit\.text|noinstr)")
SYMBOL = re.compile(r"^([0-9a-f]{16}) (.{7}) (\S+)\s+([0-9a-f]+)\s+(?:\.(?:hidden|internal) )?(\S+)$")
TARGET = re.compile(r"^(.*?)(?:([+-])0x([0-9a-f]+))?$")
STACK = re.compile(r"(add|sub|and|lea|mov|pop)\S*\s+(.*),%rsp$")
MASK = (1 << 64) - 1


def run(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def signed(digits: str) -> int:
    number = int(digits, 16)
    return number - MASK - 1 if number > MASK >> 1 else number


def taken_by(code: str) -> int | None:
    """How many bytes of stack an instruction reserves, if it says so."""
    how, what = STACK.match(code).groups()
    if how in ("add", "sub", "and") and (m := re.match(r"\$0x([0-9a-f]+)$", what)):
        number = signed(m[1])
        return max(0, number if how == "sub" else -number)
    if how == "lea" and (m := re.match(r"(-?)0x([0-9a-f]+)\(%rsp\)$", what)):
        return int(m[2], 16) if m[1] else 0
    # Back to where the frame pointer points, at the end.
    if how == "lea" and what.endswith("(%rbp)") or how == "mov" and what == "%rbp":
        return 0
    return None


def plain(names: Iterable[str]) -> dict[str, str]:
    """Demangled names, without the hashes of the crates."""
    names = list(names)
    out = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    return dict(zip(names, (re.sub(r"\[[0-9a-f]+\]", "", name) for name in out.stdout.splitlines())))


@dataclass
class Function:
    """One function, under the first of its names."""

    name: str
    # Functions and data it calls or jumps to, and those whose address it takes.
    calls: set[str] = field(default_factory=set)
    takes: set[str] = field(default_factory=set)
    # Bytes of stack that its pushes take if all are done, and the most that it reserves at once.
    pushed: int = 0
    reserved: int = 0
    # Instructions that move the stack pointer by what only the running code knows.
    unbounded: list[str] = field(default_factory=list)
    # Where there is a ud2 that is in no table of BUG() and WARN().
    traps: list[int] = field(default_factory=list)
    # The same for BUG().
    bugs: list[int] = field(default_factory=list)

    @property
    def frame(self) -> int:
        return self.pushed + self.reserved

    @property
    def refers(self) -> set[str]:
        return self.calls | self.takes


class Object:
    """An object file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.functions: dict[str, Function] = {}
        # From a piece of data to what it points to.
        self.data: defaultdict[str, set[str]] = defaultdict(set)
        self.undefined: set[str] = set()
        self._alias: dict[str, str] = {}
        self._places: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        self._read_symbols()
        self._bugs = self._read_bug_table()
        self._read_code()
        self._read_data()

    def _read_symbols(self) -> None:
        found: defaultdict[tuple[str, int], list[tuple[str, int, bool]]] = defaultdict(list)
        for line in run("objdump", "-t", self.path):
            if not (m := SYMBOL.match(line)):
                continue
            value, flags, section, size, name = m.groups()
            if section == "*UND*":
                self.undefined.add(name)
            elif section != "*ABS*" and ("F" in flags or "O" in flags):
                found[section, int(value, 16)].append((name, int(size, 16), "F" in flags))
        for (section, start), names in found.items():
            # The same code may have several names: one stands for all. A static name may be that of
            # several functions.
            name, size, is_code = names[0]
            # Room before a function for the kernel to patch.
            if name.startswith("__pfx_"):
                continue
            if name in self._alias or name in self.undefined:
                name += f"@{section}+{start:#x}"
            for other, _, _ in names:
                self._alias[other] = name
            self._places[section].append((start, size, name))
            if is_code:
                self.functions[name] = Function(name)
        # What gcc has set aside is a part of its function, not a call.
        for section, places in self._places.items():
            for index, (start, size, name) in enumerate(places):
                if name.endswith(".cold") and (whole := name.removesuffix(".cold")) in self.functions:
                    places[index] = start, size, whole
                    self._alias[name] = whole
                    del self.functions[name]
        for places in self._places.values():
            places.sort()

    def at(self, section: str, place: int) -> str:
        """What is at a place: the name of a function or of data, or else of the section."""
        places = self._places.get(section, [])
        index = bisect.bisect(places, (place, MASK, "")) - 1
        if index >= 0:
            start, size, name = places[index]
            if start <= place < start + max(size, 1):
                return name
        return f"{self.path}:{section}"

    def _resolve(self, symbol: str, further: int) -> str:
        if symbol in self._places or symbol.startswith("."):
            return self.at(symbol, further)
        return self.name(symbol)

    @staticmethod
    def _split(target: str) -> tuple[str, int]:
        name, sign, number = TARGET.match(target).groups()
        further = signed(number or "0")
        return name, -further if sign == "-" else further

    def _read_bug_table(self) -> dict[tuple[str, int], bool]:
        """Where a ud2 is that the kernel knows; whether it is a BUG(), which does not go on."""
        try:
            relocs = run("objdump", "-rw", "-j", "__bug_table", self.path)
            dump = run("objdump", "-s", "-j", "__bug_table", self.path)
        except subprocess.CalledProcessError:
            return {}
        content = bytearray()
        for line in dump:
            if m := re.match(r" [0-9a-f]+ ((?:[0-9a-f]{2,8} ){1,4})", line):
                content += bytes.fromhex(m[1].replace(" ", ""))
        places = {}
        for line in relocs:
            part = line.split()
            if len(part) == 3 and part[1].startswith("R_") and CODE.match(part[2]):
                places[int(part[0], 16)] = self._split(part[2])
        # An entry ends with its flags; WARNING is the first.
        step = len(content) // len(places) if places else 0
        bugs = {}
        for offset, place in places.items():
            flags = content[offset + step - 2] | content[offset + step - 1] << 8
            bugs[place] = not flags & 1
        return bugs

    def _read_code(self) -> None:
        section, code = "", ""
        function: Function | None = None
        near: str | None = None

        def call(function: Function | None, name: str | None) -> None:
            # To jump about in itself is no call.
            if function and name and (name != function.name or code.startswith("call")):
                function.calls.add(name)

        for line in run("objdump", "-dr", "--no-show-raw-insn", self.path):
            if line.startswith("Disassembly of section "):
                section = line[len("Disassembly of section ") : -1]
                continue
            part = line.split("\t")
            if len(part) == 2 and part[0].endswith(":"):
                call(function, near)
                place, code, near = int(part[0][:-1], 16), part[1].strip(), None
                function = self.functions.get(self.at(section, place))
                if function is None:
                    continue
                if code.startswith("push"):
                    function.pushed += 8
                elif code.startswith("ud2"):
                    bug = self._bugs.get((section, place))
                    if bug is None:
                        function.traps.append(place)
                    elif bug:
                        function.bugs.append(place)
                elif code.startswith(("call", "j")):
                    # What is near may have no relocation.
                    if m := re.match(r"\S+\s+([0-9a-f]+)(?: |$)", code):
                        near = self.at(section, int(m[1], 16))
                elif code.endswith(",%rsp"):
                    size = taken_by(code)
                    if size is None:
                        function.unbounded.append(code)
                    else:
                        function.reserved = max(function.reserved, size)
            elif len(part) >= 2 and function and not part[0]:
                # A relocation of the instruction before.
                kind, target = part[-2].split()[-1], part[-1]
                name, further = self._split(target)
                # It counts from the end of the instruction, which is the field's in a call or lea.
                if kind in ("R_X86_64_PLT32", "R_X86_64_PC32"):
                    further += 4
                where = self._resolve(name, further)
                if code.startswith(("call", "j")):
                    # What the instruction itself held was no target.
                    near = None
                    call(function, where)
                elif where != function.name:
                    function.takes.add(where)
        call(function, near)

    def _read_data(self) -> None:
        section = ""
        for line in run("objdump", "-rw", self.path):
            if line.startswith("RELOCATION RECORDS FOR ["):
                section = line[len("RELOCATION RECORDS FOR [") : -2]
                continue
            part = line.split()
            if len(part) != 3 or part[0] == "OFFSET" or NOTES.match(section) or CODE.match(section):
                continue
            self.data[self.at(section, int(part[0], 16))].add(self._resolve(*self._split(part[2])))

    def name(self, symbol: str) -> str:
        """The name by which everything here knows a symbol."""
        return self._alias.get(symbol, symbol)

    def defines(self, symbol: str) -> bool:
        return symbol in self._alias

    def refers(self, name: str) -> set[str]:
        """What a function or piece of data calls or points to."""
        if function := self.functions.get(name):
            return function.refers
        return self.data.get(name, set())

    def taken(self) -> dict[str, set[str]]:
        """Functions whose address is taken, and by what."""
        by: defaultdict[str, set[str]] = defaultdict(set)
        for function in self.functions.values():
            for name in function.takes & self.functions.keys():
                by[name].add(function.name)
        for data, names in self.data.items():
            for name in names & self.functions.keys():
                by[name].add(data)
        return by


def reach(roots: Iterable[str], refers) -> dict[str, str | None]:
    """Everything that can be reached, each with what it was reached from."""
    back: dict[str, str | None] = dict.fromkeys(roots)
    queue = list(back)
    for name in queue:
        for other in sorted(refers(name)):
            if other not in back:
                back[other] = name
                queue.append(other)
    return back


def way(back: dict[str, str | None], name: str) -> Iterator[str]:
    """The way by which `reach` came to something, from the root on."""
    steps = [name]
    while (before := back[steps[-1]]) is not None:
        steps.append(before)
    return reversed(steps)
