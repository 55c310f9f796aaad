// SPDX-License-Identifier: GPL-2.0

//! Synchronisation primitives.

pub mod bottom_half;
pub mod rcu_section;
mod read_once;
mod spinlock_bh;
mod turn;

pub use read_once::read_once;
pub(crate) use spinlock_bh::new_spinlock_bh;
pub use spinlock_bh::SpinLockBh;
pub use turn::Turns;

/// The kernel's.
pub mod rcu {
    #[cfg(L2TP_LINUX_7_2)]
    pub use crate::abstractions::linux_7_2::rcu::*;
    pub use kernel::sync::rcu::*;
}
