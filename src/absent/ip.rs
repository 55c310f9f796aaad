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

const ABSENT: Refusal = Refusal::new(
    kernel::error::code::EPROTONOSUPPORT,
    c"this module was built without L2TP over IP",
)
.about(attr::ENCAP_TYPE);

/// Refuses.
pub fn kernel_socket4(
    _net: &Net,
    _config: &TunnelConfig,
    _local: [u8; 4],
    _peer: [u8; 4],
) -> Outcome<KernelSocket> {
    Err(ABSENT)
}

/// Refuses.
pub fn kernel_socket6(
    _net: &Net,
    _config: &TunnelConfig,
    _local: [u8; 16],
    _peer: [u8; 16],
) -> Outcome<KernelSocket> {
    Err(ABSENT)
}
