// SPDX-License-Identifier: GPL-2.0

//! The pure rooms of the module, mounted at the crate paths they have in the kernel.

#[path = "../../../src/seq.rs"]
pub mod seq;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;

pub mod fuzz;
mod queue;

pub use self::queue::VecQueue;
