// SPDX-License-Identifier: GPL-2.0

//! Ethernet pseudowires (RFC 4719).

use crate::abstractions::net::skbuff::Skb;
use kernel::sync::rcu;

/// The device at the end of a session.
pub struct Port;

impl Port {
    /// Hands a frame to the device.
    pub fn deliver(&self, skb: Skb, _len: usize, _guard: &rcu::Guard) {
        drop(skb);
    }
}

/// Unregisters the devices of all ports that `visit` shows, in one batch.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Port))) {
    visit(&mut |_port| ());
}
