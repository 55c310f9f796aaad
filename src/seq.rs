// SPDX-License-Identifier: GPL-2.0

//! Sequence numbers of data messages: which frames to accept, and in what order to deliver them
//! (RFC 2661 section 5.4, RFC 3931 section 4.6.1).
//!
//! Pure decisions. The caller owns the lock, the clock, the frames and the queue that holds them;
//! this room says what becomes of each frame and which events are worth counting or tracing.
//!
//! The use, for each frame that arrives:
//!
//! 1. [`Options::judge`] decides whether a frame may come with or without a number. No lock needed.
//! 2. Under the session's lock: [`Receiver::receive`], then, if the queue is not empty,
//!    [`Receiver::serve`] until it returns [`None`], then [`Receiver::next_expiry`] to arm a timer.
//! 3. What was handed back is delivered, in that order, when the lock is released.
//!
//! The timer does step 2 without `receive`. The state relies on the queue having been served to the
//! end each time the lock is released.

#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use core::cmp::Ordering;

use crate::wire::ids::Version;

/// How many frames a reorder queue may hold.
pub const QUEUE_LEN_MAX: usize = 1024;

/// How many frames of a run that is out of sequence are dropped beyond the first, before we follow
/// the peer.
const OOS_RUN_MAX: u8 = 4;

/// How many frames in a row are refused because they are outside the window, before we follow the
/// peer.
const OUTSIDE_RUN_MAX: u8 = 64;

/// The numbers of one protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// 16 bits.
    V2,
    /// 24 bits.
    V3,
}

impl From<Version> for Space {
    fn from(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2,
            Version::V3 => Self::V3,
        }
    }
}

impl Space {
    /// Returns the greatest number.
    #[inline]
    pub const fn mask(self) -> u32 {
        match self {
            Self::V2 => 0xffff,
            Self::V3 => 0xff_ffff,
        }
    }

    /// Returns the receive window: numbers less than this ahead of the expected one are acceptable.
    #[inline]
    pub const fn window(self) -> u32 {
        self.mask() >> 1
    }

    /// Cuts a free-running counter to a number of this space.
    #[inline]
    pub const fn wrap(self, n: u32) -> u32 {
        n & self.mask()
    }

    /// Returns the number that follows `n`.
    #[inline]
    pub const fn next(self, n: u32) -> u32 {
        self.wrap(n.wrapping_add(1))
    }

    /// Returns how far `to` is ahead of `from`, modulo the size of the space.
    #[inline]
    pub const fn distance(self, from: u32, to: u32) -> u32 {
        self.wrap(to.wrapping_sub(from))
    }
}

/// The sequencing options of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Numbers are mandatory on receive.
    pub recv_seq: bool,
    /// We send numbers.
    pub send_seq: bool,
    /// We are the LNS. A LAC does as the LNS does: it numbers its frames if the LNS does.
    pub lns_mode: bool,
}

/// What to do with a frame, judged by whether it is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Go on.
    Accept,
    /// Go on, and change our `send_seq` to this, following the LNS. Trace event
    /// `session_seqnum_lns_enable` or `_disable`.
    AcceptAndSetSendSeq(bool),
    /// Drop: `rx_seq_discards` and `rx_errors`.
    Discard,
}

impl Options {
    /// Decides whether a frame may come with, or without, a number.
    #[inline]
    pub const fn judge(self, numbered: bool) -> Policy {
        if numbered {
            if !self.lns_mode && !self.send_seq {
                Policy::AcceptAndSetSendSeq(true)
            } else {
                Policy::Accept
            }
        } else if self.recv_seq {
            Policy::Discard
        } else if !self.send_seq {
            Policy::Accept
        } else if self.lns_mode {
            // We are in charge, and we do number our frames: the LAC is broken.
            Policy::Discard
        } else {
            Policy::AcceptAndSetSendSeq(false)
        }
    }
}

/// What a queue must remember about a frame. Meant to be kept next to it (`skb->cb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Sequence number, if there is one.
    pub ns: Option<u32>,
    /// Last tick at which the frame waits for those before it.
    pub expires: u64,
    /// Length of the frame as the caller counts it: charged against [`Config::max_bytes`] while the
    /// frame waits, and handed back with it.
    pub bytes: u32,
}

/// What to do about an entry met on the way from the tail to the head of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The new entry belongs before this one, or still further to the front.
    Before,
    /// This one does not matter. Look further.
    Pass,
    /// Enough seen.
    Stop,
    /// Do not insert the new entry at all.
    Refuse,
}

/// A queue of frames, owned by the caller.
pub trait Queue {
    /// A frame.
    type Item;

    /// Returns the number of frames.
    fn len(&self) -> usize;

    /// Returns whether there are no frames.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what was stored with the frame at the head.
    fn front(&self) -> Option<Slot>;

    /// Takes the frame at the head out.
    fn pop_front(&mut self) -> Option<Self::Item>;

    /// Adds a frame at the tail.
    fn push_back(&mut self, item: Self::Item, slot: Slot);

    /// Walks from the tail towards the head and shows each entry to `look`, with the new one, which
    /// may be changed; until that answers [`Look::Stop`] or [`Look::Refuse`], or the head is passed.
    ///
    /// Then adds the frame immediately before the last entry for which the answer was
    /// [`Look::Before`], or at the tail if there was none. After [`Look::Refuse`] nothing is added
    /// and the frame is returned.
    fn insert(
        &mut self,
        item: Self::Item,
        slot: Slot,
        look: impl FnMut(&mut Slot, &Slot) -> Look,
    ) -> Result<(), Self::Item>;
}

/// What the session's configuration says about reordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a frame may wait for those before it, in ticks. Zero turns reordering off.
    pub timeout: u32,
    /// How many bytes may wait.
    pub max_bytes: u32,
}

/// A frame to hand to the pseudowire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// The frame.
    pub item: T,
    /// Its number. If it has one, Nr is now the number after it (trace event
    /// `session_seqnum_update`).
    pub ns: Option<u32>,
    /// Its length as given to [`Receiver::receive`].
    pub bytes: u32,
    /// Nr was first set to `ns` (trace event `session_seqnum_reset`).
    pub reset: bool,
    /// The frame overtook frames that were waiting for it: `rx_oos_packets`.
    pub oos: bool,
}

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too far ahead, or already delivered (trace event `session_pkt_outside_rx_window`).
    OutsideWindow,
    /// Not the next one, and reordering is off (trace event `session_pkt_oos`).
    OutOfSequence,
    /// A frame with this number is waiting already.
    Duplicate,
    /// [`QUEUE_LEN_MAX`] frames or [`Config::max_bytes`] are waiting already.
    QueueFull,
}

impl Reason {
    /// Returns whether the frame counts in `rx_seq_discards`. It counts in `rx_errors` anyway.
    #[inline]
    pub const fn is_seq_discard(self) -> bool {
        match self {
            Self::OutsideWindow | Self::Duplicate => false,
            Self::OutOfSequence | Self::QueueFull => true,
        }
    }
}

/// What became of the frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Deliver it, before anything that [`Receiver::serve`] hands back.
    Deliver(Delivery<T>),
    /// It is in the queue.
    Queued {
        /// It was put before another one: `rx_oos_packets`.
        oos: bool,
    },
    /// Drop it: `rx_errors`, and perhaps `rx_seq_discards`.
    Discard {
        /// The frame.
        item: T,
        /// The reason.
        reason: Reason,
    },
}

/// The receive side of one session.
///
/// # Invariants
///
/// While the caller keeps to the rules of the module, between two critical sections:
///
/// - either the queue is empty, or its head is numbered, is not `nr`, and `fresh` is false;
/// - the numbers in the queue are distinct, less than a window ahead of `nr`, and ascend by their
///   distance from `nr`; frames without a number stand anywhere behind the head;
/// - no frame with a number expires later than another one behind it, unless the timeout was made
///   shorter in between;
/// - `queued_bytes` is the sum of the lengths in the queue.
#[derive(Clone, Debug)]
pub struct Receiver {
    space: Space,
    /// The next number we expect.
    nr: u32,
    /// No numbered frame was accepted yet: take Nr from the first one.
    fresh: bool,
    /// Reordering was turned off with frames in the queue; hand all of them out.
    drain: bool,
    /// How many frames in a row followed the first one that was out of sequence.
    oos_run: u8,
    /// The last number that was out of sequence.
    oos_ns: u32,
    /// How many frames in a row were outside the window, each following the one before.
    outside_run: u8,
    /// The last number outside the window.
    outside_ns: u32,
    queued_bytes: u32,
}

impl Receiver {
    /// Starts with an empty queue. The first numbered frame sets Nr, whatever its number: the peer's
    /// session may be much older than ours, if nobody told it that ours was made anew.
    pub const fn new(space: Space) -> Self {
        Self {
            space,
            nr: 0,
            fresh: true,
            drain: false,
            oos_run: 0,
            oos_ns: 0,
            outside_run: 0,
            outside_ns: 0,
            queued_bytes: 0,
        }
    }

    /// Returns the next number expected.
    #[inline]
    pub const fn nr(&self) -> u32 {
        self.nr
    }

    /// Decides about a frame that arrived at tick `now` and has passed [`Options::judge`].
    #[inline]
    pub fn receive<Q: Queue>(
        &mut self,
        queue: &mut Q,
        item: Q::Item,
        ns: Option<u32>,
        bytes: u32,
        now: u64,
        config: &Config,
    ) -> Outcome<Q::Item> {
        // Nearly all frames: nobody waits, and there is no number or it is the expected one.
        if queue.is_empty() {
            match ns {
                None => {
                    return Outcome::Deliver(Delivery {
                        item,
                        ns: None,
                        bytes,
                        reset: false,
                        oos: false,
                    });
                }
                Some(ns) if ns == self.nr => {
                    return self.deliver(item, ns, bytes, false);
                }
                Some(_) => (),
            }
        }
        self.receive_slow(queue, item, ns, bytes, now, config)
    }

    /// The cases that are not in a hurry, kept out of the way of the others.
    #[inline(never)]
    fn receive_slow<Q: Queue>(
        &mut self,
        queue: &mut Q,
        item: Q::Item,
        ns: Option<u32>,
        bytes: u32,
        now: u64,
        config: &Config,
    ) -> Outcome<Q::Item> {
        let ns = ns.map(|ns| self.space.wrap(ns));
        let slot = Slot {
            ns,
            expires: now.saturating_add(u64::from(config.timeout)),
            bytes,
        };

        // With reordering off, a queue can only be left over from when it was on. Whoever turned it
        // off does not want frames to wait: let `serve` hand out everything, gaps or not.
        let reorder = config.timeout != 0;
        if !reorder && !queue.is_empty() {
            self.drain = true;
        }

        let Some(ns) = ns else {
            // Keep it behind the frames that arrived before it.
            let Some(queued_bytes) = self.room(queue, bytes, config) else {
                return Outcome::Discard {
                    item,
                    reason: Reason::QueueFull,
                };
            };
            self.queued_bytes = queued_bytes;
            queue.push_back(item, slot);
            return Outcome::Queued { oos: false };
        };

        if self.fresh {
            return self.deliver(item, ns, bytes, false);
        }

        let distance = self.space.distance(self.nr, ns);
        if distance >= self.space.window() {
            if !self.follows_outside(ns) {
                return Outcome::Discard {
                    item,
                    reason: Reason::OutsideWindow,
                };
            }
            if queue.is_empty() {
                return self.deliver(item, ns, bytes, false);
            }
            // Let `serve` hand out what waits, and this one after it.
            let Some(queued_bytes) = self.room(queue, bytes, config) else {
                return Outcome::Discard {
                    item,
                    reason: Reason::QueueFull,
                };
            };
            self.queued_bytes = queued_bytes;
            self.drain = true;
            queue.push_back(item, slot);
            return Outcome::Queued { oos: false };
        }
        self.outside_run = 0;

        if distance == 0 {
            // All frames in the queue come after this one.
            return self.deliver(item, ns, bytes, !queue.is_empty());
        }

        if !reorder && queue.is_empty() {
            if self.follows(ns) {
                return self.deliver(item, ns, bytes, false);
            }
            return Outcome::Discard {
                item,
                reason: Reason::OutOfSequence,
            };
        }

        self.insert(queue, item, slot, distance, config)
    }

    /// Accounts for a run of frames that is out of sequence, and returns whether to accept its
    /// latest frame, because the run is long enough to believe that what is missing will not come.
    fn follows(&mut self, ns: u32) -> bool {
        self.oos_run = if ns == self.space.next(self.oos_ns) {
            self.oos_run.saturating_add(1)
        } else {
            0
        };
        self.oos_ns = ns;
        self.oos_run > OOS_RUN_MAX
    }

    /// Accounts for a run of frames outside the window, and returns whether to accept its latest
    /// frame. The peer has started again, or we were led astray by a frame that was far ahead. A run
    /// of duplicates is shorter, and mixed with new frames.
    fn follows_outside(&mut self, ns: u32) -> bool {
        self.outside_run = if self.outside_run != 0 && ns == self.space.next(self.outside_ns) {
            self.outside_run.saturating_add(1)
        } else {
            1
        };
        self.outside_ns = ns;
        self.outside_run > OUTSIDE_RUN_MAX
    }

    /// Puts a numbered frame in its place.
    fn insert<Q: Queue>(
        &mut self,
        queue: &mut Q,
        item: Q::Item,
        slot: Slot,
        distance: u32,
        config: &Config,
    ) -> Outcome<Q::Item> {
        let Some(queued_bytes) = self.room(queue, slot.bytes, config) else {
            return Outcome::Discard {
                item,
                reason: Reason::QueueFull,
            };
        };

        let (space, nr) = (self.space, self.nr);
        let mut oos = false;
        let inserted = queue.insert(item, slot, |slot, other| {
            let Some(other_ns) = other.ns else {
                return Look::Pass;
            };
            match space.distance(nr, other_ns).cmp(&distance) {
                Ordering::Greater => {
                    oos = true;
                    // Who waits already is not to wait longer for this one.
                    slot.expires = slot.expires.min(other.expires);
                    Look::Before
                }
                Ordering::Equal => Look::Refuse,
                Ordering::Less => Look::Stop,
            }
        });

        match inserted {
            Ok(()) => {
                self.queued_bytes = queued_bytes;
                Outcome::Queued { oos }
            }
            // Were it queued, it would block the head as soon as its twin is delivered.
            Err(item) => Outcome::Discard {
                item,
                reason: Reason::Duplicate,
            },
        }
    }

    /// Returns the new value of `queued_bytes` if a frame of that length may be queued.
    fn room<Q: Queue>(&self, queue: &Q, bytes: u32, config: &Config) -> Option<u32> {
        let total = self.queued_bytes.checked_add(bytes)?;
        (queue.len() < QUEUE_LEN_MAX && total <= config.max_bytes).then_some(total)
    }

    /// Delivers a numbered frame without queueing it.
    #[inline]
    fn deliver<T>(&mut self, item: T, ns: u32, bytes: u32, oos: bool) -> Outcome<T> {
        let reset = self.fresh || ns != self.nr;
        self.fresh = false;
        self.outside_run = 0;
        self.nr = self.space.next(ns);
        Outcome::Deliver(Delivery {
            item,
            ns: Some(ns),
            bytes,
            reset,
            oos,
        })
    }

    /// Takes out the head of the queue to be delivered, if it is its turn or its time is up.
    ///
    /// A frame whose time is up goes to where it is wanted: it is not too late for it, only for those
    /// that it waited for.
    ///
    /// To be called until it returns [`None`], whenever a frame was received and the queue is not
    /// empty, and when the tick of [`Receiver::next_expiry`] has come.
    pub fn serve<Q: Queue>(&mut self, queue: &mut Q, now: u64) -> Option<Delivery<Q::Item>> {
        let Some(slot) = queue.front() else {
            self.drain = false;
            return None;
        };

        let reset = slot.ns.is_some_and(|ns| ns != self.nr);
        if reset && !self.drain && now <= slot.expires {
            return None;
        }

        let item = queue.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(slot.bytes);
        if let Some(ns) = slot.ns {
            self.nr = self.space.next(ns);
        }
        Some(Delivery {
            item,
            ns: slot.ns,
            bytes: slot.bytes,
            reset,
            oos: false,
        })
    }

    /// Returns the first tick at which [`Receiver::serve`] will find that the head waited long enough.
    #[inline]
    pub fn next_expiry<Q: Queue>(&self, queue: &Q) -> Option<u64> {
        queue.front().map(|slot| slot.expires.saturating_add(1))
    }

    /// Takes out the head of the queue of a session that ends: `rx_errors`. To be called until it
    /// returns [`None`].
    pub fn purge<Q: Queue>(&mut self, queue: &mut Q) -> Option<Q::Item> {
        let item = queue.pop_front();
        if item.is_none() {
            self.queued_bytes = 0;
        }
        item
    }
}
