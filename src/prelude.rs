// SPDX-License-Identifier: GPL-2.0

//! What every file starts with: the kernel's prelude, and what that of an older kernel lacks.

#[cfg(L2TP_LINUX_7_2)]
pub use crate::abstractions::linux_7_2::code::*;
pub use kernel::prelude::*;
