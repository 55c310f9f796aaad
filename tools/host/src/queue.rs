// SPDX-License-Identifier: GPL-2.0

//! The host's stand-in for the kernel's list of socket buffers.

use std::collections::VecDeque;

use crate::seq::{
    Look,
    Queue,
    Slot, //
};

/// A queue of frames in a [`VecDeque`].
#[derive(Clone, Debug, Default)]
pub struct VecQueue<T>(pub VecDeque<(Slot, T)>);

impl<T> VecQueue<T> {
    /// Returns an empty queue.
    pub fn new() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Queue for VecQueue<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn front(&self) -> Option<Slot> {
        self.0.front().map(|(slot, _)| *slot)
    }

    fn pop_front(&mut self) -> Option<T> {
        self.0.pop_front().map(|(_, item)| item)
    }

    fn push_back(&mut self, item: T, slot: Slot) {
        self.0.push_back((slot, item));
    }

    fn insert(
        &mut self,
        item: T,
        mut slot: Slot,
        mut look: impl FnMut(&mut Slot, &Slot) -> Look,
    ) -> Result<(), T> {
        let mut place = self.0.len();
        for (at, (other, _)) in self.0.iter().enumerate().rev() {
            match look(&mut slot, other) {
                Look::Before => place = at,
                Look::Pass => (),
                Look::Stop => break,
                Look::Refuse => return Err(item),
            }
        }
        self.0.insert(place, (slot, item));
        Ok(())
    }
}
