// SPDX-License-Identifier: GPL-2.0

//! Files that list what there is in a network namespace, one record after the other.
//!
//! C headers: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h),
//! [`include/linux/seq_file_net.h`](srctree/include/linux/seq_file_net.h)

use super::net_namespace::Net;
use crate::{
    bindings,
    prelude::*, //
};
use core::ptr;
use kernel::{
    ffi,
    seq_file::SeqFile, //
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

/// What an open file remembers: its `private` memory. Zeroed when it is opened, but for the namespace,
/// a reference to which the file holds.
#[repr(C)]
pub(super) struct State<L: List> {
    pub(super) net: bindings::seq_net_private,
    place: L::Place,
}

impl<L: List> State<L> {
    /// For a file whose private memory is this.
    pub(super) const OPS: &'static bindings::seq_operations = &bindings::seq_operations {
        start: Some(start::<L>),
        stop: Some(stop::<L>),
        next: Some(next::<L>),
        show: Some(show::<L>),
    };
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
