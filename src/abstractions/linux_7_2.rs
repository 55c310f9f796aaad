// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate of Linux 7.2 lacks, and that of 7.3 has. Elsewhere this is not compiled.

use kernel::{
    bindings,
    error::Error, //
};

/// The error codes that `kernel::error::code` lacks.
pub mod code {
    use super::*;

    /// # Safety
    ///
    /// `errno` is between 1 and 4095.
    const unsafe fn error(errno: u32) -> Error {
        // SAFETY: An `Error` is nothing but a `NonZeroI32`, in whose place there is no room for more,
        // and any from -4095 to -1 makes a valid one.
        unsafe { core::mem::transmute::<i32, Error>(-(errno as i32)) }
    }

    // It is that still.
    const _: () = assert!(
        // SAFETY: As `error` says; any value of it is one of an `i32`.
        unsafe { core::mem::transmute::<Error, i32>(kernel::error::code::EPERM) }
            == -(bindings::EPERM as i32)
    );

    macro_rules! declare {
        ($($name:ident)*) => {
            $(
                // SAFETY: A number of `include/uapi/asm-generic/errno.h`.
                pub const $name: Error = unsafe { error(bindings::$name) };
            )*
        };
    }

    declare! {
        EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EALREADY EBADR EDESTADDRREQ EHOSTUNREACH ELOOP
        ENETUNREACH ENOBUFS ENOPROTOOPT ENOSYS ENOTCONN ENOTSOCK EOPNOTSUPP EPROTONOSUPPORT
        EPROTOTYPE ESHUTDOWN
    }
}

/// The functions that `kernel::sync::rcu` lacks.
pub mod rcu {
    use super::*;

    /// Waits for all callbacks that were given to `call_rcu()`. May sleep.
    pub fn rcu_barrier() {
        // SAFETY: Sleeping is all that it asks for.
        unsafe { bindings::rcu_barrier() };
    }

    /// Waits for a grace period. May sleep.
    pub fn synchronize_rcu() {
        // SAFETY: Sleeping is all that it asks for.
        unsafe { bindings::synchronize_rcu() };
    }
}
