// SPDX-License-Identifier: GPL-2.0

//! A lock for what may come back to itself.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use super::bottom_half;
use crate::prelude::*;
use core::hint::spin_loop;
use kernel::{
    cpu::CpuId,
    new_spinlock,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::{
            spinlock::SpinLockBackend,
            Guard, //
        },
        SpinLock, //
    }, //
};

/// How often is tried before somebody else's turn counts as one that does not end: some milliseconds.
const PATIENCE: u32 = 1 << 18;

/// The same if that was so again and again.
const LEAST_PATIENCE: u32 = 1 << 6;

/// A lock whose holder may call what wants to take it again: what is sent through a tunnel may be
/// routed into that tunnel, or into another one that is routed into this.
///
/// Then waiting would never end, be it for this CPU or, if there are two such locks, for another one
/// that waits for us. So nobody waits for itself, nor for ever; and who has waited in vain lets the
/// next ones wait half as long, until one of them does not wait in vain, so that many packets do not
/// add up. As all only try, lockdep sees no order between such locks and others, and none is needed.
///
/// # Invariants
///
/// `holder` is one more than the number of a CPU only while that CPU holds `lock`.
#[pin_data]
pub struct Turns {
    #[pin]
    lock: SpinLock<()>,
    holder: Atomic<u32>,
    /// How often the next one tries. Written without the lock: it matters little who is the last.
    patience: Atomic<u32>,
}

/// A turn. It ends when this is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    _held: Guard<'a, (), SpinLockBackend>,
}

impl Turns {
    /// Nobody's turn.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: No CPU has the number -1.
        pin_init!(Self {
            lock <- new_spinlock!((), "Turns"),
            holder: Atomic::new(0),
            patience: Atomic::new(PATIENCE),
        })
    }

    /// Waits for a turn. [`None`] if this CPU has it already, or if it takes too long. Bottom halves stay
    /// off for as long as the result lives; softirq or process context.
    #[inline]
    pub fn take<'a>(&'a self, _bh: &'a bottom_half::Guard) -> Option<Turn<'a>> {
        // Bottom halves are off, so we stay on this CPU.
        let me = CpuId::current().as_u32().wrapping_add(1);
        let patience = self.patience.load(Relaxed);
        for _ in 0..patience {
            // Others may change it meanwhile, but not from or to our number.
            if self.holder.load(Relaxed) == me {
                return None;
            }
            if let Some(held) = self.lock.try_lock() {
                // INVARIANT: We hold the lock.
                self.holder.store(me, Relaxed);
                if patience != PATIENCE {
                    self.patience.store(PATIENCE, Relaxed);
                }
                return Some(Turn {
                    turns: self,
                    _held: held,
                });
            }
            spin_loop();
        }
        self.patience
            .store((patience / 2).max(LEAST_PATIENCE), Relaxed);
        None
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        // INVARIANT: The lock is released when the fields are dropped, after this.
        self.turns.holder.store(0, Relaxed);
    }
}
