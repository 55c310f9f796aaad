// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel interfaces that this module needs and the `kernel` crate lacks.
//!
//! Written as if they stood in `rust/kernel/`: one file for each C header, no L2TP word in them,
//! nothing wrapped that is not used. All of this module's `unsafe` is here and in
//! [`crate::bindings`].

#[cfg(L2TP_LINUX_7_2)]
pub mod linux_7_2;
#[cfg(CONFIG_L2TP_RUST_MISTAKES)]
pub mod mistakes;
pub mod net;
pub mod percpu;
pub mod rhashtable;
pub mod sync;
pub mod time;
pub mod timer;
pub mod tracepoint;
pub mod uaccess;
pub mod workqueue;
