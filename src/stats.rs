// SPDX-License-Identifier: GPL-2.0

//! The counters of a tunnel or a session.
//!
//! What is counted for each packet is per CPU; what is counted for each mishap is one atomic. Bytes
//! are those of the L2TP message, header included, both ways; those of the headers below are not.

use crate::abstractions::{
    percpu::Counters,
    sync::bottom_half, //
};
use crate::prelude::*;
use kernel::{
    alloc::AllocError,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

const TX: usize = 0;
const RX: usize = 1;

/// The counters of one object.
pub struct Stats {
    traffic: Counters<2>,
    /// Could not be sent.
    pub tx_errors: Mishaps,
    /// Dropped because of their sequence number, or the lack of one.
    pub rx_seq_discards: Mishaps,
    /// Came out of order, and were put in order.
    pub rx_oos_packets: Mishaps,
    /// Dropped for any reason.
    pub rx_errors: Mishaps,
    /// Dropped because the cookie was not ours.
    pub rx_cookie_discards: Mishaps,
    /// Did not make sense in this tunnel, and were passed up.
    pub rx_invalid: Mishaps,
}

/// A count of what should not happen.
pub struct Mishaps(Atomic<u64>);

impl Mishaps {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts one. Any context.
    pub fn count(&self) {
        self.0.add(1u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters as they stood at one moment, under their uapi names.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_seq_discards: u64,
    pub rx_oos_packets: u64,
    pub rx_errors: u64,
    pub rx_cookie_discards: u64,
    pub rx_invalid: u64,
}

impl Snapshot {
    /// Each counter, and what it is called.
    pub fn named(&self) -> [(&'static CStr, u64); 10] {
        [
            (c"tx_packets", self.tx_packets),
            (c"tx_bytes", self.tx_bytes),
            (c"tx_errors", self.tx_errors),
            (c"rx_packets", self.rx_packets),
            (c"rx_bytes", self.rx_bytes),
            (c"rx_seq_discards", self.rx_seq_discards),
            (c"rx_oos_packets", self.rx_oos_packets),
            (c"rx_errors", self.rx_errors),
            (c"rx_cookie_discards", self.rx_cookie_discards),
            (c"rx_invalid", self.rx_invalid),
        ]
    }
}

impl Stats {
    /// All zero. May sleep.
    pub fn new() -> Result<Self, AllocError> {
        Ok(Self {
            traffic: Counters::new()?,
            tx_errors: Mishaps::new(),
            rx_seq_discards: Mishaps::new(),
            rx_oos_packets: Mishaps::new(),
            rx_errors: Mishaps::new(),
            rx_cookie_discards: Mishaps::new(),
            rx_invalid: Mishaps::new(),
        })
    }

    /// Counts messages that were sent.
    #[inline]
    pub fn count_tx(&self, packets: usize, bytes: usize, bh: &bottom_half::Guard) {
        self.traffic.add::<TX>(packets, bytes, bh);
    }

    /// Counts messages that were received and are about to be delivered.
    #[inline]
    pub fn count_rx(&self, packets: usize, bytes: usize, bh: &bottom_half::Guard) {
        self.traffic.add::<RX>(packets, bytes, bh);
    }

    /// Reads all counters. Any context.
    pub fn snapshot(&self) -> Snapshot {
        let [tx, rx] = self.traffic.sum();
        Snapshot {
            tx_packets: tx.packets,
            tx_bytes: tx.bytes,
            tx_errors: self.tx_errors.get(),
            rx_packets: rx.packets,
            rx_bytes: rx.bytes,
            rx_seq_discards: self.rx_seq_discards.get(),
            rx_oos_packets: self.rx_oos_packets.get(),
            rx_errors: self.rx_errors.get(),
            rx_cookie_discards: self.rx_cookie_discards.get(),
            rx_invalid: self.rx_invalid.get(),
        }
    }
}
