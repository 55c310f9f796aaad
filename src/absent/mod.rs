// SPDX-License-Identifier: GPL-2.0

//! What the stand-ins for pseudowires that the configuration leaves out have in common.

use crate::{
    abstractions::{
        net::skbuff::Skb,
        sync::bottom_half, //
    },
    error::Refusal,
    prelude::*,
    session::Session,
    uapi::attr, //
};
use kernel::{
    sync::rcu, //
};

/// The end of a session of such a pseudowire, of which there is none.
pub enum Port {}

impl Port {
    /// Cannot be called.
    pub fn deliver(
        &self,
        _session: &Session,
        _skb: Skb,
        _ordered: bool,
        _guard: &rcu::Guard,
        _bh: &bottom_half::Guard,
    ) -> Result {
        match *self {}
    }

    /// Cannot be called.
    pub fn interface(&self) -> Option<[u8; 16]> {
        match *self {}
    }

    /// Cannot be called.
    #[cfg(not(CONFIG_L2TP_RUST_PPP))]
    pub fn close(&self) {
        match *self {}
    }
}

/// What a request for such a session gets.
pub fn refusal(why: &'static CStr) -> Refusal {
    Refusal::new(EPROTONOSUPPORT, why).about(attr::PW_TYPE)
}

/// Nothing to register.
pub struct Registration;

impl Registration {
    /// Does nothing.
    pub fn register(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    #[cfg(not(CONFIG_L2TP_RUST_PPP))]
    pub fn open(&self) {}
}
