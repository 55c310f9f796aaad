// SPDX-License-Identifier: GPL-2.0

//! Sessions: what happens to a data message on its way in and out.
//!
//! # Lifetimes
//!
//! A session is counted by the tables of [`crate::l2tp_core`], by its pseudowire (a device counts
//! the session that it sends through), and by its timer while that is pending. It counts its tunnel.
//! The way back to the device is no reference: [`crate::eth::Port`] holds a pointer that the device
//! clears when it goes. Counts may drop to zero in softirq context.
//!
//! # Contexts and locks
//!
//! [`Session::receive`] and [`Session::transmit`] run in softirqs on several CPUs at once. A frame
//! without a sequence number, in a session that holds nothing back, passes without a lock. For the
//! others, `rx` is taken around the decision only; frames are delivered after it is released. Who
//! numbers and sends a message holds `turns` until the network layer has it; if that brings it back
//! here, or to a session whose turn another CPU does not give up in time, it is dropped.

use crate::{
    abstractions::{
        net::{
            ratelimit,
            skbuff::{
                Skb,
                SkbList,
                Step, //
            }, //
        },
        sync::{
            bottom_half,
            new_spinlock_bh,
            read_once,
            SpinLockBh,
            Turns, //
        },
        time,
        timer::{
            Expire,
            Timer, //
        },
        workqueue, //
    },
    discard::{
        discard_of,
        Reason, //
    },
    prelude::*,
    pseudowire::{
        self,
        Pseudowire, //
    },
    seq::{
        self,
        Delivery,
        Look,
        Outcome,
        Policy,
        Queue,
        Receiver,
        Slot, //
    },
    stats::{
        Snapshot,
        Stats, //
    },
    trace,
    tunnel::Tunnel,
    wire::{
        ids::{
            Cookie,
            L2SpecType,
            PwType,
            SessionId,
            Version, //
        },
        v2,
        v3,
        DataHeader, //
    }, //
};
use kernel::{
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        Arc,
        SetOnce, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};

/// How many bytes a session may hold back while it waits for missing frames.
const REORDER_BYTES_MAX: u32 = 4 << 20;

/// What a session is to be.
#[derive(Clone, Copy)]
pub struct SessionConfig {
    /// Our id.
    pub session_id: SessionId,
    /// The peer's id.
    pub peer_session_id: SessionId,
    /// What is carried.
    pub pw_type: PwType,
    /// The sublayer, in both directions. Version 3.
    pub l2spec: L2SpecType,
    /// What we send. Version 3.
    pub cookie: Cookie,
    /// What we require. Version 3.
    pub peer_cookie: Cookie,
    /// Number what we send.
    pub send_seq: bool,
    /// Require numbers.
    pub recv_seq: bool,
    /// We are the LNS.
    pub lns_mode: bool,
    /// How long to wait for missing frames, in milliseconds; 0 to not wait.
    pub reorder_timeout: u32,
}

impl SessionConfig {
    fn header(&self, tunnel: &Tunnel) -> DataHeader {
        DataHeader::new(
            tunnel.version(),
            tunnel.encap(),
            tunnel.peer_tunnel_id(),
            self.peer_session_id,
            &self.cookie,
            self.l2spec,
        )
    }
}

/// The receive side: who is next, and who waits.
struct Rx {
    receiver: Receiver,
    waiting: SkbList<Slot>,
    /// The session has been deleted: hold back nothing any more.
    closed: bool,
}

/// A session (a "call" in the terms of RFC 2661).
#[pin_data]
pub struct Session {
    tunnel: Arc<Tunnel>,
    config: SessionConfig,
    /// The name its device had when it was registered, NUL-padded.
    ifname: SetOnce<[u8; 16]>,
    header: DataHeader,
    /// The peer's tunnel id was not known when `header` was made.
    peerless: bool,
    /// Ns of the next message we send, of which the wire takes the lower bits.
    ns: Atomic<u32>,
    /// Whose turn it is to number and send, so that messages leave in the order of their numbers.
    #[pin]
    turns: Turns,
    send_seq: Atomic<bool>,
    recv_seq: Atomic<bool>,
    lns_mode: Atomic<bool>,
    /// In ticks.
    reorder_timeout: Atomic<u32>,
    /// Whether `rx.waiting` has frames; written under that lock.
    holds_back: Atomic<bool>,
    stats: Stats,
    pseudowire: Pseudowire,
    #[pin]
    rx: SpinLockBh<Rx>,
    #[pin]
    timer: Timer<Self>,
    #[pin]
    work: Work<Self>,
    /// Tells that this is freed.
    _end: trace::EndOfSession,
}

impl_has_work! {
    impl HasWork<Self> for Session { self.work }
}

impl Session {
    /// Makes a session, which nothing can find yet. May sleep.
    pub fn new(
        tunnel: &Arc<Tunnel>,
        config: &SessionConfig,
        pseudowire: Pseudowire,
    ) -> Result<Arc<Self>> {
        let stats = Stats::new()?;
        let peerless = tunnel.peer_tunnel_id().get() == 0;
        let header = config.header(tunnel);
        let space = tunnel.version().into();
        Arc::pin_init(
            pin_init!(Self {
                tunnel: tunnel.clone(),
                config: *config,
                ifname: SetOnce::new(),
                header,
                peerless,
                ns: Atomic::new(0),
                turns <- Turns::new(),
                send_seq: Atomic::new(config.send_seq),
                recv_seq: Atomic::new(config.recv_seq),
                lns_mode: Atomic::new(config.lns_mode),
                reorder_timeout: Atomic::new(ticks(config.reorder_timeout)),
                holds_back: Atomic::new(false),
                stats,
                pseudowire,
                rx <- new_spinlock_bh!(Rx {
                    receiver: Receiver::new(space),
                    waiting: SkbList::new(),
                    closed: false,
                }, "Session::rx"),
                timer <- Timer::new(),
                work <- new_work!("Session::work"),
                _end: trace::EndOfSession {
                    tunnel_id: tunnel.tunnel_id(),
                    session_id: config.session_id,
                },
            }),
            GFP_KERNEL,
        )
    }

    /// The tunnel it belongs to.
    #[inline]
    pub fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// Our id.
    pub fn session_id(&self) -> SessionId {
        self.config.session_id
    }

    /// The peer's id.
    pub fn peer_session_id(&self) -> SessionId {
        self.config.peer_session_id
    }

    /// What is carried.
    pub fn pw_type(&self) -> PwType {
        self.config.pw_type
    }

    /// What we send.
    pub fn cookie(&self) -> &Cookie {
        &self.config.cookie
    }

    /// What we require.
    pub fn peer_cookie(&self) -> &Cookie {
        &self.config.peer_cookie
    }

    /// The name of the device at creation, NUL-padded.
    pub fn ifname(&self) -> Option<[u8; 16]> {
        self.ifname.copy()
    }

    /// Records the name of the device. The first one stays.
    pub fn set_ifname(&self, name: [u8; 16]) {
        self.ifname.populate(name);
    }

    /// Whether this is no session at all, but stands for the tunnel: see [`crate::ppp`].
    pub fn is_management(&self) -> bool {
        self.session_id().get() == 0
            && self.peer_session_id().get() == 0
            && matches!(self.pseudowire, Pseudowire::Ppp(_))
    }

    /// Whether listings leave it out. In version 2, session 0 stands for the tunnel, too.
    pub fn is_hidden(&self) -> bool {
        self.is_management()
            || (self.tunnel.version() == Version::V2 && self.session_id().get() == 0)
    }

    /// The sublayer.
    #[cfg_attr(not(all(CONFIG_DEBUG_FS, CONFIG_NET_NS)), expect(dead_code))]
    pub fn l2spec(&self) -> L2SpecType {
        self.config.l2spec
    }

    /// The far side.
    pub fn pseudowire(&self) -> &Pseudowire {
        &self.pseudowire
    }

    /// Whether we number what we send.
    pub fn send_seq(&self) -> bool {
        read_once(&self.send_seq)
    }

    /// Changes whether we number what we send; numbering goes on where it stopped.
    pub fn set_send_seq(&self, on: bool) {
        self.send_seq.store(on, Relaxed);
    }

    /// Whether we require numbers.
    pub fn recv_seq(&self) -> bool {
        read_once(&self.recv_seq)
    }

    /// Changes whether we require numbers.
    pub fn set_recv_seq(&self, on: bool) {
        self.recv_seq.store(on, Relaxed);
    }

    /// Whether we are the LNS.
    pub fn lns_mode(&self) -> bool {
        read_once(&self.lns_mode)
    }

    /// Changes whether we are the LNS.
    pub fn set_lns_mode(&self, on: bool) {
        self.lns_mode.store(on, Relaxed);
    }

    /// How long we wait for missing frames, in milliseconds, rounded to ticks.
    pub fn reorder_timeout_ms(&self) -> u64 {
        time::jiffies64_to_msecs(self.reorder_timeout.load(Relaxed).into())
    }

    /// Changes how long we wait for missing frames, in milliseconds.
    pub fn set_reorder_timeout_ms(&self, ms: u32) {
        self.reorder_timeout.store(ticks(ms), Relaxed);
    }

    /// Ns of the next message we send, and the one that we expect.
    pub fn numbers(&self) -> (u32, u32) {
        (self.ns(), self.rx.lock().receiver.nr())
    }

    /// Ns of the next message we send.
    pub fn ns(&self) -> u32 {
        self.ns.load(Relaxed) & self.space().mask()
    }

    /// The numbers there are.
    pub fn space(&self) -> seq::Space {
        self.tunnel.version().into()
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Bytes to reckon with for the L2TP header.
    pub fn header_len(&self) -> usize {
        self.header.max_len()
    }

    /// Bytes that may be put in front of a frame, down to the link layer of the underlying device.
    pub fn headroom(&self) -> usize {
        self.tunnel.headroom().saturating_add(self.header_len())
    }

    /// Counts a frame that could not be sent.
    pub fn count_tx_error(&self) {
        self.stats.tx_errors.count();
        self.tunnel.counters().tx_errors.count();
    }

    /// Sends a frame. Counts it, whatever becomes of it.
    ///
    /// # Errors
    ///
    /// Those of [`Tunnel::output`]; `EBUSY` if the messages of this session are numbered, and this one
    /// comes from within the sending of another, or cannot get its turn.
    #[inline]
    pub fn transmit(&self, skb: Skb, bh: &bottom_half::Guard) -> Result {
        let guard = rcu::read_lock();
        // In version 2, the peer's tunnel id is part of it.
        let late;
        let header = if self.peerless {
            late = self.config.header(&self.tunnel);
            &late
        } else {
            &self.header
        };
        let numbers = (read_once(&self.send_seq) && header.carries_ns()).then_some(&self.ns);
        let _turn = match numbers {
            Some(_) => Some(self.turns.take(bh).ok_or_else(|| {
                self.count_tx_error();
                EBUSY
            })?),
            None => None,
        };
        if skb.is_gso() && !self.tunnel.takes_segments(&skb, header, numbers.is_some()) {
            self.transmit_segments(skb, header, numbers, &guard, bh)
        } else {
            self.transmit_one(skb, header, numbers, &guard, bh)
        }
    }

    #[inline(always)]
    fn transmit_one(
        &self,
        mut skb: Skb,
        header: &DataHeader,
        numbers: Option<&Atomic<u32>>,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Result {
        let (packets, more) = skb.segments();
        let header_len = header.len(numbers.is_some());
        let len = skb.len().wrapping_add(header_len);
        match self.tunnel.output(skb, header, numbers, guard) {
            Ok(()) => {
                if numbers.is_some() {
                    trace::sent(self);
                }
                let more = more.wrapping_add(header_len);
                let len = len.wrapping_add(packets.wrapping_sub(1).wrapping_mul(more));
                self.stats.count_tx(packets, len, bh);
                self.tunnel.counters().count_tx(packets, len, bh);
                Ok(())
            }
            Err(e) => {
                self.count_tx_error();
                Err(e)
            }
        }
    }

    /// Sends the segments of a packet one by one.
    #[cold]
    fn transmit_segments(
        &self,
        skb: Skb,
        header: &DataHeader,
        numbers: Option<&Atomic<u32>>,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Result {
        let segments = skb.segment().inspect_err(|_| self.count_tx_error())?;
        let mut sent = Ok(());
        for segment in segments {
            sent = sent.and(self.transmit_one(segment, header, numbers, guard, bh));
        }
        sent
    }

    /// Deals with a data message for this session. `skb` begins with the L2TP header, whose ids and
    /// version have been looked at; in version 3, `at` bytes of it ([`v3::OPTIONS_AT_UDP`] or
    /// [`v3::OPTIONS_AT_IP`]). Gives the packet back if the rest of the header is not there. Softirq.
    #[inline]
    pub fn receive(
        this: &Arc<Self>,
        mut skb: Skb,
        at: usize,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Result<(), Skb> {
        let len = skb.len();
        let (ns, payload) = match this.tunnel.version() {
            Version::V2 => match v2::parse(skb.head()) {
                Some(header) => (header.ns.map(u32::from), header.payload),
                None => return Err(skb),
            },
            Version::V3 => {
                let cookie_len = this.config.peer_cookie.len();
                let l2spec = this.config.l2spec;
                let want = v3::options_len(cookie_len, l2spec).saturating_add(at);
                let Some(bytes) = skb.pull_head(want) else {
                    return Err(skb);
                };
                let Some(header) = v3::parse(bytes, at, cookie_len, l2spec) else {
                    return Err(skb);
                };
                if this.config.peer_cookie != header.cookie {
                    this.stats.rx_cookie_discards.count();
                    this.stats.rx_errors.count();
                    discard_of(this, skb, Reason::Cookie);
                    return Ok(());
                }
                (header.ns, header.payload)
            }
        };

        let options = seq::Options {
            recv_seq: this.recv_seq(),
            send_seq: this.send_seq(),
            lns_mode: this.lns_mode(),
        };
        match options.judge(ns.is_some()) {
            Policy::Accept => (),
            Policy::AcceptAndSetSendSeq(on) => {
                trace::seqnum_by_lns(this, on);
                this.set_send_seq(on);
            }
            Policy::Discard => {
                this.stats.rx_seq_discards.count();
                this.stats.rx_errors.count();
                discard_of(this, skb, Reason::Unnumbered);
                return Ok(());
            }
        }

        if skb.pull_head(payload).is_none() || skb.pull(payload).is_none() {
            this.stats.rx_errors.count();
            discard_of(this, skb, Reason::Truncated);
            return Ok(());
        }

        // Reordering or not, a frame without a number waits for nobody, unless somebody waits.
        if ns.is_none() && !read_once(&this.holds_back) {
            this.deliver(skb, len, false, guard, bh);
        } else {
            Self::receive_in_order(this, skb, len, ns, guard, bh);
        }
        Ok(())
    }

    /// The length of the header of a v3 message, if it may be merged with others that have the same
    /// one: those with a frame that would be handed on at once, without a number.
    #[inline]
    pub fn merges(&self, message: &[u8], at: usize) -> Option<usize> {
        let header = v3::parse(
            message,
            at,
            self.config.peer_cookie.len(),
            self.config.l2spec,
        )?;
        let merges = matches!(self.pseudowire, Pseudowire::Eth(_))
            && header.ns.is_none()
            && header.cookie == self.config.peer_cookie
            && !self.recv_seq()
            && !read_once(&self.holds_back);
        merges.then_some(header.payload)
    }

    /// Delivers a frame that came in an L2TP message of `len` bytes.
    #[inline]
    fn deliver(
        &self,
        mut skb: Skb,
        len: usize,
        ordered: bool,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) {
        let (packets, more) = skb.inner_segments();
        let more = more.wrapping_add(len.wrapping_sub(skb.len()));
        let len = len.wrapping_add(packets.wrapping_sub(1).wrapping_mul(more));
        self.stats.count_rx(packets, len, bh);
        self.tunnel.counters().count_rx(packets, len, bh);
        if let Err(e) = self.pseudowire.deliver(self, skb, ordered, guard, bh) {
            self.undelivered(e);
        }
    }

    /// Tells that a frame could not be handed on.
    #[cold]
    fn undelivered(&self, e: Error) {
        if e != ENOTCONN {
            self.stats.rx_errors.count();
        } else if ratelimit::net_ratelimit() {
            // The first thing to see when a daemon has made a session and does not connect to it.
            let (tunnel_id, session_id) = (self.tunnel.tunnel_id().get(), self.session_id().get());
            pr_warn!("sess {tunnel_id}/{session_id}: no socket in recv\n");
        }
    }

    fn receive_in_order(
        this: &Arc<Self>,
        mut skb: Skb,
        len: usize,
        ns: Option<u32>,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) {
        // It may be held back: the socket that it is charged to need not wait for that.
        skb.orphan();
        let now = time::jiffies64();
        let config = seq::Config {
            timeout: this.reorder_timeout.load(Relaxed),
            max_bytes: REORDER_BYTES_MAX,
        };
        // CAST: Packets are shorter than 2^32.
        let bytes = len as u32;
        let mut ready = SkbList::new();
        {
            let mut rx = this.rx.lock();
            if rx.closed {
                drop(rx);
                discard_of(this, skb, Reason::Closed);
                return;
            }
            let Rx {
                receiver, waiting, ..
            } = &mut *rx;
            match receiver.receive(waiting, skb, ns, bytes, now, &config) {
                Outcome::Deliver(delivery) => this.make_ready(&mut ready, delivery),
                Outcome::Queued { oos } => {
                    if oos {
                        this.stats.rx_oos_packets.count();
                    }
                }
                Outcome::Discard { item, reason } => {
                    if reason.is_seq_discard() {
                        this.stats.rx_seq_discards.count();
                    }
                    this.stats.rx_errors.count();
                    if let Some(ns) = ns {
                        trace::refused(this, reason, ns, receiver.nr(), waiting.len());
                    }
                    discard_of(this, item, reason.into());
                }
            }
            Self::serve(this, &mut rx, &mut ready, now);
        }
        this.deliver_all(ready, guard, bh);
    }

    /// Takes out whatever can be delivered, or has waited long enough, and sets the timer for the
    /// rest.
    fn serve(this: &Arc<Self>, rx: &mut Rx, ready: &mut SkbList<u32>, now: u64) {
        loop {
            let nr = rx.receiver.nr();
            let Some(delivery) = rx.receiver.serve(&mut rx.waiting, now) else {
                break;
            };
            if let Some(ns) = delivery.ns.filter(|_| delivery.reset) {
                trace::expired(this, ns, nr, rx.waiting.len());
            }
            this.make_ready(ready, delivery);
        }
        this.holds_back.store(!rx.waiting.is_empty(), Relaxed);
        if let Some(expires) = rx.receiver.next_expiry(&rx.waiting) {
            this.timer
                .start(this, expires.saturating_sub(now).saturating_add(1));
        }
    }

    fn make_ready(&self, ready: &mut SkbList<u32>, delivery: Delivery<Skb>) {
        trace::delivered(self, &delivery);
        if delivery.oos {
            self.stats.rx_oos_packets.count();
        }
        ready.push_back(delivery.item, delivery.bytes);
    }

    fn deliver_all(&self, mut ready: SkbList<u32>, guard: &rcu::Guard, bh: &bottom_half::Guard) {
        while let Some(bytes) = ready.front() {
            if let Some(skb) = ready.pop_front() {
                // CAST: 32 bits fit.
                self.deliver(skb, bytes as usize, true, guard, bh);
            }
        }
    }

    /// Frees the frames that wait, and sees to it that none waits any more. Counts them as errors,
    /// as C does. Sleeps.
    pub fn purge(&self) {
        let mut rx = self.rx.lock();
        rx.closed = true;
        let Rx {
            receiver, waiting, ..
        } = &mut *rx;
        while let Some(skb) = receiver.purge(waiting) {
            self.stats.rx_errors.count();
            discard_of(self, skb, Reason::Closed);
        }
        drop(rx);
        self.timer.stop();
    }

    /// Has what is left of the session, which is in no table any more, closed by `queue`.
    pub fn finish_later(self: Arc<Self>, queue: &workqueue::OwnedQueue) {
        // Only the one who has taken the session out of the tables comes here, so that the work is
        // not queued yet.
        let _ = queue.enqueue(self);
    }
}

impl WorkItem for Session {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        pseudowire::close_all(|close| close(&this));
    }
}

impl Expire for Session {
    fn expire(this: Arc<Self>) {
        let guard = rcu::read_lock();
        let mut ready = SkbList::new();
        {
            let mut rx = this.rx.lock();
            if rx.closed {
                return;
            }
            Self::serve(&this, &mut rx, &mut ready, time::jiffies64());
        }
        this.deliver_all(ready, &guard, &bottom_half::Guard::new());
    }
}

impl Queue for SkbList<Slot> {
    type Item = Skb;

    fn len(&self) -> usize {
        SkbList::len(self)
    }

    fn front(&self) -> Option<Slot> {
        SkbList::front(self)
    }

    fn pop_front(&mut self) -> Option<Skb> {
        SkbList::pop_front(self)
    }

    fn push_back(&mut self, skb: Skb, slot: Slot) {
        SkbList::push_back(self, skb, slot);
    }

    fn insert(
        &mut self,
        skb: Skb,
        slot: Slot,
        mut look: impl FnMut(&mut Slot, &Slot) -> Look,
    ) -> Result<(), Skb> {
        SkbList::insert(self, skb, slot, |slot, other| match look(slot, other) {
            Look::Before => Step::Before,
            Look::Pass => Step::Pass,
            Look::Stop => Step::Stop,
            Look::Refuse => Step::Refuse,
        })
    }
}

/// Milliseconds in ticks. What does not fit is as long as can be.
fn ticks(ms: u32) -> u32 {
    u32::try_from(time::msecs_to_jiffies64(ms)).unwrap_or(u32::MAX)
}
