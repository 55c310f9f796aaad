// SPDX-License-Identifier: GPL-2.0

//! In place of `ppp.rs` when PPP pseudowires are left out of the configuration, as they are if the
//! kernel has no PPP.

pub use crate::absent::{
    Port,
    Registration, //
};

use crate::{
    absent,
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
    _namespace: &Namespace,
    _tunnel: &Arc<Tunnel>,
    _config: &SessionConfig,
) -> Outcome<Arc<Session>> {
    Err(absent::refusal(
        c"this module was built without PPP pseudowires",
    ))
}
