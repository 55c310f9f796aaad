// SPDX-License-Identifier: GPL-2.0

//! Files in `/proc/net` that list something, one record after the other.
//!
//! C headers: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h),
//! [`include/linux/seq_file_net.h`](srctree/include/linux/seq_file_net.h)

use super::net_namespace::Net;
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    ffi,
    prelude::*,
    seq_file::SeqFile,
    str::CStrExt, //
};
use pin_init::Zeroable;

/// What a file lists.
pub trait List: 'static {
    /// The name of the file.
    const NAME: &'static CStr;

    /// A place in the list. Zeroes are its start.
    type Place: Copy + Zeroable;

    /// What there is at a place.
    type Record;

    /// The record at `place`, or the first one after it, in which case `place` moves there. May
    /// sleep.
    fn find(net: &Net, place: &mut Self::Place) -> Option<Self::Record>;

    /// Moves to the place behind that of a record that was found.
    fn pass(place: &mut Self::Place);

    /// Writes a record. If there is not enough room, it is written again later. May sleep.
    fn show(record: &Self::Record, out: &SeqFile);
}

/// What an open file remembers. Zeroed when it is opened.
#[repr(C)]
struct State<L: List> {
    net: bindings::seq_net_private,
    place: L::Place,
}

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
    const OPS: bindings::seq_operations = bindings::seq_operations {
        start: Some(start::<L>),
        stop: Some(stop::<L>),
        next: Some(next::<L>),
        show: Some(show::<L>),
    };

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
                const { &Self::OPS },
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

/// # Safety
///
/// `m` must be an open file of `L`, which nobody else uses during `'a`.
unsafe fn state<'a, L: List>(m: *mut bindings::seq_file) -> (&'a Net, &'a mut L::Place) {
    // SAFETY: By the safety requirement. The file keeps its namespace; its private memory is a
    // `State<L>`, of which the place is ours.
    unsafe {
        let state = (*m).private.cast::<State<L>>();
        (
            Net::from_raw(bindings::seq_file_net(m)),
            &mut (*state).place,
        )
    }
}

/// The record at a place, for C to hold; or null, or an error pointer.
fn find<L: List>(net: &Net, place: &mut L::Place) -> *mut ffi::c_void {
    match L::find(net, place).map(|record| KBox::new(record, GFP_KERNEL)) {
        None => ptr::null_mut(),
        Some(Ok(record)) => KBox::into_raw(record).cast(),
        Some(Err(_)) => ENOMEM.to_ptr(),
    }
}

/// # Safety
///
/// `v` must come from [`find`], and not be used afterwards.
unsafe fn forget<L: List>(v: *mut ffi::c_void) {
    if kernel::error::from_err_ptr(v).is_ok_and(|v| !v.is_null()) {
        // SAFETY: By the safety requirement.
        drop(unsafe { KBox::from_raw(v.cast::<L::Record>()) });
    }
}

/// # Safety
///
/// For `struct seq_operations`: `m` must be an open file of `L`, locked.
unsafe extern "C" fn start<L: List>(
    m: *mut bindings::seq_file,
    pos: *mut bindings::loff_t,
) -> *mut ffi::c_void {
    // SAFETY: By the safety requirement.
    let ((net, place), pos) = unsafe { (state::<L>(m), *pos) };
    if pos == 0 {
        *place = Zeroable::zeroed();
    }
    find::<L>(net, place)
}

/// # Safety
///
/// As for [`start`]; `v` is what the last call has returned, and is a record.
unsafe extern "C" fn next<L: List>(
    m: *mut bindings::seq_file,
    v: *mut ffi::c_void,
    pos: *mut bindings::loff_t,
) -> *mut ffi::c_void {
    // SAFETY: By the safety requirement.
    let (net, place) = unsafe {
        forget::<L>(v);
        *pos = (*pos).wrapping_add(1);
        state::<L>(m)
    };
    L::pass(place);
    find::<L>(net, place)
}

/// # Safety
///
/// As for [`start`]; `v` is what the last call has returned.
unsafe extern "C" fn stop<L: List>(_m: *mut bindings::seq_file, v: *mut ffi::c_void) {
    // SAFETY: By the safety requirement.
    unsafe { forget::<L>(v) }
}

/// # Safety
///
/// As for [`next`].
unsafe extern "C" fn show<L: List>(m: *mut bindings::seq_file, v: *mut ffi::c_void) -> ffi::c_int {
    // SAFETY: By the safety requirement; the types of the two bindings are the same C type.
    unsafe { L::show(&*v.cast::<L::Record>(), SeqFile::from_raw(m.cast())) };
    0
}
