// SPDX-License-Identifier: GPL-2.0

//! RTNL, the lock of network device configuration, and kinds of links.
//!
//! C headers: [`include/linux/rtnetlink.h`](srctree/include/linux/rtnetlink.h),
//! [`include/net/rtnetlink.h`](srctree/include/net/rtnetlink.h)

use super::netdevice::{
    Device,
    Driver, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr,
};
use kernel::{
    error::to_result,
    types::NotThreadSafe, //
};

/// Evidence that the current task holds RTNL.
///
/// Dropping it releases RTNL, and then finishes what was unregistered in the meantime: it waits
/// until nobody holds a reference to those devices any more, and frees them.
///
/// # Invariants
///
/// The current task holds RTNL while instances of this guard exist.
pub struct Guard(NotThreadSafe);

/// Takes RTNL. Sleeps. It does not nest.
pub fn lock() -> Guard {
    // SAFETY: May be called in process context, which is where the guard's users are.
    unsafe { bindings::rtnl_lock() };
    // INVARIANT: It was just taken.
    Guard(NotThreadSafe)
}

impl Guard {
    /// A guard for RTNL that a caller in C has taken, and will release.
    ///
    /// # Safety
    ///
    /// RTNL must be held by the current task for as long as the result exists.
    pub(super) unsafe fn borrowed() -> ManuallyDrop<Self> {
        // INVARIANT: By the safety requirement.
        ManuallyDrop::new(Self(NotThreadSafe))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: By the type invariant RTNL is held. `NotThreadSafe` has kept the guard in the
        // task that took it.
        unsafe { bindings::rtnl_unlock() }
    }
}

/// A kind of link: what `ip -details link` calls the devices of a driver, and how `ip link del`
/// deletes them. They cannot be made by `ip link add`.
///
/// A device whose network namespace ends goes to the initial one, if it is not from there and has
/// not been deleted by its driver. That is what happens to devices without a kind, too.
pub struct Link<T: Driver> {
    ops: UnsafeCell<MaybeUninit<bindings::rtnl_link_ops>>,
    /// The module to count devices on. Null if the kind is not registered. Under RTNL.
    module: UnsafeCell<*mut bindings::module>,
    _driver: PhantomData<fn() -> T>,
}

// SAFETY: `ops` is for rtnetlink, which does its own locking. `module` is read and written with
// RTNL held.
unsafe impl<T: Driver> Sync for Link<T> {}

impl<T: Driver> Link<T> {
    /// For a `static`.
    pub const fn new(kind: &'static CStr) -> Self {
        let mut ops = MaybeUninit::<bindings::rtnl_link_ops>::zeroed();
        let p = ops.as_mut_ptr();
        // SAFETY: `p` points to zeroes, which is what rtnetlink expects of fields that are not
        // used.
        unsafe {
            (&raw mut (*p).kind).write(kind.to_bytes_with_nul().as_ptr());
            (&raw mut (*p).netns_refund).write(true);
            (&raw mut (*p).dellink).write(Some(dellink::<T>));
        }
        Self {
            ops: UnsafeCell::new(ops),
            module: UnsafeCell::new(ptr::null_mut()),
            _driver: PhantomData,
        }
    }

    /// What a device's `rtnl_link_ops` is to be.
    pub(super) fn ops(&self) -> *const bindings::rtnl_link_ops {
        self.ops.get().cast()
    }

    /// The module that has registered the kind, null if none has.
    pub(super) fn module(&self, _rtnl: &Guard) -> *mut bindings::module {
        // SAFETY: RTNL is held.
        unsafe { *self.module.get() }
    }
}

/// # Safety
///
/// `dev` must be a registered `Device<T>`, `head` a list of devices that will be unregistered; RTNL
/// must be held.
unsafe extern "C" fn dellink<T: Driver>(
    dev: *mut bindings::net_device,
    head: *mut bindings::list_head,
) {
    // SAFETY: By the safety requirement.
    let rtnl = unsafe { Guard::borrowed() };
    {
        // SAFETY: Only `netdevice::Unregistered<T>` makes devices of this kind; rtnetlink calls
        // this for a registered one.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        if let Some(data) = dev.data() {
            data.dellink(&rtnl);
        }
    }
    // SAFETY: As above; `head` is a list that rtnetlink goes on to unregister. A device that is in
    // such a list already is moved.
    unsafe { bindings::unregister_netdevice_queue(dev, head) };
}

/// A registered kind of link.
///
/// Dropping it deletes all devices of that kind, wherever they are, and waits until the last one is
/// gone, whoever has deleted it: takes RTNL, and sleeps.
///
/// A module that has devices must hold this as part of its own state, so that it is dropped when
/// the module is unloaded. That is what makes it possible to count the devices on the module: see
/// [`Driver`].
pub struct Registration<T: Driver> {
    link: &'static Link<T>,
}

impl<T: Driver> Registration<T> {
    /// Registers the kind of `T`, so that its devices can be. Takes RTNL.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is registered, `EEXIST` if there is another of this name.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let link = T::link();
        let rtnl = lock();
        if !link.module(&rtnl).is_null() {
            return Err(EBUSY);
        }
        // SAFETY: `ops` is static, complete, and not registered.
        to_result(unsafe { bindings::rtnl_link_register(link.ops.get().cast()) })?;
        // SAFETY: RTNL is held.
        unsafe { *link.module.get() = module.as_ptr().cast() };
        Ok(Self { link })
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        let rtnl = lock();
        // SAFETY: RTNL is held. From now on no device of this kind is registered.
        unsafe { *self.link.module.get() = ptr::null_mut() };
        drop(rtnl);
        // SAFETY: This value shows that `ops` is registered.
        unsafe { bindings::rtnl_link_unregister(self.link.ops.get().cast()) };
    }
}
