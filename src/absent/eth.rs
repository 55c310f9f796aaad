// SPDX-License-Identifier: GPL-2.0

//! In place of `eth.rs` when Ethernet pseudowires are left out of the configuration.

use crate::{
    abstractions::net::{
        net_namespace::Net,
        skbuff::Skb, //
    },
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
    pub fn deliver(&self, _skb: Skb, _guard: &rcu::Guard) {
        match *self {}
    }
}

/// Refuses.
pub fn create(
    _namespace: &Arc<Namespace>,
    _net: &Net,
    _tunnel: &Arc<Tunnel>,
    _config: &SessionConfig,
    _ifname: Option<[u8; 16]>,
) -> Outcome<Arc<Session>> {
    Err(Refusal::new(
        EPROTONOSUPPORT,
        c"this module was built without Ethernet pseudowires",
    )
    .about(attr::PW_TYPE))
}

/// Shows no port to anybody.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Port))) {
    visit(&mut |port| match *port {});
}

/// Nothing to register.
pub struct Registration;

impl Registration {
    /// Does nothing.
    pub fn register(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
