// SPDX-License-Identifier: GPL-2.0

//! Sequence decisions: the table and the examples that were observed with the C modules, the
//! defects that are not to come back, and properties against a naive model.

use l2tp_host::{
    seq::*,
    wire::ids::Version,
    VecQueue, //
};
use proptest::prelude::*;

const TIMEOUT: u32 = 100;

/// What an observer sees of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Delivered frames.
    out: Vec<u32>,
    rx_errors: u32,
    rx_seq_discards: u32,
    rx_oos_packets: u32,
    /// Trace events that say what Nr became.
    resets: Vec<u32>,
}

/// Does what the kernel side is told to do.
struct Session {
    rx: Receiver,
    space: Space,
    queue: VecQueue<u32>,
    config: Config,
    now: u64,
    seen: Seen,
}

impl Session {
    fn new(space: Space, timeout: u32) -> Self {
        Self {
            rx: Receiver::new(space),
            space,
            queue: VecQueue::new(),
            config: Config {
                timeout,
                max_bytes: u32::MAX,
            },
            now: 0,
            seen: Seen::default(),
        }
    }

    fn deliver(&mut self, delivery: Delivery<u32>) {
        self.seen.out.push(delivery.item);
        self.seen.rx_oos_packets += u32::from(delivery.oos);
        if let Some(ns) = delivery.ns {
            if delivery.reset {
                self.seen.resets.push(ns);
            }
            assert_eq!(self.rx.nr(), self.space.next(ns));
        } else {
            assert!(!delivery.reset && !delivery.oos);
        }
    }

    fn serve(&mut self) {
        while let Some(delivery) = self.rx.serve(&mut self.queue, self.now) {
            self.deliver(delivery);
        }
    }

    fn receive(&mut self, item: u32, ns: Option<u32>, bytes: u32) -> Option<Reason> {
        let (queue, now) = (&mut self.queue, self.now);
        let outcome = self.rx.receive(queue, item, ns, bytes, now, &self.config);
        let mut refused = None;
        match outcome {
            Outcome::Deliver(delivery) => {
                assert_eq!(delivery.bytes, bytes);
                self.deliver(delivery);
            }
            Outcome::Queued { oos } => self.seen.rx_oos_packets += u32::from(oos),
            Outcome::Discard { item: back, reason } => {
                assert_eq!(back, item);
                self.seen.rx_errors += 1;
                self.seen.rx_seq_discards += u32::from(reason.is_seq_discard());
                refused = Some(reason);
            }
        }
        if !self.queue.is_empty() {
            self.serve();
        }
        refused
    }

    /// Receives a frame that is named after its number.
    fn frame(&mut self, ns: u32) -> Option<Reason> {
        self.receive(ns, Some(ns), 100)
    }

    fn frames(&mut self, numbers: &[u32]) {
        for &ns in numbers {
            self.frame(ns);
        }
    }

    /// Receives a frame without a number.
    fn bare(&mut self, name: u32) {
        assert_eq!(self.receive(name, None, 100), None);
    }

    /// Lets time pass with a timer that works.
    fn wait(&mut self, ticks: u64) {
        let end = self.now + ticks;
        while let Some(at) = self.rx.next_expiry(&self.queue).filter(|at| *at <= end) {
            // It may be overdue if nobody looked.
            self.now = self.now.max(at);
            let before = self.seen.out.len();
            self.serve();
            assert!(self.seen.out.len() > before, "woken for nothing");
        }
        self.now = end;
    }

    /// Brings Nr to `before` numbers before the wrap, and forgets what was seen.
    fn near_wrap(space: Space, timeout: u32, before: u32) -> Self {
        let mut session = Self::new(space, 0);
        let window = space.window();
        session.frame(window - 1);
        // Two jumps, each as far as the window allows. A jump takes a run of six.
        let last = space.mask() - before;
        session.frames(&[
            last - 6,
            last - 5,
            last - 4,
            last - 3,
            last - 2,
            last - 1,
            last,
        ]);
        assert_eq!(session.seen.out, [window - 1, last - 1, last]);
        assert_eq!(session.rx.nr(), space.next(last));
        session.seen = Seen::default();
        session.config.timeout = timeout;
        session
    }

    #[track_caller]
    fn check(&self, out: &[u32], errors: u32, seq_discards: u32, oos: u32) {
        assert_eq!(self.seen.out, out, "delivered");
        assert_eq!(self.seen.rx_errors, errors, "rx_errors");
        assert_eq!(self.seen.rx_seq_discards, seq_discards, "rx_seq_discards");
        assert_eq!(self.seen.rx_oos_packets, oos, "rx_oos_packets");
    }
}

// ---- policy and numbers ----

#[test]
fn policy_table() {
    use Policy::*;

    // numbered, recv_seq, lns_mode, send_seq; `None` is "any".
    type Row = (bool, Option<bool>, Option<bool>, Option<bool>, Policy);
    let (no, yes) = (Some(false), Some(true));
    #[rustfmt::skip]
    let table: [Row; 7] = [
        (true,  None, no,   no,   AcceptAndSetSendSeq(true)),
        (true,  None, no,   yes,  Accept),
        (true,  None, yes,  None, Accept),
        (false, yes,  None, None, Discard),
        (false, no,   no,   yes,  AcceptAndSetSendSeq(false)),
        (false, no,   yes,  yes,  Discard),
        (false, no,   None, no,   Accept),
    ];
    for bits in 0..16 {
        let bit = |n: u32| (bits >> n) & 1 != 0;
        let (numbered, recv_seq, lns_mode, send_seq) = (bit(0), bit(1), bit(2), bit(3));
        let matches = |want: Option<bool>, is| want.is_none_or(|want| want == is);
        let rows: Vec<_> = table
            .iter()
            .filter(|row| row.0 == numbered && matches(row.1, recv_seq))
            .filter(|row| matches(row.2, lns_mode) && matches(row.3, send_seq))
            .collect();
        assert_eq!(rows.len(), 1);
        let options = Options {
            recv_seq,
            send_seq,
            lns_mode,
        };
        assert_eq!(options.judge(numbered), rows[0].4, "{options:?} {numbered}");
    }
}

#[test]
fn spaces() {
    assert_eq!(Space::from(Version::V2), Space::V2);
    assert_eq!(Space::from(Version::V3), Space::V3);
    assert_eq!(Space::V2.window(), 32767);
    assert_eq!(Space::V3.window(), 8388607);
    assert_eq!(Space::V2.next(0xffff), 0);
    assert_eq!(Space::V3.next(0xff_ffff), 0);
    assert_eq!(Space::V3.next(0xffff), 0x1_0000);
    assert_eq!(Space::V2.distance(0xfffe, 1), 3);
    assert_eq!(Space::V3.distance(1, 0), 0xff_ffff);
    assert_eq!(Space::V2.wrap(u32::MAX), 0xffff);
    assert_eq!(Space::V3.next(u32::MAX), 0);
}

#[test]
fn reasons_count() {
    assert!(!Reason::OutsideWindow.is_seq_discard());
    assert!(!Reason::Duplicate.is_seq_discard());
    assert!(Reason::OutOfSequence.is_seq_discard());
    assert!(Reason::QueueFull.is_seq_discard());
}

// ---- window ----

#[test]
fn first_frame_may_have_any_number() {
    for timeout in [0, TIMEOUT] {
        for space in [Space::V2, Space::V3] {
            let window = space.window();
            for ns in [0, 1, 5, window - 1, window, window + 1, space.mask()] {
                let mut session = Session::new(space, timeout);
                // One without a number does not count.
                session.bare(u32::MAX);
                assert_eq!(session.frame(ns), None);
                session.check(&[u32::MAX, ns], 0, 0, 0);
                assert_eq!(session.seen.resets, [ns]);
                assert_eq!(session.rx.nr(), space.next(ns));
                assert_eq!(session.frame(ns), Some(Reason::OutsideWindow));
            }
        }
    }
}

#[test]
fn window_moves_with_nr() {
    for timeout in [0, TIMEOUT] {
        for space in [Space::V2, Space::V3] {
            let mut session = Session::new(space, timeout);
            session.frames(&[0, 1, 2, 3, 4]);
            assert_eq!(
                session.frame(5 + space.window()),
                Some(Reason::OutsideWindow)
            );
            session.check(&[0, 1, 2, 3, 4], 1, 0, 0);
            assert_ne!(
                session.frame(5 + space.window() - 1),
                Some(Reason::OutsideWindow)
            );
        }
    }
}

#[test]
fn late_duplicate_is_outside() {
    for timeout in [0, TIMEOUT] {
        let mut session = Session::new(Space::V2, timeout);
        session.frames(&[0, 1]);
        assert_eq!(session.frame(1), Some(Reason::OutsideWindow));
        assert_eq!(session.frame(0), Some(Reason::OutsideWindow));
        session.frame(2);
        session.check(&[0, 1, 2], 2, 0, 0);
    }
}

#[test]
fn follows_a_peer_that_starts_again() {
    for timeout in [0, TIMEOUT] {
        let mut session = Session::new(Space::V3, timeout);
        session.frame(1000);
        session.frames(&(0..67).collect::<Vec<_>>());
        session.check(&[1000, 64, 65, 66], 64, 0, 0);
        assert_eq!(session.seen.resets, [1000, 64]);
    }
}

#[test]
fn what_waits_goes_before_the_peer_starts_again() {
    let mut session = Session::new(Space::V3, TIMEOUT);
    session.frames(&[1000, 1003, 1005]);
    session.frames(&(0..66).collect::<Vec<_>>());
    session.check(&[1000, 1003, 1005, 64, 65], 64, 0, 0);
    assert!(session.queue.is_empty());
    assert_eq!(session.rx.nr(), 66);
}

#[test]
fn nothing_follows_a_full_queue() {
    let mut session = Session::new(Space::V3, TIMEOUT);
    session.config.max_bytes = 300;
    session.frames(&[1000, 1003, 1005, 1007]);
    session.frames(&(0..64).collect::<Vec<_>>());
    session.check(&[1000], 64, 0, 0);
    // The peer has started again, but what waits leaves no room for its frame.
    assert_eq!(session.frame(64), Some(Reason::QueueFull));
    session.check(&[1000], 65, 1, 0);
    // Once there is, it is followed.
    session.wait(u64::from(TIMEOUT) + 1);
    session.frame(65);
    session.check(&[1000, 1003, 1005, 1007, 65], 65, 1, 0);
}

#[test]
fn duplicates_are_not_followed() {
    for timeout in [0, TIMEOUT] {
        let mut session = Session::new(Space::V2, timeout);
        let all: Vec<u32> = (0..200).collect();
        session.frames(&all);
        session.frames(&all[..64]);
        session.frame(200);
        session.frames(&all[64..128]);
        assert_eq!(session.seen.out, (0..201).collect::<Vec<_>>());
    }
}

#[test]
fn one_frame_far_ahead_does_not_silence() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    let far = session.space.window() - 10;
    session.frames(&[0, far, 1, 2]);
    session.wait(u64::from(TIMEOUT) + 1);
    session.check(&[0, 1, 2, far], 0, 0, 2);
    session.frames(&(3..70).collect::<Vec<_>>());
    session.check(&[0, 1, 2, far, 67, 68, 69], 64, 0, 2);
}

// ---- reordering off ----

#[test]
fn off_follows_the_sixth_of_a_run() {
    let mut session = Session::new(Space::V2, 0);
    session.frames(&[0, 2, 3, 4, 5, 6]);
    session.check(&[0], 5, 5, 0);
    assert_eq!(session.seen.resets, [0]);
    session.frames(&[7, 8]);
    session.check(&[0, 7, 8], 5, 5, 0);
    assert_eq!(session.seen.resets, [0, 7]);
}

#[test]
fn off_drops_what_came_early() {
    let mut session = Session::new(Space::V2, 0);
    session.frame(0);
    assert_eq!(session.frame(2), Some(Reason::OutOfSequence));
    session.frame(1);
    session.check(&[0, 1], 1, 1, 0);
    // Bare frames do not wait for anything.
    session.bare(1000);
    session.check(&[0, 1, 1000], 1, 1, 0);
    assert!(session.queue.is_empty());
}

#[test]
fn off_run_restarts_at_a_gap() {
    let mut session = Session::new(Space::V2, 0);
    session.frames(&[0, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]);
    session.check(&[0], 10, 10, 0);
    session.frame(13);
    session.check(&[0, 13], 10, 10, 0);
}

#[test]
fn off_run_survives_frames_in_sequence() {
    let mut session = Session::new(Space::V2, 0);
    session.frames(&[0, 2, 3, 4, 1, 5, 6, 7]);
    session.check(&[0, 1, 7], 5, 5, 0);
}

#[test]
fn off_run_goes_on_across_the_wrap() {
    for space in [Space::V2, Space::V3] {
        let mut session = Session::near_wrap(space, 0, 5);
        let mask = space.mask();
        session.frames(&[mask - 3, mask - 2, mask - 1, mask, 0]);
        session.check(&[], 5, 5, 0);
        session.frames(&[1, 2]);
        session.check(&[1, 2], 5, 5, 0);
    }
}

#[test]
fn in_sequence_across_the_wrap() {
    for timeout in [0, TIMEOUT] {
        for space in [Space::V2, Space::V3] {
            let mut session = Session::near_wrap(space, timeout, 2);
            let mask = space.mask();
            session.frames(&[mask - 1, mask, 0, 1]);
            session.check(&[mask - 1, mask, 0, 1], 0, 0, 0);
            assert_eq!(session.rx.nr(), 2);
        }
    }
}

// ---- reordering on ----

#[test]
fn on_sorts() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2, 1]);
    session.check(&[0, 1, 2], 0, 0, 1);
    session.frames(&[6, 5, 4]);
    session.check(&[0, 1, 2], 0, 0, 3);
    session.frame(3);
    session.check(&[0, 1, 2, 3, 4, 5, 6], 0, 0, 4);
    assert_eq!(session.seen.resets, [0]);
    assert_eq!(session.rx.next_expiry(&session.queue), None);
}

#[test]
fn on_delivers_what_waited_long_enough() {
    // Time passes, nobody looks.
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2]);
    session.now += u64::from(TIMEOUT) + 1;
    session.frame(3);
    session.check(&[0, 2, 3], 0, 0, 0);
    assert_eq!(session.seen.resets, [0, 2]);

    // With a timer the outcome is the same, but nothing is kept meanwhile.
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2]);
    assert_eq!(session.rx.next_expiry(&session.queue), Some(101));
    session.wait(100);
    session.check(&[0], 0, 0, 0);
    session.wait(1);
    session.check(&[0, 2], 0, 0, 0);
    assert!(session.queue.is_empty());
    session.frame(3);
    session.check(&[0, 2, 3], 0, 0, 0);
    assert_eq!(session.seen.resets, [0, 2]);
}

#[test]
fn on_each_waits_for_its_own_time() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2]);
    session.wait(50);
    session.frames(&[3, 4, 6]);
    session.wait(50);
    session.check(&[0], 0, 0, 0);
    session.wait(1);
    session.check(&[0, 2, 3, 4], 0, 0, 0);
    assert_eq!(session.seen.resets, [0, 2]);
    session.frame(5);
    session.check(&[0, 2, 3, 4, 5, 6], 0, 0, 1);
    // The missing frame is late now.
    assert_eq!(session.frame(1), Some(Reason::OutsideWindow));
}

#[test]
fn on_nobody_waits_longer_for_a_frame_put_before_him() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 5]);
    session.wait(40);
    session.frames(&[9, 3]);
    session.wait(40);
    session.frame(2);
    session.wait(20);
    session.check(&[0], 0, 0, 2);
    // The time of the 5 is up, for which the 3 and the 2 go ahead; not that of the 9.
    session.wait(1);
    session.check(&[0, 2, 3, 5], 0, 0, 2);
    assert_eq!(session.seen.resets, [0, 2, 5]);
    session.wait(39);
    session.check(&[0, 2, 3, 5], 0, 0, 2);
    session.wait(1);
    session.check(&[0, 2, 3, 5, 9], 0, 0, 2);
}

#[test]
fn on_drops_duplicates_of_waiting_frames() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2, 4]);
    assert_eq!(session.frame(2), Some(Reason::Duplicate));
    assert_eq!(session.frame(4), Some(Reason::Duplicate));
    session.check(&[0], 2, 0, 0);
    session.frames(&[1, 3, 5]);
    session.check(&[0, 1, 2, 3, 4, 5], 2, 0, 2);
    assert!(session.queue.is_empty());
}

#[test]
fn on_sorts_across_the_wrap() {
    for space in [Space::V2, Space::V3] {
        let mask = space.mask();
        let mut session = Session::near_wrap(space, TIMEOUT, 1);
        session.frames(&[1, 0]);
        session.check(&[], 0, 0, 1);
        session.frame(mask);
        session.check(&[mask, 0, 1], 0, 0, 2);

        let mut session = Session::near_wrap(space, TIMEOUT, 3);
        session.frames(&[0, mask, mask - 1, 1, mask - 2]);
        session.check(&[mask - 2, mask - 1, mask, 0, 1], 0, 0, 3);
    }
}

#[test]
fn on_bare_frames_queue_up() {
    // Nothing waits: at once.
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.bare(1000);
    session.frame(0);
    session.bare(1001);
    session.check(&[1000, 0, 1001], 0, 0, 0);

    // Behind what waits, and before what comes later.
    session.frame(2);
    session.bare(1002);
    session.frame(3);
    session.bare(1003);
    session.check(&[1000, 0, 1001], 0, 0, 0);
    session.frame(1);
    session.check(&[1000, 0, 1001, 1, 2, 1002, 3, 1003], 0, 0, 1);
}

#[test]
fn on_bare_frames_do_not_hide_the_order() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 6]);
    session.bare(1000);
    session.bare(1001);
    // Both belong before 6, so the bare frames must not stop the search.
    session.frames(&[4, 3]);
    session.bare(1002);
    session.frame(5);
    assert_eq!(session.frame(6), Some(Reason::Duplicate));
    session.frames(&[2, 1]);
    session.check(&[0, 1, 2, 3, 4, 5, 6, 1000, 1001, 1002], 1, 0, 5);
}

#[test]
fn on_bare_frames_expire_too() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frames(&[0, 2]);
    session.bare(1000);
    session.wait(1);
    session.bare(1001);
    session.wait(100);
    // They have no one left to wait for.
    session.check(&[0, 2, 1000, 1001], 0, 0, 0);
}

#[test]
fn on_queue_is_bounded_in_frames() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.frame(0);
    assert_eq!(QUEUE_LEN_MAX, 1024);
    let last = 1 + QUEUE_LEN_MAX as u32;
    for ns in 2..=last {
        assert_eq!(session.frame(ns), None);
    }
    assert_eq!(session.queue.len(), QUEUE_LEN_MAX);
    assert_eq!(session.frame(last + 1), Some(Reason::QueueFull));
    assert_eq!(session.receive(9, None, 1), Some(Reason::QueueFull));
    session.check(&[0], 2, 2, 0);
    // The one that helps is always welcome.
    session.frame(1);
    session.check(&(0..=last).collect::<Vec<_>>(), 2, 2, 1);
}

#[test]
fn on_queue_is_bounded_in_bytes() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.config.max_bytes = 250;
    session.frames(&[0, 2, 3]);
    assert_eq!(session.frame(4), Some(Reason::QueueFull));
    assert_eq!(session.receive(4, Some(4), 51), Some(Reason::QueueFull));
    assert_eq!(session.receive(4, Some(4), 50), None);
    assert_eq!(session.receive(5, None, 1), Some(Reason::QueueFull));
    assert_eq!(session.receive(5, None, u32::MAX), Some(Reason::QueueFull));
    // What leaves makes room again, whichever way it leaves.
    session.frame(1);
    session.check(&[0, 1, 2, 3, 4], 4, 4, 1);
    assert_eq!(session.receive(6, Some(6), 250), None);
    session.wait(101);
    session.check(&[0, 1, 2, 3, 4, 6], 4, 4, 1);
    session.frame(7);
    assert_eq!(session.receive(9, Some(9), 250), None);
    // Leaves by `purge`.
    assert_eq!(session.rx.purge(&mut session.queue), Some(9));
    assert_eq!(session.rx.purge(&mut session.queue), None);
    assert_eq!(session.receive(9, Some(9), 250), None);
}

#[test]
fn on_bounds_do_not_apply_to_what_need_not_wait() {
    let mut session = Session::new(Space::V2, TIMEOUT);
    session.config.max_bytes = 0;
    session.frames(&[5, 6]);
    session.bare(1000);
    session.check(&[5, 6, 1000], 0, 0, 0);
    assert_eq!(session.frame(8), Some(Reason::QueueFull));
}

#[test]
fn numbers_are_cut_to_their_space() {
    for (space, ns) in [(Space::V2, 0xabcd_0000), (Space::V3, 0xab00_0000)] {
        for timeout in [0, TIMEOUT] {
            let mut session = Session::new(space, timeout);
            session.frames(&[ns, ns + 1]);
            assert_eq!(session.seen.resets, [0]);
            assert_eq!(session.rx.nr(), 2);
            session.frame(ns + 3);
            let waiting = session.queue.0.front().map(|(slot, _)| slot.ns);
            assert_eq!(waiting, (timeout != 0).then_some(Some(3)));
        }
    }
}

#[test]
fn no_deadline_overflows() {
    let mut session = Session::new(Space::V2, u32::MAX);
    session.now = u64::MAX - 5;
    session.frames(&[0, 2]);
    assert_eq!(session.rx.next_expiry(&session.queue), Some(u64::MAX));
    session.now = u64::MAX;
    session.serve();
    session.check(&[0], 0, 0, 0);
}

#[test]
fn turning_it_off_empties_the_queue() {
    for numbered in [true, false] {
        let mut session = Session::new(Space::V2, TIMEOUT);
        session.frames(&[0, 2, 3, 5]);
        session.bare(1000);
        session.config.timeout = 0;
        if numbered {
            session.frame(7);
            session.check(&[0, 2, 3, 5, 1000, 7], 0, 0, 0);
            assert_eq!(session.seen.resets, [0, 2, 5, 7]);
            // From here on it is off.
            assert_eq!(session.frame(9), Some(Reason::OutOfSequence));
        } else {
            session.bare(1001);
            session.check(&[0, 2, 3, 5, 1000, 1001], 0, 0, 0);
            assert_eq!(session.frame(7), Some(Reason::OutOfSequence));
        }
        assert!(session.queue.is_empty());
        // And on again.
        session.config.timeout = TIMEOUT;
        session.frame(session.rx.nr() + 1);
        assert_eq!(session.queue.len(), 1);
    }
}

// ---- naive models ----

/// Numbers without a modulus, and a list that is searched from the front.
struct Model {
    size: u64,
    window: u64,
    /// Nr plus some multiple of `size`.
    next: u64,
    fresh: bool,
    held: Vec<(Option<u64>, u64, u32)>,
    /// The last number out of sequence, modulo `size`, and those before it in a row.
    stray: (u64, u32),
    seen: Seen,
}

impl Model {
    fn new(space: Space) -> Self {
        let (size, window) = match space {
            Space::V2 => (1 << 16, 32767),
            Space::V3 => (1 << 24, 8388607),
        };
        Self {
            size,
            window,
            next: 0,
            fresh: true,
            held: Vec::new(),
            stray: (0, 0),
            seen: Seen::default(),
        }
    }

    fn accept(&mut self, number: u64, item: u32) {
        if self.fresh || number != self.next {
            self.seen.resets.push((number % self.size) as u32);
        }
        self.fresh = false;
        self.next = number + 1;
        self.seen.out.push(item);
    }

    fn receive(&mut self, item: u32, ns: Option<u32>, now: u64, timeout: u64) {
        let number = ns.map(|ns| {
            let mut number = self.next / self.size * self.size + u64::from(ns);
            if number < self.next {
                number += self.size;
            }
            number
        });
        match number {
            Some(number) if self.fresh => self.accept(number, item),
            Some(number) if number - self.next >= self.window => self.seen.rx_errors += 1,
            Some(number) if timeout == 0 => {
                if number != self.next {
                    let (before, run) = self.stray;
                    let modulo = number % self.size;
                    let run = if (before + 1) % self.size == modulo {
                        run + 1
                    } else {
                        0
                    };
                    self.stray = (modulo, run);
                    if run < 5 {
                        self.seen.rx_errors += 1;
                        self.seen.rx_seq_discards += 1;
                        return;
                    }
                }
                self.accept(number, item);
            }
            Some(number) => {
                let full = self.held.len() >= 1024;
                if full && number != self.next {
                    self.seen.rx_errors += 1;
                    self.seen.rx_seq_discards += 1;
                } else if self.held.iter().any(|held| held.0 == Some(number)) {
                    self.seen.rx_errors += 1;
                } else {
                    let later = |held: &(Option<u64>, u64, u32)| held.0 > Some(number);
                    let place = self.held.iter().position(later);
                    self.seen.rx_oos_packets += u32::from(place.is_some());
                    let place = place.unwrap_or(self.held.len());
                    self.held.insert(place, (Some(number), now + timeout, item));
                }
            }
            None => self.held.push((None, now + timeout, item)),
        }
        self.serve(now);
    }

    fn serve(&mut self, now: u64) {
        while let Some(&(number, _, item)) = self.held.first() {
            if let Some(number) = number {
                // The head waits as long as everybody can.
                let patient = self.held.iter().all(|held| held.1 >= now);
                if patient && number != self.next {
                    break;
                }
                self.accept(number, item);
            } else {
                self.seen.out.push(item);
            }
            self.held.remove(0);
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A number relative to Nr.
    Near(i32),
    /// Any number.
    Far(u32),
    /// Relative to the last one sent.
    Next(u32),
    Bare,
    Wait(u64),
    /// Time passes and no timer fires.
    Sleep(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (-4i32..12).prop_map(Op::Near),
        1 => any::<u32>().prop_map(Op::Far),
        8 => (0u32..3).prop_map(Op::Next),
        2 => Just(Op::Bare),
        2 => (0u64..60).prop_map(Op::Wait),
        1 => (0u64..60).prop_map(Op::Sleep),
    ]
}

fn any_space() -> impl Strategy<Value = Space> {
    prop_oneof![Just(Space::V2), Just(Space::V3)]
}

/// Runs `ops` on a session and the model, comparing everything after each.
fn run_against_model(
    mut session: Session,
    mut model: Model,
    ops: &[Op],
) -> Result<(), TestCaseError> {
    let timeout = u64::from(session.config.timeout);
    let mut last = session.rx.nr();
    for (item, op) in ops.iter().enumerate() {
        let item = item as u32;
        let space = session.space;
        let ns = match *op {
            Op::Near(n) => Some(space.wrap(session.rx.nr().wrapping_add_signed(n))),
            Op::Far(n) => Some(space.wrap(n)),
            Op::Next(n) => Some(space.wrap(last.wrapping_add(n))),
            Op::Bare => None,
            Op::Wait(ticks) => {
                let end = session.now + ticks;
                for now in session.now..=end {
                    model.serve(now);
                }
                session.wait(ticks);
                continue;
            }
            Op::Sleep(ticks) => {
                session.now += ticks;
                continue;
            }
        };
        last = ns.unwrap_or(last);
        session.receive(item, ns, 100);
        model.receive(item, ns, session.now, timeout);

        prop_assert_eq!(&session.seen, &model.seen);
        prop_assert_eq!(u64::from(session.rx.nr()), model.next % model.size);
        let queued: Vec<_> = session.queue.0.iter().map(|(_, item)| *item).collect();
        let held: Vec<_> = model.held.iter().map(|held| held.2).collect();
        prop_assert_eq!(queued, held);
    }
    Ok(())
}

/// A session and a model that agree on Nr, from the start or shortly before the wrap.
fn pair(space: Space, timeout: u32, wrap: Option<u32>) -> (Session, Model) {
    let mut model = Model::new(space);
    let Some(before) = wrap else {
        return (Session::new(space, timeout), model);
    };
    let session = Session::near_wrap(space, timeout, before);
    model.next = u64::from(space.mask() - before) + 1;
    model.fresh = false;
    // The run that brought it there.
    model.stray = (u64::from(space.mask() - before - 1), 5);
    (session, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn off_agrees_with_model(
        space in any_space(),
        wrap in prop::option::of(1u32..30),
        ops in prop::collection::vec(any_op(), 0..120),
    ) {
        let (session, model) = pair(space, 0, wrap);
        run_against_model(session, model, &ops)?;
    }

    #[test]
    fn on_agrees_with_model(
        space in any_space(),
        timeout in 1u32..100,
        wrap in prop::option::of(1u32..30),
        ops in prop::collection::vec(any_op(), 0..120),
    ) {
        let (session, model) = pair(space, timeout, wrap);
        run_against_model(session, model, &ops)?;
    }

    /// Frames that are shuffled within the window, some of them doubled, all come out in order.
    #[test]
    fn on_restores_the_order(
        space in any_space(),
        before in 1u32..200,
        keys in prop::collection::vec((0u32..40, any::<bool>()), 1..200),
    ) {
        let mut session = Session::near_wrap(space, TIMEOUT, before);
        let first = session.rx.nr();
        let mut sent = Vec::new();
        for (at, (jitter, twice)) in keys.iter().enumerate() {
            let ns = space.wrap(first + at as u32);
            sent.push((at as u32 + jitter, ns));
            if *twice {
                sent.push((at as u32 + 2 * jitter, ns));
            }
        }
        sent.sort_by_key(|(when, _)| *when);
        let copies = (sent.len() - keys.len()) as u32;
        for (_, ns) in sent {
            session.frame(ns);
        }
        let expected: Vec<_> = (0..keys.len() as u32).map(|at| space.wrap(first + at)).collect();
        prop_assert_eq!(&session.seen.out, &expected);
        prop_assert_eq!(session.seen.rx_errors, copies);
        prop_assert_eq!(session.seen.rx_seq_discards, 0);
    }

    /// Whatever happens, reordering turned on and off included: every frame is accounted for once,
    /// the bounds hold, bytes are not lost, and an idle session ends up with an empty queue.
    #[test]
    fn nothing_is_lost_or_stuck(
        space in any_space(),
        wrap in prop::option::of(1u32..30),
        max_bytes in 0u32..4000,
        ops in prop::collection::vec((any_op(), prop::option::weighted(0.1, 0u32..80), 0u32..400), 0..200),
    ) {
        let (mut session, _) = pair(space, 50, wrap);
        session.config.max_bytes = max_bytes;
        let mut last = session.rx.nr();
        let mut frames = 0;
        for (op, timeout, bytes) in ops {
            session.config.timeout = timeout.unwrap_or(session.config.timeout);
            let ns = match op {
                Op::Near(n) => Some(space.wrap(session.rx.nr().wrapping_add_signed(n))),
                Op::Far(n) => Some(n),
                Op::Next(n) => Some(space.wrap(last.wrapping_add(n))),
                Op::Bare => None,
                Op::Wait(ticks) => { session.wait(ticks); continue; }
                Op::Sleep(ticks) => { session.now += ticks; continue; }
            };
            last = ns.unwrap_or(last);
            session.receive(frames, ns, bytes);
            frames += 1;

            let queue = &session.queue.0;
            let used = queue.iter().map(|(slot, _)| slot.bytes).sum::<u32>();
            prop_assert!(used <= max_bytes);
            prop_assert!(queue.len() <= QUEUE_LEN_MAX);
            prop_assert!(queue.is_empty() || session.config.timeout != 0);
            // The invariants of `Receiver`.
            let distance = |ns| space.distance(session.rx.nr(), ns);
            let order: Vec<_> = queue.iter().filter_map(|(slot, _)| slot.ns.map(distance)).collect();
            prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(order.iter().all(|distance| (1..space.window()).contains(distance)));
            prop_assert!(queue.front().is_none_or(|(slot, _)| slot.ns.is_some()));
            let sum = session.seen.out.len() + session.seen.rx_errors as usize + queue.len();
            prop_assert_eq!(sum, frames as usize);
        }
        let mut unique = session.seen.out.clone();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), session.seen.out.len());

        session.wait(200);
        prop_assert!(session.queue.is_empty());
        // All bytes are back: the whole limit may wait again.
        session.config.timeout = 1;
        session.receive(frames, Some(session.rx.nr()), 0);
        session.receive(frames, Some(session.rx.nr().wrapping_add(1)), max_bytes);
        prop_assert_eq!(session.queue.len(), 1);
    }
}
