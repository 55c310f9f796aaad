// SPDX-License-Identifier: GPL-2.0

//! Networking.

pub mod datagram;
#[cfg(CONFIG_IPV6)]
pub mod datagram6;
#[cfg(all(CONFIG_DEBUG_FS, CONFIG_NET_NS))]
pub mod debugfs;
pub mod domain;
pub mod genetlink;
pub mod gro;
mod gso;
pub mod net_namespace;
pub mod netdevice;
#[cfg(CONFIG_PPPOX)]
pub mod ppp_channel;
#[cfg(CONFIG_PPPOX)]
pub mod pppox;
#[cfg(CONFIG_PROC_FS)]
pub mod proc_net;
pub mod proto;
pub mod protocol;
pub mod ratelimit;
pub mod route;
pub mod rtnetlink;
#[cfg(any(CONFIG_PROC_FS, CONFIG_DEBUG_FS))]
pub mod seq_net;
pub mod skbuff;
pub mod sock;
pub mod sock_table;
pub mod socket;
pub mod sysctl;
pub mod udp_tunnel;
