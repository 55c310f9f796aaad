// SPDX-License-Identifier: GPL-2.0

use crate::{
    seq::*,
    VecQueue, //
};

/// Feeds frames, waits and changes of configuration to a receiver, and checks its invariants.
pub fn seq(input: &[u8]) {
    let Some((&first, input)) = input.split_first() else {
        return;
    };
    let space = if first & 1 != 0 { Space::V2 } else { Space::V3 };
    let mut rx = Receiver::new(space);
    let mut queue = VecQueue::new();
    let mut config = Config {
        timeout: u32::from(first >> 1),
        max_bytes: 1 << 16,
    };
    let mut now = 0u64;
    let (mut received, mut returned) = (0usize, 0usize);

    for op in input.chunks_exact(4) {
        let [kind, a, b, c] = *op else { return };
        let number = u32::from_be_bytes([0, a, b, c]);
        let ns = match kind % 8 {
            // Around Nr, anywhere, or none.
            0..=3 => Some(space.wrap(rx.nr().wrapping_add(number % 16).wrapping_sub(4))),
            4 => Some(number),
            5 => None,
            6 => {
                now = now.saturating_add(u64::from(number) << (kind >> 2));
                returned += serve(&mut rx, &mut queue, now);
                continue;
            }
            _ => {
                config.timeout = number;
                continue;
            }
        };
        received += 1;
        match rx.receive(&mut queue, (), ns, u32::from(kind) << 4, now, &config) {
            Outcome::Queued { .. } => (),
            Outcome::Deliver(_) | Outcome::Discard { .. } => returned += 1,
        }
        returned += serve(&mut rx, &mut queue, now);

        assert_eq!(received, returned + queue.len());
        assert!(queue.len() <= QUEUE_LEN_MAX);
        let bytes: u64 = queue.0.iter().map(|(slot, ())| u64::from(slot.bytes)).sum();
        assert!(bytes <= u64::from(config.max_bytes));
        let mut before = 0;
        for (slot, ()) in &queue.0 {
            if let Some(ns) = slot.ns {
                let distance = space.distance(rx.nr(), ns);
                assert!(before < distance && distance < space.window());
                before = distance;
            }
        }
        assert!(queue.front().is_none_or(|slot| slot.ns.is_some()));
    }

    // The timer alone empties the queue.
    while let Some(at) = rx.next_expiry(&queue) {
        now = now.max(at);
        let gone = serve(&mut rx, &mut queue, now);
        if now == u64::MAX {
            // The end of time: nothing can be after it.
            return;
        }
        assert!(gone > 0);
        returned += gone;
    }
    assert_eq!(received, returned);

    // Nothing is charged for what is gone: a single frame may take all the room.
    config.timeout = 1;
    let ahead = Some(space.wrap(rx.nr().wrapping_add(2)));
    match rx.receive(&mut queue, (), ahead, config.max_bytes, now, &config) {
        Outcome::Queued { oos: false } => (),
        // There was no number yet.
        Outcome::Deliver(delivery) => assert!(delivery.reset),
        outcome => panic!("{outcome:?}"),
    }
}

fn serve(rx: &mut Receiver, queue: &mut VecQueue<()>, now: u64) -> usize {
    std::iter::from_fn(|| rx.serve(queue, now)).count()
}
