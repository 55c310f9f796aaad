// SPDX-License-Identifier: GPL-2.0

//! Resizable hash tables, read under RCU.
//!
//! C header: [`include/linux/rhashtable.h`](srctree/include/linux/rhashtable.h)

use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    alloc::AllocError,
    error::to_result,
    ffi::c_void,
    sync::rcu,
    types::Opaque, //
};

mod sealed {
    pub trait Sealed {}
    impl Sealed for [u8; 8] {}
    impl Sealed for [u8; 16] {}
}

/// The keys there are helpers for: arrays of 8 and of 16 bytes.
pub trait Key: sealed::Sealed + Copy + Send + Sync + 'static {
    #[doc(hidden)]
    const OPS: KeyOps;
}

#[doc(hidden)]
pub struct KeyOps {
    init: unsafe extern "C" fn(*mut bindings::rhashtable) -> i32,
    lookup: unsafe extern "C" fn(*mut bindings::rhashtable, *const c_void) -> *mut c_void,
    insert: unsafe extern "C" fn(*mut bindings::rhashtable, *mut bindings::rhash_head) -> i32,
    replace: unsafe extern "C" fn(
        *mut bindings::rhashtable,
        *mut bindings::rhash_head,
        *mut bindings::rhash_head,
    ) -> i32,
    remove: unsafe extern "C" fn(*mut bindings::rhashtable, *mut bindings::rhash_head) -> i32,
}

impl Key for [u8; 8] {
    const OPS: KeyOps = KeyOps {
        init: bindings::rht64_init,
        lookup: bindings::rht64_lookup,
        insert: bindings::rht64_insert,
        replace: bindings::rht64_replace,
        remove: bindings::rht64_remove,
    };
}

impl Key for [u8; 16] {
    const OPS: KeyOps = KeyOps {
        init: bindings::rht128_init,
        lookup: bindings::rht128_lookup,
        insert: bindings::rht128_insert,
        replace: bindings::rht128_replace,
        remove: bindings::rht128_remove,
    };
}

/// An entry. The start of it is what the helpers call `struct l2tp_rht*_node`. A table with one value
/// a key uses the first part of `head` only.
#[repr(C)]
struct Node<K, V> {
    head: bindings::rhlist_head,
    key: Aligned<K>,
    rcu: bindings::callback_head,
    value: V,
}

#[repr(C, align(8))]
struct Aligned<K>(K);

impl<K, V> Node<K, V> {
    /// # Safety
    ///
    /// The caller has just taken `node` out of a table, and gives it up.
    unsafe fn free_after_grace_period(node: NonNull<Self>) {
        /// # Safety
        ///
        /// For `call_rcu` only, with the `rcu` field of a node that nobody else uses any more.
        unsafe extern "C" fn free<K, V>(head: *mut bindings::callback_head) {
            // SAFETY: `head` is the `rcu` field of a node that `free_after_grace_period` gave up.
            drop(unsafe { KBox::from_raw(kernel::container_of!(head, Node<K, V>, rcu)) });
        }
        // SAFETY: The node stays valid until the callback frees it; it is in no table, so nobody
        // else uses its `rcu` field.
        unsafe { bindings::call_rcu(&raw mut (*node.as_ptr()).rcu, Some(free::<K, V>)) };
    }

    /// # Safety
    ///
    /// For a table that is being destroyed only, with each of its nodes once.
    unsafe extern "C" fn free(node: *mut c_void, _arg: *mut c_void) {
        // SAFETY: By the type invariants of the tables, each element is a node that came from a
        // `KBox`.
        drop(unsafe { KBox::from_raw(node.cast::<Self>()) });
    }
}

/// An entry that is in no table: what to insert, or what an insertion gave back.
pub struct Entry<K: Key, V>(KBox<Node<K, V>>);

// SAFETY: It owns a key, which is `Send`, and a value. Its list head is not used outside of a table.
unsafe impl<K: Key, V: Send> Send for Entry<K, V> {}

impl<K: Key, V> Entry<K, V> {
    /// Allocates an entry.
    pub fn new(key: K, value: V, flags: kernel::alloc::Flags) -> Result<Self, AllocError> {
        Ok(Self(KBox::new(
            Node {
                head: bindings::rhlist_head {
                    rhead: bindings::rhash_head {
                        next: core::ptr::null_mut(),
                    },
                    next: core::ptr::null_mut(),
                },
                key: Aligned(key),
                rcu: bindings::callback_head::default(),
                value,
            },
            flags,
        )?))
    }
}

/// A hash table from `K` to `V`, at most one value a key.
///
/// Lookups take an RCU guard and nothing else; what they return lives as long as that guard. Writers
/// may run concurrently with each other and with lookups, but a caller that decides by what it has
/// looked up must bring a lock of its own.
///
/// A removed value is dropped one grace period later, **in softirq context**: `V`'s destructor must
/// not sleep. Before the text of that destructor goes away, call `rcu_barrier`.
///
/// # Invariants
///
/// `ht` is an initialised `rhashtable` whose parameters are those of the helpers for `K`, and each
/// of its elements is a `Node<K, V>` that came from a `KBox`, is owned by the table, and stays
/// valid for one grace period after it was taken out.
#[pin_data(PinnedDrop)]
pub struct RcuHashTable<K: Key, V: Send + Sync + 'static> {
    #[pin]
    ht: Opaque<bindings::rhashtable>,
    _values: PhantomData<Node<K, V>>,
}

// SAFETY: The table owns its values, which are `Send`.
unsafe impl<K: Key, V: Send + Sync> Send for RcuHashTable<K, V> {}
// SAFETY: rhashtable has locks of its own for writers; readers share `V`, which is `Sync`.
unsafe impl<K: Key, V: Send + Sync> Sync for RcuHashTable<K, V> {}

impl<K: Key, V: Send + Sync + 'static> RcuHashTable<K, V> {
    /// An initialiser for an empty table. May sleep.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: The table is empty.
            ht <- Opaque::try_ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of an `rhashtable`, and pinned.
                to_result(unsafe { (K::OPS.init)(slot) })
            }),
            _values: PhantomData,
        }? Error)
    }

    #[inline]
    fn find(&self, key: &K, _guard: &rcu::Guard) -> Option<NonNull<Node<K, V>>> {
        // SAFETY: By the type invariants the table is initialised for keys of this size; the guard
        // shows that the RCU read lock is held.
        let node = unsafe { (K::OPS.lookup)(self.ht.get(), core::ptr::from_ref(key).cast()) };
        NonNull::new(node.cast())
    }

    /// Finds the value of `key`. Any context that may take the RCU read lock.
    #[inline]
    pub fn find_rcu<'a>(&'a self, key: &K, guard: &'a rcu::Guard) -> Option<&'a V> {
        let node = self.find(key, guard)?;
        // SAFETY: By the type invariants the node stays valid until the guard is released, should
        // it be removed in the meantime.
        Some(unsafe { &node.as_ref().value })
    }

    /// Inserts `entry`, or gives it back with the reason: `EEXIST` if its key is there already,
    /// `ENOMEM` (or `E2BIG`, `EBUSY`) if the table cannot grow. Does not sleep.
    pub fn insert(&self, entry: Entry<K, V>) -> Result<(), (Error, Entry<K, V>)> {
        let node = KBox::into_raw(entry.0);
        // SAFETY: `node` is valid, owned by us, and in no table.
        let ret = unsafe { (K::OPS.insert)(self.ht.get(), &raw mut (*node).head.rhead) };
        match to_result(ret) {
            // INVARIANT: The table owns the node now.
            Ok(()) => Ok(()),
            // SAFETY: The insertion failed, so we still own what came from `KBox::into_raw`.
            Err(e) => Err((e, Entry(unsafe { KBox::from_raw(node) }))),
        }
    }

    /// Puts `entry` in the place of the entry with the same key. A reader finds either the old
    /// value or the new one. Gives `entry` back if there is no such key. Does not sleep.
    ///
    /// The caller must keep others from removing that key at the same time; if they do, `entry`
    /// comes back.
    pub fn replace(&self, entry: Entry<K, V>) -> Result<(), Entry<K, V>> {
        let guard = rcu::read_lock();
        let Some(old) = self.find(&entry.0.key.0, &guard) else {
            return Err(entry);
        };
        let new = KBox::into_raw(entry.0);
        // SAFETY: `old` is valid under the guard, and was found in this table by the key that `new`
        // has; `new` is ours and in no table. If `old` has left the table, an error is returned.
        let ret = unsafe {
            (K::OPS.replace)(
                self.ht.get(),
                &raw mut (*old.as_ptr()).head.rhead,
                &raw mut (*new).head.rhead,
            )
        };
        if ret != 0 {
            // SAFETY: The replacement failed, so we still own what came from `KBox::into_raw`.
            return Err(Entry(unsafe { KBox::from_raw(new) }));
        }
        // SAFETY: The call above took `old` out of the table, and only one caller can do so.
        unsafe { Node::free_after_grace_period(old) };
        Ok(())
    }

    /// Removes the entry of `key`. Says whether there was one. Does not sleep.
    pub fn remove(&self, key: &K) -> bool {
        let guard = rcu::read_lock();
        let Some(node) = self.find(key, &guard) else {
            return false;
        };
        // SAFETY: The node is valid under the guard. If another caller removes it first, this
        // returns an error and touches nothing.
        let ret = unsafe { (K::OPS.remove)(self.ht.get(), &raw mut (*node.as_ptr()).head.rhead) };
        if ret != 0 {
            return false;
        }
        // SAFETY: The call above took the node out of the table, and only one caller can do so.
        unsafe { Node::free_after_grace_period(node) };
        true
    }
}

#[pinned_drop]
impl<K: Key, V: Send + Sync + 'static> PinnedDrop for RcuHashTable<K, V> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The table is initialised, and exclusively ours: what `find_rcu` returned has
        // borrowed it, so no reader is left.
        unsafe {
            bindings::rhashtable_free_and_destroy(
                self.ht.get(),
                Some(Node::<K, V>::free),
                core::ptr::null_mut(),
            )
        };
    }
}

/// A hash table from 8 bytes to `V`, any number of values a key. What is said of [`RcuHashTable`] is
/// true of it, too.
///
/// # Invariants
///
/// `hlt` is an initialised `rhltable` with the helpers' parameters, and each of its elements is a
/// `Node<[u8; 8], V>` that came from a `KBox`, is owned by the table, and stays valid for one grace
/// period after it was taken out.
#[pin_data(PinnedDrop)]
pub struct RcuHashLists<V: Send + Sync + 'static> {
    #[pin]
    hlt: Opaque<bindings::rhltable>,
    _values: PhantomData<Node<[u8; 8], V>>,
}

// SAFETY: The table owns its values, which are `Send`.
unsafe impl<V: Send + Sync> Send for RcuHashLists<V> {}
// SAFETY: rhltable has locks of its own for writers; readers share `V`, which is `Sync`.
unsafe impl<V: Send + Sync> Sync for RcuHashLists<V> {}

impl<V: Send + Sync + 'static> RcuHashLists<V> {
    /// An initialiser for an empty table. May sleep.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: The table is empty.
            hlt <- Opaque::try_ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of an `rhltable`, and pinned.
                to_result(unsafe { bindings::rhl64_init(slot) })
            }),
            _values: PhantomData,
        }? Error)
    }

    fn nodes<'a>(
        &'a self,
        key: &[u8; 8],
        _guard: &'a rcu::Guard,
    ) -> impl Iterator<Item = NonNull<Node<[u8; 8], V>>> + 'a {
        let key = Aligned(*key);
        // SAFETY: By the type invariants the table is initialised for keys of this size; the guard
        // shows that the RCU read lock is held.
        let mut at =
            unsafe { bindings::rhl64_lookup(self.hlt.get(), core::ptr::from_ref(&key).cast()) };
        core::iter::from_fn(move || {
            let node = NonNull::new(at.cast::<Node<[u8; 8], V>>())?;
            // SAFETY: By the type invariants the node, whose first field is the one found, stays
            // valid for the read section, should it be removed in the meantime; and what comes after
            // it, too. Writers publish complete nodes only.
            at = unsafe { (&raw const (*at).next).read_volatile() };
            Some(node)
        })
    }

    /// The values of `key`, in no particular order. Any context that may take the RCU read lock.
    pub fn find_rcu<'a>(
        &'a self,
        key: &[u8; 8],
        guard: &'a rcu::Guard,
    ) -> impl Iterator<Item = &'a V> {
        self.nodes(key, guard)
            // SAFETY: By the type invariants the node stays valid until the guard is released.
            .map(|node| unsafe { &(*node.as_ptr()).value })
    }

    /// Inserts `entry`. `ENOMEM`, `E2BIG` or `EBUSY` if the table cannot grow. Does not sleep.
    pub fn insert(&self, entry: Entry<[u8; 8], V>) -> Result {
        let node = KBox::into_raw(entry.0);
        // SAFETY: `node` is valid, owned by us, and in no table.
        let ret = unsafe { bindings::rhl64_insert(self.hlt.get(), &raw mut (*node).head) };
        // INVARIANT: If this has succeeded, the table owns the node now.
        to_result(ret).inspect_err(|_| {
            // SAFETY: The insertion failed, so we still own what came from `KBox::into_raw`.
            drop(unsafe { KBox::from_raw(node) });
        })
    }

    /// Removes the first entry of `key` whose value `is` accepts. Says whether there was one. Does
    /// not sleep.
    pub fn remove(&self, key: &[u8; 8], is: impl Fn(&V) -> bool) -> bool {
        let guard = rcu::read_lock();
        let found = self.nodes(key, &guard).find(|node| {
            // SAFETY: The node is valid under the guard.
            is(unsafe { &(*node.as_ptr()).value })
        });
        let Some(node) = found else {
            return false;
        };
        // SAFETY: The node is valid under the guard. If another caller removes it first, this
        // returns an error and touches nothing.
        let ret = unsafe { bindings::rhl64_remove(self.hlt.get(), &raw mut (*node.as_ptr()).head) };
        if ret != 0 {
            return false;
        }
        // SAFETY: The call above took the node out of the table, and only one caller can do so.
        unsafe { Node::free_after_grace_period(node) };
        true
    }
}

#[pinned_drop]
impl<V: Send + Sync + 'static> PinnedDrop for RcuHashLists<V> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The table is initialised, and exclusively ours: what `find_rcu` returned has
        // borrowed it, so no reader is left. Its first field is the `rhashtable`.
        unsafe {
            bindings::rhashtable_free_and_destroy(
                self.hlt.get().cast(),
                Some(Node::<[u8; 8], V>::free),
                core::ptr::null_mut(),
            )
        };
    }
}
