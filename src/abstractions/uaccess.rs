// SPDX-License-Identifier: GPL-2.0

//! Memory of user space.
//!
//! C header: [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h)

use crate::{
    bindings,
    prelude::*, //
};
use kernel::{
    uaccess::UserPtr, //
};

/// Whether user space may have `len` bytes at `ptr`: `EFAULT` for addresses of the kernel's. Says
/// nothing about whether there is memory.
pub fn check_range(ptr: UserPtr, len: usize) -> Result {
    // SAFETY: The address is only compared.
    if unsafe { bindings::access_ok(ptr.as_const_ptr(), len) } {
        Ok(())
    } else {
        Err(EFAULT)
    }
}
