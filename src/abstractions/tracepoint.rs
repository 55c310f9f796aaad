// SPDX-License-Identifier: GPL-2.0

//! Tracepoints that the C part of this crate defines.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)
//!
//! As [`kernel::tracepoint`], which is for those whose bindings are the kernel crate's.

/// What a tracepoint may take: plain numbers, whatever their value.
#[doc(hidden)]
pub trait Number {}

impl Number for i32 {}
impl Number for u16 {}
impl Number for u32 {}

/// Makes functions that fire tracepoints of the same name, whose arguments come from a closure.
///
/// A tracepoint that is off costs an instruction that does nothing: the closure is called only when
/// it is on. It may be called in any context, though not in an NMI. The tracepoints are those of
/// `src/bindings/trace.h`; the compiler compares the types of their arguments.
macro_rules! tracepoints {
    ($($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?);)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[allow(unsafe_code)]
        $vis fn $name(args: impl FnOnce() -> ($($type,)*)) {
            const {
                // The probes take numbers, so that there is nothing a caller would have to promise.
                const fn number<T: $crate::abstractions::tracepoint::Number>() {}
                $( number::<$type>(); )*
            }
            #[cfg(CONFIG_TRACEPOINTS)]
            ::kernel::macros::paste! {
                // C only ever gets it back.
                #[allow(improper_ctypes)]
                extern "C" {
                    static [<__tracepoint_ $name>]: ::kernel::bindings::tracepoint;
                }
                // SAFETY: It is a tracepoint, with the static key in it, defined by C; it lives as
                // long as this code.
                let on = unsafe {
                    ::kernel::jump_label::static_branch_unlikely!(
                        [<__tracepoint_ $name>],
                        ::kernel::bindings::tracepoint,
                        key
                    )
                };
                // Not to be inlined, so that who calls this needs no registers for it.
                #[cold]
                #[inline(never)]
                fn fire(args: impl FnOnce() -> ($($type,)*)) {
                    let ($($arg,)*) = args();
                    // SAFETY: The function calls the probes of the tracepoint, which take numbers.
                    unsafe { $crate::bindings::[<rust_do_trace_ $name>]($($arg),*) };
                }
                if on {
                    fire(args);
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            let _ = args;
        }
    )*};
}

pub(crate) use tracepoints;
