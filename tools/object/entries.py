# SPDX-License-Identifier: GPL-2.0
"""Where the kernel enters the module: every function whose address is taken, reviewed.  One that does
not stand here is an error, so none is forgotten."""

from elf import Object, plain

# A packet, a timer or a grace period calls these: in softirq, on whatever stack was there, or deep in
# the stack of a task that sends.
PACKET = """
l2tp::abstractions::net::udp_tunnel::encap_rcv
l2tp::abstractions::net::udp_tunnel::encap_err_rcv
l2tp::abstractions::net::udp_tunnel::of_nobody
l2tp::abstractions::net::udp_tunnel::gro_receive
l2tp::abstractions::net::udp_tunnel::gro_complete
l2tp::abstractions::net::protocol::receive
l2tp::abstractions::net::protocol::gro_receive
l2tp::abstractions::net::protocol::gro_complete
l2tp::abstractions::net::gso::segment_ethernet
l2tp::abstractions::net::protocol::error4
l2tp::abstractions::net::protocol::error6
l2tp::abstractions::net::netdevice::Unregistered::start_xmit
l2tp::abstractions::net::ppp_channel::start_xmit
l2tp::abstractions::net::pppox::sendmsg
l2tp::abstractions::net::pppox::recvmsg
l2tp::abstractions::net::pppox::destruct
l2tp::abstractions::net::proto::sendmsg
l2tp::abstractions::net::proto::recvmsg
l2tp::abstractions::timer::Timer::callback
l2tp::abstractions::rhashtable::Node::free_after_grace_period::free
l2tp::abstractions::rhashtable::RcuHashTable::free_after_grace_period::free
l2tp_helper_inet_iif
l2tp_helper_inet6_iif
l2tp_helper_ip_cmsg_recv
l2tp_helper_ip6_cmsg_recv
l2tp_helper_xfrm4_policy_check
l2tp_helper_xfrm6_policy_check
"""

# A task calls these, or a worker, with nearly all of its stack left.
TASK = """
init_module
cleanup_module
kernel::sync::arc::Arc::run
l2tp::abstractions::net::debugfs::open
l2tp::abstractions::net::debugfs::release
l2tp::abstractions::net::domain::flush4
l2tp::abstractions::net::domain::flush6
l2tp::abstractions::net::domain::register4
l2tp::abstractions::net::genetlink::doit
l2tp::abstractions::net::genetlink::dumpit
l2tp::abstractions::net::net_namespace::init
l2tp::abstractions::net::net_namespace::pre_exit
l2tp::abstractions::net::net_namespace::exit_batch
l2tp::abstractions::net::netdevice::Unregistered::destructor
l2tp::abstractions::net::netdevice::Unregistered::get_ethtool_stats
l2tp::abstractions::net::netdevice::Unregistered::get_sset_count
l2tp::abstractions::net::netdevice::Unregistered::get_strings
l2tp::abstractions::net::netdevice::Unregistered::init
l2tp::abstractions::net::netdevice::Unregistered::setup
l2tp::abstractions::net::netdevice::Unregistered::uninit
l2tp::abstractions::net::pppox::connect
l2tp::abstractions::net::pppox::create
l2tp::abstractions::net::pppox::getname
l2tp::abstractions::net::pppox::getsockopt
l2tp::abstractions::net::pppox::ioctl
l2tp::abstractions::net::pppox::release
l2tp::abstractions::net::pppox::setsockopt
l2tp::abstractions::net::proc_net::next
l2tp::abstractions::net::proc_net::show
l2tp::abstractions::net::proc_net::start
l2tp::abstractions::net::proc_net::stop
l2tp::abstractions::net::proto::bind
l2tp::abstractions::net::proto::close
l2tp::abstractions::net::proto::connect
l2tp::abstractions::net::proto::disconnect
l2tp::abstractions::net::proto::getname
l2tp::abstractions::net::proto::hash
l2tp::abstractions::net::proto::init
l2tp::abstractions::net::proto::ioctl
l2tp::abstractions::net::proto::unhash
l2tp::abstractions::net::rtnetlink::dellink
l2tp::abstractions::net::seq_net::next
l2tp::abstractions::net::seq_net::show
l2tp::abstractions::net::seq_net::start
l2tp::abstractions::net::seq_net::stop
l2tp::abstractions::net::sock_table::SockTable::drop::free
l2tp::abstractions::net::udp_tunnel::encap_destroy
l2tp::abstractions::rhashtable::Node::free
l2tp::abstractions::rhashtable::RcuHashTable::drop::free
l2tp_rht64_differs
l2tp_rht128_differs
"""

# What the kernel's macros make of each trace event, by the start of the name: called by what fires it,
# a packet, too; and by who reads the trace.
PROBES = (
    "__SCT__tp_func_",
    "__bpf_trace_",
    "__probestub_",
    "__traceiter_",
    "perf_trace_",
    "trace_event_raw_event_",
)
PRINTERS = ("trace_raw_output_",)

# Called while whoever took the address waits: it is a part of that.
INNER = """
kernel::fmt::Adapter::fmt
"""


def path(name: str) -> str:
    """The place of a function in the source: its demangled name without types."""
    out, depth, at = [], 0, 0
    if name.startswith("<"):
        # <Type>::function or <Type as Trait>::function
        for at, letter in enumerate(name):
            depth += (letter == "<") - (letter == ">" and name[at - 1] != "-")
            if depth == 1 and name.startswith(" as ", at) and not out:
                out.append(path(name[1:at]))
            if depth == 0:
                break
        return (out[0] if out else path(name[1:at])) + path(name[at + 1 :])
    for at, letter in enumerate(name):
        if letter == "<":
            depth += 1
        elif letter == ">" and name[at - 1] != "-":
            depth -= 1
        elif depth == 0:
            out.append(letter)
    return "".join(out).replace("::::", "::").removesuffix("::")


def entries(module: Object) -> tuple[set[str], set[str], list[str]]:
    """The functions that packets enter by, those that tasks do, and what is wrong with the lists."""
    taken = module.taken()
    names = {name: path(text) for name, text in plain(module.functions).items()}
    packet, task, inner = (set(text.split()) for text in (PACKET, TASK, INNER))
    packet |= {name for name in taken if name.startswith(PROBES)}
    task |= {name for name in taken if name.startswith(PRINTERS)}
    wrong = [
        f"{names[name]}: its address is taken, and tools/object/entries.py does not know it"
        for name in sorted(taken)
        if names[name] not in packet | task | inner
    ]
    by_packet = {name for name in taken if names[name] in packet}
    if not by_packet and "init_module" in module.functions:
        wrong.append("no function that a packet enters by")
    return by_packet, {name for name in taken if names[name] in task}, wrong
