// SPDX-License-Identifier: GPL-2.0

//! L2TP: the kernel's part of it, which is data messages (RFC 2661, RFC 3931).
//!
//! The crate root: the rooms, and the order in which they open. `Documentation/architecture.rst` says
//! what each is for.

#![deny(unsafe_code)]
// The rooms are written as they would be as crates, and some are: `wire` and `seq` on the host.
#![allow(unreachable_pub)]
// Without a pseudowire, nobody asks for sessions.
#![cfg_attr(not(any(CONFIG_L2TP_RUST_ETH, CONFIG_L2TP_RUST_PPP)), allow(dead_code))]

use crate::{
    abstractions::sync::rcu,
    prelude::*, //
};

#[cfg(not(all(CONFIG_L2TP_RUST_ETH, CONFIG_L2TP_RUST_PPP)))]
mod absent;
#[allow(unsafe_code)]
// Without some part of the module, some of them have no user.
#[cfg_attr(
    not(all(
        CONFIG_L2TP_RUST_ETH,
        CONFIG_L2TP_RUST_IP,
        CONFIG_L2TP_RUST_PPP,
        CONFIG_IPV6
    )),
    allow(dead_code)
)]
mod abstractions;
#[allow(unsafe_code)]
mod bindings;
#[cfg(all(CONFIG_DEBUG_FS, CONFIG_NET_NS))]
mod debugfs;
mod discard;
mod error;
#[cfg_attr(not(CONFIG_L2TP_RUST_ETH), path = "absent/eth.rs")]
mod eth;
#[cfg_attr(not(CONFIG_L2TP_RUST_IP), path = "absent/ip.rs")]
mod ip;
#[cfg(all(CONFIG_L2TP_RUST_IP, CONFIG_IPV6))]
mod ip6;
// A module called `core` would hide the library of that name.
#[path = "core.rs"]
mod l2tp_core;
#[cfg(any(
    all(CONFIG_DEBUG_FS, CONFIG_NET_NS),
    all(CONFIG_PROC_FS, CONFIG_L2TP_RUST_PPP)
))]
mod listing;
mod netlink;
#[cfg_attr(not(CONFIG_L2TP_RUST_PPP), path = "absent/ppp.rs")]
mod ppp;
mod prelude;
mod pseudowire;
// The pure rooms are complete as the formats go, and `tools/host` tests all of them.
#[allow(dead_code)]
mod seq;
mod session;
mod stats;
mod trace;
mod tunnel;
mod uapi;
#[allow(dead_code)]
mod wire;

use abstractions::{
    net::{
        net_namespace,
        udp_tunnel, //
    },
    workqueue::{
        ModuleQueueGuard,
        OwnedQueue, //
    }, //
};

module! {
    type: L2tp,
    name: "l2tp",
    authors: ["The l2tp-rust developers"],
    description: "L2TP data path (RFC 2661, RFC 3931, RFC 4719)",
    license: "GPL",
    alias: [
        "l2tp_core",
        "l2tp_netlink",
        "l2tp_eth",
        "l2tp_ip",
        "l2tp_ip6",
        "l2tp_ppp",
        "l2tp_debugfs",
        "net-pf-16-proto-16-family-l2tp",
        "net-l2tp-type-5",
        "net-l2tp-type-7",
        "net-pf-24-proto-1",
        "net-pf-2-proto-115",
        "net-pf-2-proto-115-type-2",
        "net-pf-10-proto-115",
        "net-pf-10-proto-115-type-2",
    ],
}

/// What is registered. Dropped in this order, so that nothing new comes in while what is there goes.
struct L2tp {
    /// Ends requests.
    _netlink: netlink::Registration,
    /// Ends the listing, which keeps the module while it is open.
    #[cfg(all(CONFIG_DEBUG_FS, CONFIG_NET_NS))]
    _debugfs: Option<debugfs::Registration>,
    /// No new PPP sockets, of which there are none left, as each keeps the module.
    ppp: ppp::Registration,
    /// The same for sockets and packets over IPv6.
    #[cfg(all(CONFIG_L2TP_RUST_IP, CONFIG_IPV6))]
    ip6: ip::Registration<ip6::V6>,
    /// The same over IPv4.
    #[cfg(CONFIG_L2TP_RUST_IP)]
    ip: ip::Registration<ip::V4>,
    /// Ends every tunnel.
    _namespaces: net_namespace::Registration<l2tp_core::Namespace>,
    /// Waits until the last device is gone.
    _ethernet: eth::Registration,
    /// Waits for the owners of sockets that tunnels were on.
    _slow_queue: ModuleQueueGuard,
    /// Waits until nobody is closing a UDP socket.
    _encap: udp_tunnel::Drain,
    /// Waits until what was in the tables has been dropped.
    _barrier: Barrier,
}

/// Waits for RCU read sections and callbacks, which run code of this module.
struct Barrier;

impl Drop for Barrier {
    fn drop(&mut self) {
        // Of UDP, which may have read a hook just before it was taken.
        rcu::synchronize_rcu();
        rcu::rcu_barrier();
    }
}

impl kernel::Module for L2tp {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Self::register(module).inspect_err(|e| {
            if *e == EEXIST {
                pr_err!(
                    "L2TP is there already: remove the C modules first (rmmod l2tp_ppp l2tp_eth \
                     l2tp_netlink l2tp_ip6 l2tp_ip l2tp_core)\n"
                );
            }
        })
    }
}

impl L2tp {
    fn register(module: &'static ThisModule) -> Result<Self> {
        let barrier = Barrier;
        let encap = udp_tunnel::Drain;
        let slow_queue = l2tp_core::SLOW_QUEUE.fill(OwnedQueue::new(c"l2tp_slow")?)?;
        let ethernet = eth::Registration::register(module)?;
        let namespaces = net_namespace::Registration::register(module)?;
        #[cfg_attr(
            not(any(CONFIG_L2TP_RUST_IP, all(CONFIG_DEBUG_FS, CONFIG_NET_NS))),
            expect(unused_mut)
        )]
        let mut l2tp = L2tp {
            #[cfg(CONFIG_L2TP_RUST_IP)]
            ip: ip::register(module)?,
            #[cfg(all(CONFIG_L2TP_RUST_IP, CONFIG_IPV6))]
            ip6: ip6::register(module)?,
            ppp: ppp::Registration::register(module)?,
            #[cfg(all(CONFIG_DEBUG_FS, CONFIG_NET_NS))]
            _debugfs: None,
            // The last that may fail: there may be requests at once, whose dumps keep the module.
            _netlink: netlink::register(module)?,
            _namespaces: namespaces,
            _ethernet: ethernet,
            _slow_queue: slow_queue,
            _encap: encap,
            _barrier: barrier,
        };
        // Nothing may fail once there can be sockets or open files, and none of these can.
        #[cfg(all(CONFIG_L2TP_RUST_IP, CONFIG_IPV6))]
        l2tp.ip6.open();
        #[cfg(CONFIG_L2TP_RUST_IP)]
        l2tp.ip.open();
        l2tp.ppp.open();
        #[cfg(all(CONFIG_DEBUG_FS, CONFIG_NET_NS))]
        {
            l2tp._debugfs = Some(debugfs::open(module));
        }
        Ok(l2tp)
    }
}
