// SPDX-License-Identifier: GPL-2.0

//! Settings of a network namespace, in `/proc/sys/net`.
//!
//! C header: [`include/linux/sysctl.h`](srctree/include/linux/sysctl.h)

use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomPinned,
    ptr, //
};
#[cfg(CONFIG_SYSCTL)]
use kernel::ffi;
use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// A setting that is on or off, and reads as 1 or 0. Root of the namespace may write it.
///
/// It is in `/proc/sys` as long as the namespace's state has it, see [`PerNet::switch`].
///
/// [`PerNet::switch`]: super::net_namespace::PerNet::switch
///
/// # Invariants
///
/// `header` is null, or what registering `table` has returned; then `table` points to `value`.
#[pin_data(PinnedDrop)]
pub struct Switch {
    directory: &'static CStr,
    name: &'static CStr,
    value: Atomic<bool>,
    #[pin]
    table: Opaque<bindings::ctl_table>,
    header: Atomic<*mut bindings::ctl_table_header>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: It may be unregistered by any task.
unsafe impl Send for Switch {}
// SAFETY: The table is written by the one who registers it, before anybody else knows of it.
unsafe impl Sync for Switch {}

impl Switch {
    /// An initialiser for a setting that is `on` at first. `directory` is relative to `/proc/sys`.
    pub fn new(directory: &'static CStr, name: &'static CStr, on: bool) -> impl PinInit<Self> {
        // INVARIANT: It is not registered.
        pin_init!(Self {
            directory,
            name,
            value: Atomic::new(on),
            table: Opaque::zeroed(),
            header: Atomic::new(ptr::null_mut()),
            _pin: PhantomPinned,
        })
    }

    /// Whether it is on. Any context.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.value.load(Relaxed)
    }

    /// Makes the file. May sleep. `ENOMEM`, or if there is a file of that name.
    ///
    /// # Safety
    ///
    /// To be called once. `self` must stay where it is, and [`Switch::hide`] be called before it is
    /// dropped and before the namespace is freed.
    #[cfg(CONFIG_SYSCTL)]
    pub(super) unsafe fn show(&self, net: *mut bindings::net) -> Result {
        // SAFETY: By the safety requirement nobody else uses the table; an array of constants is
        // only pointed to.
        let header = unsafe {
            let limits = (&raw const bindings::sysctl_vals).cast::<ffi::c_int>();
            self.table.get().write(bindings::ctl_table {
                procname: self.name.as_char_ptr(),
                data: self.value.as_ptr().cast(),
                // CAST: 1.
                maxlen: size_of::<bool>() as ffi::c_int,
                mode: 0o644,
                proc_handler: Some(bindings::proc_dou8vec_minmax),
                // 0 and 1.
                extra1: limits.cast_mut().cast(),
                extra2: limits.wrapping_add(1).cast_mut().cast(),
                ..Default::default()
            });
            bindings::register_net_sysctl_sz(net, self.directory.as_char_ptr(), self.table.get(), 1)
        };
        // INVARIANT: Just registered, or null.
        self.header.store(header, Relaxed);
        if header.is_null() {
            Err(ENOMEM)
        } else {
            Ok(())
        }
    }

    /// This kernel has no settings.
    ///
    /// # Safety
    ///
    /// None; as above.
    #[cfg(not(CONFIG_SYSCTL))]
    pub(super) unsafe fn show(&self, _net: *mut bindings::net) -> Result {
        let _ = (self.directory, self.name, &self.table);
        Ok(())
    }

    /// Removes the file, and waits until nobody is using it. May sleep.
    pub(super) fn hide(&self) {
        let header = self.header.xchg(ptr::null_mut(), Relaxed);
        #[cfg(CONFIG_SYSCTL)]
        if !header.is_null() {
            // SAFETY: By the type invariant it is registered; it is nobody else's any more.
            unsafe { bindings::unregister_net_sysctl_table(header) };
        }
        let _ = header;
    }
}

#[pinned_drop]
impl PinnedDrop for Switch {
    fn drop(self: Pin<&mut Self>) {
        self.hide();
    }
}
