// SPDX-License-Identifier: GPL-2.0

//! In place of `ip.rs` and `ip6.rs` when L2TP over IP is left out of the configuration.

use crate::{
    abstractions::net::{
        net_namespace::Net,
        socket::KernelSocket, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    tunnel::TunnelConfig,
    uapi::attr, //
};

/// The IP protocol number.
pub const PROTOCOL: u16 = 115;

/// Refuses.
pub fn kernel_socket<A>(
    _net: &Net,
    _config: &TunnelConfig,
    _local: A,
    _peer: A,
) -> Outcome<KernelSocket> {
    Err(Refusal::new(
        kernel::error::code::EPROTONOSUPPORT,
        c"this module was built without L2TP over IP",
    )
    .about(attr::ENCAP_TYPE))
}

pub use self::{
    kernel_socket as kernel_socket4,
    kernel_socket as kernel_socket6, //
};
