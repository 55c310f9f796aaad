// SPDX-License-Identifier: GPL-2.0

//! Synchronisation primitives.

pub mod bottom_half;
mod spinlock_bh;
mod turn;

pub(crate) use spinlock_bh::new_spinlock_bh;
pub use spinlock_bh::SpinLockBh;
pub use turn::Turns;
