// SPDX-License-Identifier: GPL-2.0

//! Network namespaces and per-namespace state.
//!
//! C headers: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h),
//! [`include/net/netns/generic.h`](srctree/include/net/netns/generic.h)

use super::sysctl::Switch;
use crate::{
    abstractions::sync::{
        rcu,
        read_once, //
    },
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi,
    sync::{
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// A network namespace.
///
/// # Invariants
///
/// A reference to a `Net` exists only while the namespace cannot complete its exit: it was given
/// out by an object (socket, device, request) that keeps the namespace, or that is gone before the
/// exit methods run; or it is used within one RCU read section, in which the device that a packet
/// came from keeps the memory of its namespace.
#[repr(transparent)]
pub struct Net(Opaque<bindings::net>);

// SAFETY: Namespaces are shared by all contexts.
unsafe impl Send for Net {}
// SAFETY: The methods only compare or look up, which C does without a lock.
unsafe impl Sync for Net {}

impl Net {
    /// Borrows a namespace from C.
    ///
    /// # Safety
    ///
    /// For all of `'a`, `ptr` must point to a namespace whose pernet `exit` methods have not been
    /// called, or `'a` must lie within one RCU read section in which the namespace is not freed.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::net) -> &'a Self {
        // SAFETY: `Net` is transparent; valid by the safety requirement.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// The C object.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::net {
        self.0.get()
    }

    /// Whether the current task may administer the namespace (`CAP_NET_ADMIN`). To be asked before
    /// something is done: it is noted that the task has made use of the right.
    #[cfg_attr(not(CONFIG_L2TP_RUST_PPP), expect(dead_code))]
    pub fn may_administer(&self) -> bool {
        // SAFETY: The namespace is valid, and keeps the user namespace that owns it.
        // CAST: A small number.
        unsafe {
            bindings::ns_capable(
                (*self.as_ptr()).user_ns,
                bindings::CAP_NET_ADMIN as ffi::c_int,
            )
        }
    }
}

impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

/// A reference to a namespace that is not ending, which keeps it from doing so.
///
/// # Invariants
///
/// The pointer is to a namespace, and this value owns a reference to it.
pub struct NetRef(NonNull<Net>);

impl NetRef {
    /// Takes a reference, if the namespace is not ending. Any context.
    ///
    /// # Safety
    ///
    /// `ptr` must point to the memory of a namespace, which is not freed before the return.
    pub(super) unsafe fn try_get(ptr: *mut bindings::net) -> Option<Self> {
        // SAFETY: By the safety requirement; the call looks at the count only.
        let ptr = unsafe { bindings::maybe_get_net(ptr) };
        // INVARIANT: We have got a reference to what came back.
        NonNull::new(ptr.cast::<Net>()).map(Self)
    }

    /// The namespace of the current task, which must not be exiting.
    #[cfg_attr(not(all(CONFIG_DEBUG_FS, CONFIG_NET_NS)), expect(dead_code))]
    pub(super) fn of_current() -> Self {
        // SAFETY: A task that runs has a namespace, which it keeps.
        let net = unsafe { bindings::get_net(bindings::current_net()) };
        // SAFETY: Never null.
        // INVARIANT: We have got a reference.
        Self(unsafe { NonNull::new_unchecked(net.cast()) })
    }

    /// Gives up the reference without dropping it.
    #[cfg_attr(not(all(CONFIG_DEBUG_FS, CONFIG_NET_NS)), expect(dead_code))]
    pub(super) fn into_raw(self) -> *mut bindings::net {
        ManuallyDrop::new(self).0.as_ptr().cast()
    }

    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// `ptr` must come from [`NetRef::into_raw`], once.
    #[cfg_attr(not(all(CONFIG_DEBUG_FS, CONFIG_NET_NS)), expect(dead_code))]
    pub(super) unsafe fn from_raw(ptr: *mut bindings::net) -> Self {
        // SAFETY: By the safety requirement, which also keeps the invariant.
        Self(unsafe { NonNull::new_unchecked(ptr.cast()) })
    }
}

impl Deref for NetRef {
    type Target = Net;

    fn deref(&self) -> &Net {
        // SAFETY: By the type invariants. A namespace with references does not exit.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for NetRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::put_net(self.0.as_ptr().cast()) }
    }
}

/// State that each network namespace has one of.
pub trait PerNet: Sized + Send + Sync + 'static {
    /// Where [`register`] keeps the slot of this type. Return a `static`.
    fn slot() -> &'static Slot<Self>;

    /// Makes the state of a namespace: of each one that exists when the type is registered, and of
    /// each one that comes later. May sleep.
    fn init(net: &Net) -> Result<Arc<Self>>;

    /// The setting of the namespace, which is in `/proc/sys` from when [`PerNet::init`] has returned
    /// until [`PerNet::exit`] is called. Always the same one.
    fn switch(&self) -> Option<&Switch> {
        None
    }

    /// The namespace is about to end, or the type is being unregistered: get rid of everything that
    /// lives in it. May sleep; takes no RTNL. A grace period passes between this and the drop of
    /// the reference that the namespace holds.
    fn pre_exit(this: ArcBorrow<'_, Self>);

    /// The last call. May sleep. Packets still come in while a namespace exits; those that find it
    /// have been waited for.
    fn exit(this: Arc<Self>);
}

/// What the pernet core keeps for each namespace; zero at first.
struct State<T> {
    /// From `Arc::into_raw`, or null.
    live: Atomic<*const T>,
    /// What was in `live`, on its way out.
    leaving: UnsafeCell<*const T>,
}

/// The operations and the number of a registered type.
pub struct Slot<T: PerNet> {
    ops: UnsafeCell<bindings::pernet_operations>,
    id: UnsafeCell<u32>,
    _state: PhantomData<Arc<T>>,
}

// SAFETY: `register` has exclusive use of the cells (there is one registration at a time, see
// there); after that, only `id` is read, and nothing is written.
unsafe impl<T: PerNet> Sync for Slot<T> {}

impl<T: PerNet> Slot<T> {
    /// For a `static`.
    pub const fn new() -> Self {
        let mut ops: bindings::pernet_operations = pin_init::zeroed();
        ops.init = Some(init::<T>);
        ops.pre_exit = Some(pre_exit::<T>);
        ops.exit_batch = Some(exit_batch::<T>);
        ops.size = size_of::<State<T>>();
        Self {
            ops: UnsafeCell::new(ops),
            id: UnsafeCell::new(0),
            _state: PhantomData,
        }
    }

    /// The state of `net`. [`None`] outside of the time between `init` and `exit`. Any context.
    #[inline]
    pub fn get<'a>(&self, net: &'a Net) -> Option<ArcBorrow<'a, T>> {
        // SAFETY: `id` is not written while the type is registered; and before that it is zero,
        // which is no registered number.
        let id = unsafe { *self.id.get() };
        if id == 0 {
            return None;
        }
        // SAFETY: `id` was assigned by the pernet core, which has made the slot of every namespace.
        let state = unsafe { State::<T>::of(net.as_ptr(), id) }?;
        // What is behind the pointer was written before it was published, and depends on it.
        let live = read_once(&state.live);
        if live.is_null() {
            return None;
        }
        // SAFETY: `init` has put it there by `Arc::into_raw`. By the invariant of `Net`, either the
        // namespace does not get to `exit_batch` for `'a`, or `'a` lies within an RCU read section,
        // and `exit_batch` waits for those between emptying the slot and dropping the reference.
        Some(unsafe { ArcBorrow::from_raw(live) })
    }
}

impl<T: PerNet> State<T> {
    /// # Safety
    ///
    /// `net` must be valid for `'a`, and `id` be the number of `T`.
    #[inline]
    unsafe fn of<'a>(net: *mut bindings::net, id: u32) -> Option<&'a Self> {
        // SAFETY: By the safety requirement. The memory is as large as `ops.size` says, and zero
        // at first, which is a valid `State`.
        unsafe { bindings::net_generic(net, id).cast::<Self>().as_ref() }
    }

    /// The states of the namespaces in a list that the pernet core gives to `exit_batch`.
    ///
    /// # Safety
    ///
    /// `list` must be such a list, for `'a`.
    unsafe fn in_list<'a>(list: *mut bindings::list_head) -> impl Iterator<Item = &'a Self> {
        // SAFETY: By the safety requirement the list is valid.
        let mut at = unsafe { (*list).next };
        core::iter::from_fn(move || {
            if ptr::eq(at, list) {
                return None;
            }
            let link = at;
            // SAFETY: By the safety requirement this is a link of the list.
            at = unsafe { (*link).next };
            Some(link)
        })
        .filter_map(|link| {
            // SAFETY: Namespaces are linked in this list by their `exit_list`.
            let net = unsafe { kernel::container_of!(link, bindings::net, exit_list) };
            // SAFETY: The namespace is valid; `id` was set before the first call.
            unsafe { Self::of(net, *T::slot().id.get()) }
        })
    }
}

/// # Safety
///
/// For `struct pernet_operations`: `net` must be a namespace that is being set up.
unsafe extern "C" fn init<T: PerNet>(net: *mut bindings::net) -> i32 {
    from_result(|| {
        // SAFETY: The pernet core calls this before `exit`.
        let state = T::init(unsafe { Net::from_raw(net) })?;
        // SAFETY: `net` is valid, and `id` was set before the first call.
        let slot = unsafe { State::<T>::of(net, *T::slot().id.get()) }.ok_or(ENOMEM)?;
        if let Some(switch) = state.switch() {
            // SAFETY: Once, here. The state does not move, and is not dropped before `exit_batch`
            // has hidden the switch.
            unsafe { switch.show(net) }?;
        }
        slot.live.store(Arc::into_raw(state), Release);
        Ok(0)
    })
}

/// # Safety
///
/// For `struct pernet_operations`: `net` must be a namespace that begins to exit.
unsafe extern "C" fn pre_exit<T: PerNet>(net: *mut bindings::net) {
    // SAFETY: The pernet core calls this before `exit`.
    if let Some(state) = T::slot().get(unsafe { Net::from_raw(net) }) {
        T::pre_exit(state);
    }
}

/// # Safety
///
/// For `struct pernet_operations`: `list` must be a list of namespaces that exit.
unsafe extern "C" fn exit_batch<T: PerNet>(list: *mut bindings::list_head) {
    // SAFETY: The pernet core calls this with a list of namespaces, which nobody changes meanwhile.
    for state in unsafe { State::<T>::in_list(list) } {
        let live = state.live.xchg(ptr::null(), Relaxed);
        // SAFETY: Only this function uses the cell, once for each namespace.
        unsafe { state.leaving.get().write(live) };
    }
    rcu::synchronize_rcu();
    // SAFETY: As above.
    for state in unsafe { State::<T>::in_list(list) } {
        // SAFETY: As above.
        let state = unsafe { state.leaving.get().replace(ptr::null()) };
        if !state.is_null() {
            // SAFETY: `init` has put it into the slot by `Arc::into_raw`; it was taken out above,
            // and who has found it there is done.
            let state = unsafe { Arc::from_raw(state) };
            if let Some(switch) = state.switch() {
                switch.hide();
            }
            T::exit(state);
        }
    }
}

/// A registered type. Unregisters on drop, which ends the state of every namespace; may sleep.
pub struct Registration<T: PerNet>(PhantomData<Arc<T>>);

// SAFETY: Unregistering may be done by any task.
unsafe impl<T: PerNet> Send for Registration<T> {}
// SAFETY: There are no methods.
unsafe impl<T: PerNet> Sync for Registration<T> {}

impl<T: PerNet> Registration<T> {
    /// Registers `T`. Its namespaces exit before those of subsystems such as IP do. May sleep.
    ///
    /// To be called once, by the module's initialisation. `EBUSY` if `T` is registered.
    pub fn register(_module: &'static ThisModule) -> Result<Self> {
        let slot = T::slot();
        let ops = slot.ops.get();
        // SAFETY: Module initialisation is one task.
        unsafe {
            if !(*ops).id.is_null() {
                return Err(EBUSY);
            }
            (*ops).id = slot.id.get();
        }
        // SAFETY: `ops` is static, and complete.
        to_result(unsafe { bindings::register_pernet_device(ops) }).inspect_err(|_| {
            // SAFETY: As above; nothing was registered.
            unsafe { (*ops).id = ptr::null_mut() }
        })?;
        Ok(Self(PhantomData))
    }
}

impl<T: PerNet> Drop for Registration<T> {
    fn drop(&mut self) {
        let ops = T::slot().ops.get();
        // SAFETY: This value shows that `ops` is registered.
        unsafe {
            bindings::unregister_pernet_device(ops);
            (*ops).id = ptr::null_mut();
        }
    }
}
