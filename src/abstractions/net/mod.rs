// SPDX-License-Identifier: GPL-2.0

//! Networking.

pub mod datagram;
#[cfg(CONFIG_IPV6)]
pub mod datagram6;
pub mod domain;
pub mod genetlink;
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
pub mod skbuff;
pub mod sock;
pub mod sock_table;
pub mod socket;
pub mod sysctl;
pub mod udp_tunnel;
