// SPDX-License-Identifier: GPL-2.0

//! In place of `ppp.rs` when PPP pseudowires are left out of the configuration, as they are if the
//! kernel has no PPP.

use crate::{
    abstractions::net::skbuff::Skb,
    error::{
        Outcome,
        Refusal, //
    },
    l2tp_core::Namespace,
    session::{
        Session,
        SessionConfig, //
    },
    tunnel::Tunnel,
    uapi::attr, //
};
use kernel::{
    prelude::*,
    sync::{
        rcu,
        Arc, //
    }, //
};

/// There is none.
pub enum Port {}

impl Port {
    /// Cannot be called.
    pub fn deliver(&self, _skb: Skb, _guard: &rcu::Guard) -> Result {
        match *self {}
    }

    /// Cannot be called.
    pub fn close(&self) {
        match *self {}
    }
}

/// Refuses.
pub fn create(
    _namespace: &Namespace,
    _tunnel: &Arc<Tunnel>,
    _config: &SessionConfig,
) -> Outcome<Arc<Session>> {
    Err(Refusal::new(
        EPROTONOSUPPORT,
        c"this module was built without PPP pseudowires",
    )
    .about(attr::PW_TYPE))
}

/// Nothing to register.
pub struct Registration;

impl Registration {
    /// Does nothing.
    pub fn register(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    pub fn open(&self) {}
}
