// SPDX-License-Identifier: GPL-2.0

//! L2TP: the kernel's part of it, which is data messages (RFC 2661, RFC 3931).

#![deny(unsafe_code)]

use kernel::prelude::*;

#[allow(unsafe_code)]
mod abstractions;
#[allow(unsafe_code)]
mod bindings;
mod seq;
mod wire;

module! {
    type: L2tp,
    name: "l2tp",
    authors: ["l2tp-rust developers"],
    description: "L2TP",
    license: "GPL",
}

struct L2tp;

impl kernel::Module for L2tp {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(L2tp)
    }
}
