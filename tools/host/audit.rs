// SPDX-License-Identifier: GPL-2.0

//! Compiled, not run, by `audit.sh`: makes every function of the pure rooms appear in an object
//! without `std`, optimised and with overflow checks as in the kernel.

#![no_std]
#![allow(missing_docs)]

#[path = "../../src/seq.rs"]
pub mod seq;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

use seq::*;
use wire::{ids::*, outer::*, *};

/// A queue about which the optimiser knows nothing.
pub struct Opaque {
    len: fn() -> usize,
    at: fn(usize) -> Option<Slot>,
    pop: fn() -> Option<u32>,
    push: fn(u32, Slot, usize),
}

impl Queue for Opaque {
    type Item = u32;

    fn len(&self) -> usize {
        (self.len)()
    }

    fn front(&self) -> Option<Slot> {
        (self.at)(0)
    }

    fn pop_front(&mut self) -> Option<u32> {
        (self.pop)()
    }

    fn push_back(&mut self, item: u32, slot: Slot) {
        (self.push)(item, slot, 0)
    }

    fn insert(
        &mut self,
        item: u32,
        mut slot: Slot,
        mut look: impl FnMut(&mut Slot, &Slot) -> Look,
    ) -> Result<(), u32> {
        let mut back = 0usize;
        let mut place = 0;
        while let Some(other) = (self.at)(back) {
            back = back.wrapping_add(1);
            match look(&mut slot, &other) {
                Look::Before => place = back,
                Look::Pass => (),
                Look::Stop => break,
                Look::Refuse => return Err(item),
            }
        }
        (self.push)(item, slot, place);
        Ok(())
    }
}

#[no_mangle]
pub fn audit_peek_udp(bytes: &[u8]) -> UdpPeek {
    peek_udp(bytes)
}

#[no_mangle]
pub fn audit_peek_ip(bytes: &[u8]) -> IpPeek {
    peek_ip(bytes)
}

#[no_mangle]
pub fn audit_v2_parse(bytes: &[u8]) -> Option<v2::Data> {
    v2::parse(bytes)
}

#[no_mangle]
pub fn audit_v3_parse(b: &[u8], at: usize, cookie_len: usize, l: L2SpecType) -> Option<v3::Data> {
    v3::parse(b, at, cookie_len, l)
}

#[no_mangle]
pub fn audit_v3_parse_and_check(b: &[u8], cookie: &Cookie, l: L2SpecType) -> Option<usize> {
    let data = v3::parse(b, v3::OPTIONS_AT_UDP, cookie.len(), l)?;
    (data.cookie == *cookie).then_some(data.payload)
}

#[no_mangle]
pub fn audit_cookie(cookie: &Cookie, bytes: &[u8]) -> (bool, Option<Cookie>, usize) {
    (
        cookie.ct_eq(bytes),
        Cookie::try_from(bytes).ok(),
        cookie.as_slice().len(),
    )
}

#[no_mangle]
pub fn audit_header(
    v: Version,
    e: EncapType,
    t: TunnelId,
    s: SessionId,
    c: &Cookie,
    l: L2SpecType,
) -> DataHeader {
    DataHeader::new(v, e, t, s, c, l)
}

#[no_mangle]
pub fn audit_emit(header: &DataHeader, out: &mut [u8], ns: Option<u32>) -> Option<()> {
    header.emit(out, ns)
}

#[no_mangle]
pub fn audit_emit_pushed(header: &DataHeader, out: &mut [u8; 20], ns: Option<u32>) -> Option<()> {
    header.emit(out, ns)
}

#[no_mangle]
pub fn audit_len(header: &DataHeader, sequenced: bool) -> (usize, usize, bool) {
    (header.len(sequenced), header.max_len(), header.carries_ns())
}

#[no_mangle]
pub fn audit_ids(v: u16, t: TunnelId, s: SessionId) -> (Option<PwType>, Option<EncapType>, u32) {
    (PwType::from_u16(v), EncapType::from_u16(v), v2_key(t, s))
}

#[no_mangle]
pub fn audit_ipv4(header: &Ipv4Header) -> [u8; 20] {
    header.emit()
}

#[no_mangle]
pub fn audit_ipv6(header: &Ipv6Header) -> [u8; 40] {
    header.emit()
}

#[no_mangle]
pub fn audit_udp(header: &UdpHeader) -> [u8; 8] {
    header.emit()
}

#[no_mangle]
pub fn audit_judge(options: Options, numbered: bool) -> Policy {
    options.judge(numbered)
}

#[no_mangle]
pub fn audit_receive(
    receiver: &mut Receiver,
    queue: &mut Opaque,
    item: u32,
    ns: Option<u32>,
    now: u64,
    config: &Config,
) -> Outcome<u32> {
    receiver.receive(queue, item, ns, 1500, now, config)
}

#[no_mangle]
pub fn audit_serve(receiver: &mut Receiver, queue: &mut Opaque, now: u64) -> Option<Delivery<u32>> {
    receiver.serve(queue, now)
}

#[no_mangle]
pub fn audit_rest(receiver: &mut Receiver, queue: &mut Opaque) -> (Option<u64>, Option<u32>) {
    (receiver.next_expiry(queue), receiver.purge(queue))
}
