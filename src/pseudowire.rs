// SPDX-License-Identifier: GPL-2.0

//! What a session carries.
//!
//! The kinds are few and known, so that this is an enum: a packet reaches its pseudowire by a direct
//! call.

use crate::{
    abstractions::{
        net::skbuff::Skb,
        sync::bottom_half, //
    },
    eth,
    ppp,
    prelude::*,
    session::Session, //
};
use kernel::{
    sync::rcu, //
};

/// The far side of a session, seen from L2TP.
pub enum Pseudowire {
    /// Ethernet (RFC 4719): a network device.
    Eth(eth::Port),
    /// PPP (RFC 2661): a socket and a channel of generic PPP.
    #[cfg_attr(not(CONFIG_L2TP_RUST_PPP), allow(dead_code))]
    Ppp(ppp::Port),
}

impl Pseudowire {
    /// Hands a frame of `session` to the pseudowire. `ordered`: after the last one, and before the
    /// next.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if there is nobody to take it, and what else there is to say against a frame, which
    /// counts as an error of the session.
    #[inline]
    pub fn deliver(
        &self,
        session: &Session,
        skb: Skb,
        ordered: bool,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Result {
        match self {
            Self::Eth(port) => port.deliver(session, skb, ordered, guard, bh),
            Self::Ppp(port) => port.deliver(session, skb, ordered, guard, bh),
        }
    }

    /// The name of the network device at the far side. [`None`] if there is no far side. May sleep,
    /// and take RTNL.
    #[cfg_attr(
        not(any(
            all(CONFIG_DEBUG_FS, CONFIG_NET_NS),
            all(CONFIG_PROC_FS, CONFIG_L2TP_RUST_PPP)
        )),
        expect(dead_code)
    )]
    pub fn interface(&self) -> Option<[u8; 16]> {
        match self {
            Self::Eth(port) => port.interface(),
            Self::Ppp(port) => port.interface(),
        }
    }

    /// The session leaves the tables. Any context.
    pub fn unlinked(&self) {
        match self {
            // A device goes when all that waits for it has gone: see `close_all`.
            Self::Eth(_) => (),
            Self::Ppp(port) => port.close(),
        }
    }
}

/// Closes the sessions that `visit` shows, which are in no table any more: stops their timers, frees
/// what they hold back, and closes their pseudowires, all devices in one go. Takes RTNL when it is
/// shown one with a device, and sleeps.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Session))) {
    eth::close_all(|close| {
        visit(&mut |session| {
            session.purge();
            match session.pseudowire() {
                Pseudowire::Eth(port) => close(port),
                Pseudowire::Ppp(_) => (),
            }
        });
    });
}
