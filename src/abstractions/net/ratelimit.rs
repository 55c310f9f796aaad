// SPDX-License-Identifier: GPL-2.0

//! How often to log what packets cause.
//!
//! C header: [`include/linux/net.h`](srctree/include/linux/net.h)

use crate::bindings;

/// Whether one more message may be logged: some every few seconds, for all of the network stack
/// (`net.core.message_burst`, `net.core.message_cost`). Any context.
pub fn net_ratelimit() -> bool {
    // SAFETY: Always safe to call.
    unsafe { bindings::net_ratelimit() != 0 }
}
