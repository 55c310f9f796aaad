// SPDX-License-Identifier: GPL-2.0

//! Generic receive offload: packets of one stream go through the stack as one.
//!
//! C headers: [`include/net/gro_cells.h`](srctree/include/net/gro_cells.h),
//! [`include/net/gro.h`](srctree/include/net/gro.h)

use super::skbuff::Skb;
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Where packets that a device without hardware has received wait to be merged, one place for each
/// CPU.
///
/// What waits is handed on by code of the core, which knows nothing of the device's driver.
///
/// # Invariants
///
/// `cells` is as [`Cells::new`] made it, or as C leaves it.
pub(super) struct Cells {
    cells: Opaque<bindings::gro_cells>,
}

impl Cells {
    /// Without memory, and of no use yet.
    pub(super) const fn new() -> Self {
        // INVARIANT: It is new.
        Self {
            cells: Opaque::new(bindings::gro_cells {
                cells: core::ptr::null_mut(),
            }),
        }
    }

    /// Makes them ready. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `dev` must be valid, and what this is called for the first time for; nobody else may use
    /// `self` meanwhile. If it succeeds, [`Cells::destroy`] must be called before `dev` goes.
    pub(super) unsafe fn init(&self, dev: *mut bindings::net_device) -> Result {
        // SAFETY: By the safety requirement.
        to_result(unsafe { bindings::gro_cells_init(self.cells.get(), dev) })
    }

    /// Drops what waits, and frees the memory, one grace period later. Does nothing if there is none.
    /// Sleeps.
    ///
    /// # Safety
    ///
    /// Nobody else may use `self` meanwhile.
    pub(super) unsafe fn destroy(&self) {
        // SAFETY: By the safety requirement.
        unsafe { bindings::gro_cells_destroy(self.cells.get()) };
    }

    /// Hands on a packet, merged with others or not. Without that, if the device does not want it, or
    /// the packet is one of several with the same data. False if it was dropped.
    ///
    /// # Safety
    ///
    /// [`Cells::init`] must have been called for the device that `skb` has come in on, and
    /// [`Cells::destroy`] may not be called until an RCU read section has ended that the caller is
    /// in. Bottom halves must be off.
    #[inline]
    pub(super) unsafe fn receive(&self, skb: Skb) -> bool {
        // SAFETY: By the safety requirement. The packet is given away.
        let ret = unsafe { bindings::gro_cells_receive(self.cells.get(), skb.into_raw()) };
        ret == super::netdevice::NET_RX_SUCCESS
    }
}
