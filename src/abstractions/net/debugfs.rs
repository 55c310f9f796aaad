// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs that list what there is in the network namespace of whoever opens them.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)
//!
//! The abstractions of the `kernel` crate show one object that a file belongs to, to whoever reads it.

use super::{
    net_namespace::NetRef,
    seq_net::{
        List,
        State, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    ffi,
    str::CStrExt,
    sync::SetOnce, //
};

/// What C knows of a file. It is part of the module, as in C: whoever opens a file that is being
/// removed may read it until the module is freed.
pub struct Slot<L: List> {
    ops: SetOnce<Ops>,
    _list: PhantomData<fn() -> L>,
}

struct Ops(bindings::file_operations);

// SAFETY: Nothing in it is changed, and the module that it points to is there as long as its code.
unsafe impl Send for Ops {}
// SAFETY: As above.
unsafe impl Sync for Ops {}

impl<L: List> Slot<L> {
    /// For a `static`.
    pub const fn new() -> Self {
        Self {
            ops: SetOnce::new(),
            _list: PhantomData,
        }
    }
}

/// A directory with one file, which root may read. Removed on drop, which waits until nobody is
/// reading; may sleep.
///
/// # Invariants
///
/// `dir` comes from `debugfs_create_dir`.
pub struct Directory<L: List> {
    dir: *mut bindings::dentry,
    _list: PhantomData<fn() -> L>,
}

// SAFETY: Removing it may be done by any task.
unsafe impl<L: List> Send for Directory<L> {}
// SAFETY: There are no methods.
unsafe impl<L: List> Sync for Directory<L> {}

impl<L: List> Directory<L> {
    /// Makes the directory `name`, and in it the file of `L`. To be held by `module`, as part of its
    /// own state. May sleep.
    ///
    /// Without debugfs or memory, or if there is such a directory, there is no file, which is no
    /// error. Once there can be a file, the module's initialisation must not fail any more: a module
    /// that fails to initialise is freed, even if open files keep it.
    pub fn new(name: &CStr, slot: &'static Slot<L>, module: &'static ThisModule) -> Self {
        let mut ops: bindings::file_operations = pin_init::zeroed();
        ops.owner = module.as_ptr().cast();
        ops.open = Some(open::<L>);
        ops.read = Some(bindings::seq_read);
        ops.llseek = Some(bindings::seq_lseek);
        ops.release = Some(release::<L>);
        // It is the same each time.
        slot.ops.populate(Ops(ops));
        // SAFETY: The name is terminated.
        let dir = unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), ptr::null_mut()) };
        if let Some(Ops(ops)) = slot.ops.as_ref() {
            // SAFETY: The name is terminated; a directory that could not be made may be given, too.
            // The operations are static.
            unsafe {
                bindings::debugfs_create_file_full(
                    L::NAME.as_char_ptr(),
                    0o600,
                    dir,
                    ptr::null_mut(),
                    ptr::null(),
                    ops,
                );
            }
        }
        // INVARIANT: As was just done.
        Self {
            dir,
            _list: PhantomData,
        }
    }
}

impl<L: List> Drop for Directory<L> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the call takes errors, too.
        unsafe { bindings::debugfs_remove(self.dir) }
    }
}

/// # Safety
///
/// For `struct file_operations`: `file` must be a file that is being opened.
unsafe extern "C" fn open<L: List>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> ffi::c_int {
    let net = NetRef::of_current();
    // SAFETY: By the safety requirement. The operations are static, and the size is that of the state
    // that they use.
    let state = unsafe {
        // CAST: A small size.
        bindings::__seq_open_private(file, State::<L>::OPS, size_of::<State<L>>() as i32)
    };
    let state = state.cast::<State<L>>();
    if state.is_null() {
        return ENOMEM.to_errno();
    }
    // SAFETY: The state was just made, and nobody else knows it.
    unsafe { (*state).net.net = net.into_raw() };
    0
}

/// # Safety
///
/// For `struct file_operations`: `file` must be a file that [`open`] has opened, which nobody uses
/// any more.
unsafe extern "C" fn release<L: List>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> ffi::c_int {
    // SAFETY: By the safety requirement: `open` has put a reference there.
    unsafe {
        let m = (*file).private_data.cast::<bindings::seq_file>();
        let state = (*m).private.cast::<State<L>>();
        drop(NetRef::from_raw((*state).net.net));
        bindings::seq_release_private(inode, file)
    }
}
