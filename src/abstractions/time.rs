// SPDX-License-Identifier: GPL-2.0

//! Jiffies that do not wrap.
//!
//! C header: [`include/linux/jiffies.h`](srctree/include/linux/jiffies.h)

use crate::bindings;

/// Ticks in a second.
pub const HZ: u64 = bindings::KERNEL_HZ as u64;

/// Ticks since boot (plus an offset). Any context.
#[inline]
pub fn jiffies64() -> u64 {
    // SAFETY: Always safe to call.
    unsafe { bindings::get_jiffies_64() }
}

/// Ticks that last at least `ms` milliseconds.
pub fn msecs_to_jiffies64(ms: u32) -> u64 {
    // CAST: 2^32 times HZ (at most 1 000) fits.
    (u64::from(ms) * HZ).div_ceil(1000)
}

/// The milliseconds that `ticks` last.
pub fn jiffies64_to_msecs(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / HZ
}
