// SPDX-License-Identifier: GPL-2.0

//! What a session carries.
//!
//! The kinds are few and known, so that this is an enum: a packet reaches its pseudowire by a direct
//! call.

use crate::{
    abstractions::net::skbuff::Skb,
    eth,
    session::Session, //
};
use kernel::sync::rcu;

/// The far side of a session, seen from L2TP.
pub enum Pseudowire {
    /// Ethernet (RFC 4719): a network device.
    Eth(eth::Port),
}

impl Pseudowire {
    /// Hands a frame to the pseudowire.
    #[inline]
    pub fn deliver(&self, skb: Skb, guard: &rcu::Guard) {
        match self {
            Self::Eth(port) => port.deliver(skb, guard),
        }
    }
}

/// Closes the sessions that `visit` shows, which are in no table any more: stops their timers, frees
/// what they hold back, and closes their pseudowires, all devices in one go. Takes RTNL, also around
/// `visit`, and sleeps.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Session))) {
    eth::close_all(|close| {
        visit(&mut |session| {
            session.purge();
            match session.pseudowire() {
                Pseudowire::Eth(port) => close(port),
            }
        });
    });
}
