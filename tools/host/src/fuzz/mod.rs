// SPDX-License-Identifier: GPL-2.0

//! What the fuzzers run, one function for each; the tests run them on the corpus.

mod seq;
mod wire;

pub use self::{
    seq::seq,
    wire::wire, //
};
