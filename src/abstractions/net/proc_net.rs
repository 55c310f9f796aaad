// SPDX-License-Identifier: GPL-2.0

//! Files in `/proc/net` that list something, one record after the other.
//!
//! C header: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h)

use super::{
    net_namespace::Net,
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
    str::CStrExt, //
};

/// A file in one namespace. Removed on drop, which waits until nobody is reading it.
///
/// # Invariants
///
/// There is such a file in the directory `parent`, which outlives this value.
pub struct File<L: List> {
    parent: *mut bindings::proc_dir_entry,
    _list: PhantomData<fn() -> L>,
}

// SAFETY: Removing it may be done by any task.
unsafe impl<L: List> Send for File<L> {}
// SAFETY: There are no methods.
unsafe impl<L: List> Sync for File<L> {}

impl<L: List> File<L> {
    /// Makes the file in `/proc/net` of `net`, which anybody may read. May sleep.
    ///
    /// To be dropped by the `exit` method of a pernet device at the latest. Open files keep the
    /// namespace, but not the module.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if there is such a file.
    pub fn new(net: &Net) -> Result<Self> {
        // SAFETY: The namespace is valid, and its directory there as long as pernet devices are.
        let parent = unsafe { (*net.as_ptr()).proc_net };
        // SAFETY: The name is terminated, the operations are static, and the size is that of the
        // state that they use.
        let entry = unsafe {
            bindings::proc_create_net_data(
                L::NAME.as_char_ptr(),
                0o444,
                parent,
                State::<L>::OPS,
                // CAST: A small size.
                size_of::<State<L>>() as u32,
                ptr::null_mut(),
            )
        };
        if entry.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: It was just made.
        Ok(Self {
            parent,
            _list: PhantomData,
        })
    }
}

impl<L: List> Drop for File<L> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::remove_proc_entry(L::NAME.as_char_ptr(), self.parent) }
    }
}
