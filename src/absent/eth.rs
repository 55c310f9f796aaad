// SPDX-License-Identifier: GPL-2.0

//! In place of `eth.rs` when Ethernet pseudowires are left out of the configuration.

pub use crate::absent::{
    Port,
    Registration, //
};

use crate::{
    absent,
    abstractions::net::net_namespace::Net,
    error::Outcome,
    l2tp_core::Namespace,
    session::{
        Session,
        SessionConfig, //
    },
    tunnel::Tunnel, //
};
use kernel::sync::Arc;

/// Refuses.
pub fn create(
    _namespace: &Arc<Namespace>,
    _net: &Net,
    _tunnel: &Arc<Tunnel>,
    _config: &SessionConfig,
    _ifname: Option<[u8; 16]>,
) -> Outcome<Arc<Session>> {
    Err(absent::refusal(
        c"this module was built without Ethernet pseudowires",
    ))
}

/// Shows no port to anybody.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Port))) {
    visit(&mut |port| match *port {});
}
