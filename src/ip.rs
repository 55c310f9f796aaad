// SPDX-License-Identifier: GPL-2.0

//! L2TP over IP (RFC 3931 section 4.1.1).

use crate::{
    abstractions::net::{
        net_namespace::Net,
        socket::KernelSocket, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    tunnel::TunnelConfig, //
};
use kernel::prelude::*;

/// The IP protocol number.
pub const PROTOCOL: u16 = 115;

/// A connected socket of the kernel's own for L2TP over IPv4.
pub fn kernel_socket4(
    _net: &Net,
    _config: &TunnelConfig,
    _local: [u8; 4],
    _peer: [u8; 4],
) -> Outcome<KernelSocket> {
    Err(Refusal::new(
        EPROTONOSUPPORT,
        c"L2TP over IPv4 is not available",
    ))
}

/// A connected socket of the kernel's own for L2TP over IPv6.
pub fn kernel_socket6(
    _net: &Net,
    _config: &TunnelConfig,
    _local: [u8; 16],
    _peer: [u8; 16],
) -> Outcome<KernelSocket> {
    Err(Refusal::new(
        EPROTONOSUPPORT,
        c"L2TP over IPv6 is not available",
    ))
}
