// SPDX-License-Identifier: GPL-2.0

//! Hash tables of sockets, read under RCU.
//!
//! C header: [`include/linux/rhashtable.h`](srctree/include/linux/rhashtable.h)

use super::proto::{
    Proto,
    Socket, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData, //
};
use kernel::{
    error::to_result,
    ffi::c_void,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        rcu, //
    },
    types::Opaque, //
};

/// What sockets are found by; shorter keys are padded.
pub type Key = [u8; 16];

/// How many tables a socket can be in at the same time.
pub const LINKS: usize = 2;

/// A socket's place in a table; zero at first. The start of it is what the helpers call `struct
/// l2tp_sock_link`.
///
/// Whoever changes `owner` from one of its two resting values to [`BUSY`] has `node`, `key` and
/// `removed` to himself until he changes it back.
#[repr(C)]
pub(super) struct Link {
    node: UnsafeCell<bindings::rhlist_head>,
    key: UnsafeCell<Aligned>,
    /// The address of the table that the link is in, [`FREE`] or [`BUSY`].
    owner: Atomic<usize>,
    /// The grace period that readers may still be looking at the link for after it left a table.
    removed: UnsafeCell<usize>,
}

const FREE: usize = 0;
const BUSY: usize = 1;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Aligned(Key);

/// A hash table of `P`'s sockets, any number of them for each key. `I`, below [`LINKS`], tells apart
/// the tables that the same sockets are in.
///
/// What a lookup yields is good for as long as the RCU guard lives. It may leave the table in the
/// meantime, and even enter another one: a walk then ends early, or goes on there, so that who walks
/// has to look at the sockets he gets, not only at the key.
///
/// # Invariants
///
/// `table` is an initialised `rhltable` with the helpers' parameters. Each of its elements is link
/// `I` of a socket of `P`, to which the table owns a reference, and whose `owner` is the address of
/// `table`, or is busy.
#[pin_data(PinnedDrop)]
pub struct SockTable<P: Proto, const I: usize> {
    #[pin]
    table: Opaque<bindings::rhltable>,
    _sockets: PhantomData<fn() -> P>,
}

// SAFETY: Tables are not tied to a thread, nor are sockets.
unsafe impl<P: Proto, const I: usize> Send for SockTable<P, I> {}
// SAFETY: rhltable has locks for writers, and is read under RCU.
unsafe impl<P: Proto, const I: usize> Sync for SockTable<P, I> {}

impl<P: Proto, const I: usize> SockTable<P, I> {
    /// An initialiser for an empty table. May sleep.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: The table is empty.
            table <- Opaque::try_ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of an `rhltable`, and pinned.
                to_result(unsafe { bindings::sock_table_init(slot) })
            }),
            _sockets: PhantomData,
        }? Error)
    }

    fn id(&self) -> usize {
        self.table.get().addr()
    }

    /// Puts `sk` into the table under `key`. Sleeps if `sk` has left a table only just now.
    ///
    /// # Errors
    ///
    /// `EBUSY` if `sk` is in a table with the same `I` already; `ENOMEM`, `E2BIG`.
    pub fn insert(&self, sk: &Socket<P>, key: Key) -> Result {
        let link = sk.link::<I>();
        if link.owner.cmpxchg(FREE, BUSY, Acquire).is_err() {
            return Err(EBUSY);
        }
        // SAFETY: The link is ours; so is what it remembers. After the wait no reader looks at the
        // key any more. The node is in no table.
        let ret = unsafe {
            bindings::cond_synchronize_rcu(*link.removed.get());
            (*link.key.get()).0 = key;
            // INVARIANT: If this succeeds: the link's `owner` is busy, and becomes this table below.
            bindings::sock_table_insert(self.table.get(), link.node.get())
        };
        if let Err(e) = to_result(ret) {
            link.owner.store(FREE, Release);
            return Err(e);
        }
        // INVARIANT: This is the reference that the table owns.
        // SAFETY: The socket is valid.
        unsafe { bindings::sock_hold(sk.as_ptr()) };
        link.owner.store(self.id(), Release);
        Ok(())
    }

    /// Takes `sk` out of the table. Says whether it was there. Does not sleep.
    pub fn remove(&self, sk: &Socket<P>) -> bool {
        let link = sk.link::<I>();
        if link.owner.cmpxchg(self.id(), BUSY, Acquire).is_err() {
            return false;
        }
        // SAFETY: The link is in this table, by its `owner`, and nobody else takes it out. The
        // caller's borrow keeps the socket, if only by being within an RCU read section.
        unsafe {
            bindings::sock_table_remove(self.table.get(), link.node.get());
            *link.removed.get() = bindings::get_state_synchronize_rcu();
            link.owner.store(FREE, Release);
            bindings::sock_put(sk.as_ptr());
        }
        true
    }

    /// The sockets under `key`, in no particular order.
    #[inline]
    pub fn find<'g>(
        &'g self,
        key: &Key,
        _guard: &'g rcu::Guard,
    ) -> impl Iterator<Item = &'g Socket<P>> {
        let key = Aligned(*key);
        // SAFETY: The table is initialised, the key has its size, and the RCU read lock is held.
        let mut at = unsafe {
            bindings::sock_table_lookup(self.table.get(), core::ptr::from_ref(&key).cast())
        };
        core::iter::from_fn(move || {
            if at.is_null() {
                return None;
            }
            // SAFETY: `at` is the node of a link in the table, or of one that was when we were
            // there. Its socket is valid for the read section that the guard shows: it is freed a
            // grace period after its last reference is gone, and the table had one.
            let sk = unsafe { Socket::from_link(at.cast::<Link>(), I) };
            // SAFETY: As above. Concurrent writers publish complete nodes only.
            at = unsafe { (&raw const (*at).next).read_volatile() };
            Some(sk)
        })
    }
}

#[pinned_drop]
impl<P: Proto, const I: usize> PinnedDrop for SockTable<P, I> {
    fn drop(self: Pin<&mut Self>) {
        /// # Safety
        ///
        /// `link` must be an element of a table that is being destroyed.
        unsafe extern "C" fn free<P: Proto, const I: usize>(link: *mut c_void, _arg: *mut c_void) {
            // SAFETY: By the type invariants the link is that of a socket to which the table owns a
            // reference, given up here.
            unsafe {
                let link = link.cast::<Link>();
                let sk = Socket::<P>::from_link(link, I).as_ptr();
                *(*link).removed.get() = bindings::get_state_synchronize_rcu();
                (*link).owner.store(FREE, Release);
                bindings::sock_put(sk);
            }
        }
        // SAFETY: The table is initialised, and exclusively ours: what `find` returned has borrowed
        // it, so that no reader is left.
        unsafe {
            bindings::sock_table_destroy(
                self.table.get(),
                Some(free::<P, I>),
                core::ptr::null_mut(),
            )
        }
    }
}

impl Link {
    /// Makes a link of zeroed memory.
    ///
    /// # Safety
    ///
    /// `link` must point to zeroed memory that nobody else uses.
    pub(super) unsafe fn init(link: *mut Self) {
        // SAFETY: Zero is a valid link; the rest is the caller's promise.
        unsafe { *(*link).removed.get() = bindings::get_completed_synchronize_rcu() }
    }
}
