// SPDX-License-Identifier: GPL-2.0

//! The wire formats: byte arrays for every shape, truncation at every length, and properties
//! against a second, slow reading of the RFCs.

use l2tp_host::wire::{
    ids::*,
    outer::*,
    *, //
};
use proptest::prelude::*;

fn tid(id: u32) -> TunnelId {
    TunnelId::new(id)
}

fn sid(id: u32) -> SessionId {
    SessionId::new(id)
}

fn cookie(bytes: &[u8]) -> Cookie {
    Cookie::try_from(bytes).unwrap()
}

// ---- ids ----

#[test]
fn v2_ids_are_cut_to_16_bits() {
    assert_eq!(tid(0x1234_5678).to_v2(), 0x5678);
    assert_eq!(sid(0x9abc_def0).to_v2(), 0xdef0);
    assert_eq!(v2_key(tid(0x1234_5678), sid(0x9abc_def0)), 0x5678_def0);
    assert_eq!(v2_key(tid(1), sid(2)), 0x0001_0002);
    assert_eq!(tid(0x1234_5678).get(), 0x1234_5678);
    assert_eq!(TunnelId::from_v2(0xffff), tid(0xffff));
    assert_eq!(SessionId::from_v2(0xffff), sid(0xffff));
}

#[test]
fn numbers_of_the_uapi() {
    let known = [
        (4, PwType::EthVlan),
        (5, PwType::Eth),
        (7, PwType::Ppp),
        (8, PwType::PppAc),
        (11, PwType::Ip),
    ];
    for value in 0..=u16::MAX {
        let pw_type = PwType::from_u16(value);
        assert_eq!(pw_type.is_some(), value < 12);
        assert_eq!(pw_type.map(PwType::get).unwrap_or(value), value);
        match known.iter().find(|(known, _)| *known == value) {
            Some((_, known)) => assert_eq!(pw_type, Some(*known)),
            None if value < 12 => assert_eq!(pw_type, Some(PwType::Unnamed(value))),
            None => (),
        }
        let encap = EncapType::from_u16(value);
        assert_eq!(encap.map(EncapType::get), (value < 2).then_some(value));
    }
    for value in 0..=u8::MAX {
        let version = Version::from_u8(value);
        assert_eq!(
            version.map(Version::get),
            [2, 3].contains(&value).then_some(value)
        );
        let l2spec = L2SpecType::from_u8(value);
        assert_eq!(l2spec.map(L2SpecType::get), (value < 2).then_some(value));
    }
    assert_eq!(EncapType::from_u16(0), Some(EncapType::Udp));
    assert_eq!(L2SpecType::from_u8(0), Some(L2SpecType::None));
}

#[test]
fn cookies_of_every_length() {
    let bytes = [0xa1, 0, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0, 0xa9];
    for len in 0..=8 {
        let cookie = cookie(&bytes[..len]);
        assert_eq!(cookie.len(), len);
        assert_eq!(cookie.is_empty(), len == 0);
        assert_eq!(cookie.as_slice(), &bytes[..len]);
        for other in 0..=bytes.len() {
            // Also tells 7 bytes from 8, of which the last is zero.
            assert_eq!(cookie.ct_eq(&bytes[..other]), other == len);
        }
        for bit in 0..len * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!cookie.ct_eq(&wrong[..len]));
            assert_ne!(cookie, Cookie::from_slice(&wrong[..len]).unwrap());
        }
    }
    assert_eq!(Cookie::try_from(&bytes[..]), Err(CookieTooLong));
    assert_eq!(Cookie::default(), Cookie::EMPTY);
    assert_eq!(cookie(&[]), Cookie::EMPTY);
}

// ---- first look ----

#[test]
fn udp_shapes() {
    let v2 = |tunnel_id, session_id| UdpPeek::V2 {
        tunnel_id: TunnelId::from_v2(tunnel_id),
        session_id: SessionId::from_v2(session_id),
    };
    let v3 = |version| UdpPeek::V3 {
        session_id: sid(0x1122_3344),
        version,
    };
    let cases: &[(&[u8; 8], UdpPeek)] = &[
        // Plain, and with every bit that does not move the ids.
        (b"\x00\x02\x12\x34\x56\x78\xaa\xbb", v2(0x1234, 0x5678)),
        (b"\x3f\xf2\x12\x34\x56\x78\xaa\xbb", v2(0x1234, 0x5678)),
        // With Length.
        (b"\x40\x02\xff\xff\x12\x34\x56\x78", v2(0x1234, 0x5678)),
        (b"\x7f\xf2\x00\x00\x12\x34\x56\x78", v2(0x1234, 0x5678)),
        (b"\x00\x02\x00\x00\x00\x00\xaa\xbb", v2(0, 0)),
        // v3, reserved bits set or not, and versions nobody defined.
        (b"\x00\x03\x00\x00\x11\x22\x33\x44", v3(3)),
        (b"\x7f\xf3\xff\xff\x11\x22\x33\x44", v3(3)),
        (b"\x00\x00\x00\x00\x11\x22\x33\x44", v3(0)),
        (b"\x00\x01\x00\x00\x11\x22\x33\x44", v3(1)),
        (b"\x00\x04\x00\x00\x11\x22\x33\x44", v3(4)),
        (b"\x00\x0f\x00\x00\x11\x22\x33\x44", v3(15)),
        // Control.
        (b"\xc8\x02\x00\x0c\x12\x34\x00\x00", UdpPeek::PassUp),
        (b"\x80\x02\x12\x34\x56\x78\xaa\xbb", UdpPeek::PassUp),
        (b"\xc8\x03\x00\x0c\x11\x22\x33\x44", UdpPeek::PassUp),
        (b"\x80\x00\x00\x00\x11\x22\x33\x44", UdpPeek::PassUp),
    ];
    for (head, expected) in cases {
        let mut packet = head.to_vec();
        packet.resize(40, 0xee);
        assert_eq!(peek_udp(&packet), *expected, "{head:02x?}");
        for len in 0..packet.len() {
            // Of version 2, the ids are enough.
            let enough = match expected {
                UdpPeek::V2 { .. } if head[0] & 0x40 != 0 => 8,
                UdpPeek::V2 { .. } => 6,
                _ => 14,
            };
            let expected = if len < enough {
                UdpPeek::PassUp
            } else {
                *expected
            };
            assert_eq!(
                peek_udp(&packet[..len]),
                expected,
                "{head:02x?} cut to {len}"
            );
        }
    }
}

#[test]
fn ip_shapes() {
    let data = b"\x11\x22\x33\x44";
    let sccrq = b"\0\0\0\0\xc8\x03\x00\x14\0\0\0\0\0\0\0\0\x80\x08\0\0\0\0\0\x01";
    let hello = b"\0\0\0\0\xc8\x03\x00\x0c\xde\xad\xbe\xef\0\x01\0\x02";
    let no_t = b"\0\0\0\0\x48\x03\x00\x0c\xde\xad\xbe\xef\0\x01\0\x02";
    let no_l = b"\0\0\0\0\x88\x03\x00\x0c\xde\xad\xbe\xef\0\x01\0\x02";
    let other_version = b"\0\0\0\0\xc0\x02\x00\x0c\xde\xad\xbe\xef\0\x01\0\x02";
    let control = |id| IpPeek::Control { conn_id: tid(id) };

    assert_eq!(
        peek_ip(data),
        IpPeek::Data {
            session_id: sid(0x1122_3344)
        }
    );
    assert_eq!(peek_ip(b"\0\0\0\x01"), IpPeek::Data { session_id: sid(1) });
    assert_eq!(peek_ip(sccrq), control(0));
    assert_eq!(peek_ip(hello), control(0xdead_beef));
    assert_eq!(peek_ip(other_version), control(0xdead_beef));
    assert_eq!(peek_ip(no_t), IpPeek::BadControl);
    assert_eq!(peek_ip(no_l), IpPeek::BadControl);
    for len in 0..4 {
        assert_eq!(peek_ip(&data[..len]), IpPeek::Short);
        assert_eq!(peek_ip(&hello[..len]), IpPeek::Short);
    }
    for len in 4..16 {
        assert_eq!(peek_ip(&hello[..len]), IpPeek::BadControl);
    }
}

// ---- v2 receive ----

#[test]
fn v2_shapes() {
    let cases: &[(&[u8], Option<u16>, usize)] = &[
        (b"\x00\x02\0\x01\0\x02", None, 6),
        (b"\x40\x02\0\x00\0\x01\0\x02", None, 8),
        (b"\x08\x02\0\x01\0\x02\x12\x34\xff\xff", Some(0x1234), 10),
        (b"\x02\x02\0\x01\0\x02\0\0", None, 8),
        (b"\x02\x02\0\x01\0\x02\0\x05", None, 13),
        (b"\x48\x02\0\0\0\x01\0\x02\x12\x34\0\0", Some(0x1234), 12),
        (b"\x42\x02\0\0\0\x01\0\x02\x01\x00", None, 266),
        (b"\x0a\x02\0\x01\0\x02\xff\xff\0\0\0\x01", Some(0xffff), 13),
        // The longest: every field, and a pad that no packet can hold.
        (
            b"\x4a\x02\0\0\0\x01\0\x02\x12\x34\0\0\xff\xff",
            Some(0x1234),
            14 + 0xffff,
        ),
        // Reserved bits and P.
        (b"\x35\xf2\0\x01\0\x02", None, 6),
    ];
    for &(fixed, ns, payload) in cases {
        let expected = Some(v2::Data { ns, payload });
        assert_eq!(v2::parse(fixed), expected, "{fixed:02x?}");
        for len in 0..fixed.len() {
            assert_eq!(v2::parse(&fixed[..len]), None, "{fixed:02x?} cut to {len}");
        }
        let longer = [fixed, &[0xee; 9]].concat();
        assert_eq!(v2::parse(&longer), expected);
    }
}

/// Reads a v2 header one field after the other.
fn slow_v2(bytes: &[u8]) -> Option<(TunnelId, SessionId, v2::Data)> {
    let mut fields = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => Some(u16::from(high) * 256 + u16::from(low)),
        _ => None,
    });
    let mut next = || fields.next().flatten();

    let flags = next()?;
    let mut used = 2;
    if flags & 0x4000 != 0 {
        next()?;
        used += 2;
    }
    let (tunnel_id, session_id) = (next()?, next()?);
    used += 4;
    let mut ns = None;
    if flags & 0x0800 != 0 {
        ns = Some(next()?);
        next()?;
        used += 4;
    }
    if flags & 0x0200 != 0 {
        used += 2 + usize::from(next()?);
    }
    Some((
        TunnelId::from_v2(tunnel_id),
        SessionId::from_v2(session_id),
        v2::Data { ns, payload: used },
    ))
}

proptest! {
    #[test]
    fn v2_parse_agrees_with_slow(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let slow = slow_v2(&bytes);
        prop_assert_eq!(v2::parse(&bytes), slow.map(|(_, _, data)| data));
        let version2 = bytes.len() >= 2 && bytes[0] & 0x80 == 0 && bytes[1] & 15 == 2;
        if bytes.len() >= 14 {
            // With so many bytes, no part of a v2 header can be missing.
            prop_assert!(slow.is_some());
            let (tunnel_id, session_id, _) = slow.unwrap();
            let control = bytes[0] & 0x80 != 0;
            let expected = match bytes[1] & 15 {
                _ if control => UdpPeek::PassUp,
                2 => UdpPeek::V2 { tunnel_id, session_id },
                version => UdpPeek::V3 {
                    session_id: sid(u32::from_be_bytes(bytes[4..8].try_into().unwrap())),
                    version,
                },
            };
            prop_assert_eq!(peek_udp(&bytes), expected);
        } else if let (true, Some((tunnel_id, session_id, _))) = (version2, slow) {
            prop_assert_eq!(peek_udp(&bytes), UdpPeek::V2 { tunnel_id, session_id });
        } else if !version2 {
            prop_assert_eq!(peek_udp(&bytes), UdpPeek::PassUp);
        }
    }
}

// ---- v3 receive ----

#[test]
fn v3_sublayer_bits() {
    let parse = |word: u32| v3::parse(&word.to_be_bytes(), 0, 0, L2SpecType::Default).unwrap();
    assert_eq!(parse(0).ns, None);
    assert_eq!(parse(0x00ff_ffff).ns, None);
    assert_eq!(parse(0xbfff_ffff).ns, None);
    assert_eq!(parse(0x4000_0000).ns, Some(0));
    assert_eq!(parse(0x4012_3456).ns, Some(0x12_3456));
    assert_eq!(parse(0xffff_ffff).ns, Some(0xff_ffff));
}

#[test]
fn v3_truncated_everywhere() {
    let packet: Vec<u8> = (0x40..0x60).collect();
    for at in [v3::OPTIONS_AT_IP, v3::OPTIONS_AT_UDP] {
        for cookie_len in 0..=9 {
            for l2spec in [L2SpecType::None, L2SpecType::Default] {
                let end = at + v3::options_len(cookie_len, l2spec);
                for len in 0..packet.len() {
                    let parsed = v3::parse(&packet[..len], at, cookie_len, l2spec);
                    if len < end || cookie_len > 8 {
                        assert_eq!(parsed, None);
                        continue;
                    }
                    let data = parsed.unwrap();
                    assert_eq!(data.payload, end);
                    assert!(data.cookie.ct_eq(&packet[at..at + cookie_len]));
                    let sublayer = (l2spec == L2SpecType::Default).then(|| {
                        let word = packet[end - 4..end].try_into().unwrap();
                        u32::from_be_bytes(word) & 0xff_ffff
                    });
                    // Every byte has bit 0x40, so S is always set.
                    assert_eq!(data.ns, sublayer);
                }
            }
        }
    }
    assert_eq!(v3::parse(&packet, usize::MAX, 8, L2SpecType::None), None);
    assert_eq!(v3::parse(&packet, 0, usize::MAX, L2SpecType::Default), None);
    assert_eq!(v3::options_len(4, L2SpecType::Default), 8);
}

// ---- transmit ----

/// One session's header, as a test wants it.
struct Shape {
    version: Version,
    encap: EncapType,
    cookie: &'static [u8],
    l2spec: L2SpecType,
}

impl Shape {
    fn header(&self) -> DataHeader {
        DataHeader::new(
            self.version,
            self.encap,
            tid(0xaaaa_0102),
            sid(0x1122_3344),
            &cookie(self.cookie),
            self.l2spec,
        )
    }
}

fn emit(header: &DataHeader, ns: Option<u32>) -> Vec<u8> {
    let mut out = vec![0xee; header.len(ns.is_some())];
    header.emit(&mut out, ns).unwrap();
    out
}

#[test]
fn headers_to_send() {
    use EncapType::*;
    use Version::*;
    const C8: &[u8] = b"\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8";

    let none = L2SpecType::None;
    let default = L2SpecType::Default;
    let ns = Some(0xab12_3456);
    type Case = (
        Version,
        EncapType,
        usize,
        L2SpecType,
        Option<u32>,
        &'static [u8],
    );
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (V2, Udp, 0, none, None, b"\x00\x02\x01\x02\x33\x44"),
        (V2, Udp, 0, none, ns, b"\x08\x02\x01\x02\x33\x44\x34\x56\x00\x00"),
        // v2 knows neither cookie nor sublayer, and its header does not depend on the carrier.
        (V2, Ip, 8, default, None, b"\x00\x02\x01\x02\x33\x44"),
        (V3, Udp, 0, none, None, b"\x00\x03\0\0\x11\x22\x33\x44"),
        (V3, Udp, 0, none, ns, b"\x00\x03\0\0\x11\x22\x33\x44"),
        (V3, Udp, 0, default, None, b"\x00\x03\0\0\x11\x22\x33\x44\0\0\0\0"),
        (V3, Udp, 0, default, ns, b"\x00\x03\0\0\x11\x22\x33\x44\x40\x12\x34\x56"),
        (V3, Udp, 4, none, None, b"\x00\x03\0\0\x11\x22\x33\x44\xc1\xc2\xc3\xc4"),
        (V3, Udp, 4, default, ns,
            b"\x00\x03\0\0\x11\x22\x33\x44\xc1\xc2\xc3\xc4\x40\x12\x34\x56"),
        (V3, Udp, 8, none, ns, b"\x00\x03\0\0\x11\x22\x33\x44\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8"),
        (V3, Udp, 8, default, None,
            b"\x00\x03\0\0\x11\x22\x33\x44\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\0\0\0\0"),
        (V3, Udp, 8, default, ns,
            b"\x00\x03\0\0\x11\x22\x33\x44\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\x40\x12\x34\x56"),
        (V3, Udp, 1, default, ns, b"\x00\x03\0\0\x11\x22\x33\x44\xc1\x40\x12\x34\x56"),
        (V3, Ip, 0, none, None, b"\x11\x22\x33\x44"),
        (V3, Ip, 0, none, ns, b"\x11\x22\x33\x44"),
        (V3, Ip, 1, none, None, b"\x11\x22\x33\x44\xc1"),
        (V3, Ip, 3, none, None, b"\x11\x22\x33\x44\xc1\xc2\xc3"),
        (V3, Ip, 0, default, None, b"\x11\x22\x33\x44\0\0\0\0"),
        (V3, Ip, 0, default, ns, b"\x11\x22\x33\x44\x40\x12\x34\x56"),
        (V3, Ip, 8, default, ns,
            b"\x11\x22\x33\x44\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\x40\x12\x34\x56"),
    ];
    for &(version, encap, cookie_len, l2spec, ns, expected) in cases {
        let shape = Shape {
            version,
            encap,
            cookie: &C8[..cookie_len],
            l2spec,
        };
        let header = shape.header();
        assert_eq!(emit(&header, ns), expected, "{header:?} {ns:?}");
        assert_eq!(header.carries_ns(), version == V2 || l2spec == default);
    }
    assert_eq!(DataHeader::MAX_LEN, 20);
}

/// Builds a header by appending field after field.
fn slow_header(
    (version, encap, l2spec): (Version, EncapType, L2SpecType),
    (tunnel_id, session_id): (u32, u32),
    cookie: &[u8],
    ns: Option<u32>,
) -> Vec<u8> {
    let mut out = Vec::new();
    match version {
        Version::V2 => {
            let flags: u16 = if ns.is_some() { 0x0802 } else { 0x0002 };
            out.extend(flags.to_be_bytes());
            out.extend((tunnel_id as u16).to_be_bytes());
            out.extend((session_id as u16).to_be_bytes());
            if let Some(ns) = ns {
                out.extend((ns as u16).to_be_bytes());
                out.extend([0, 0]);
            }
        }
        Version::V3 => {
            if encap == EncapType::Udp {
                out.extend([0, 3, 0, 0]);
            }
            out.extend(session_id.to_be_bytes());
            out.extend(cookie);
            if l2spec == L2SpecType::Default {
                let word = ns.map_or(0, |ns| 0x4000_0000 + ns % (1 << 24));
                out.extend(word.to_be_bytes());
            }
        }
    }
    out
}

fn any_shape() -> impl Strategy<Value = (Version, EncapType, L2SpecType)> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(v3, ip, default)| {
        (
            if v3 { Version::V3 } else { Version::V2 },
            if ip { EncapType::Ip } else { EncapType::Udp },
            if default {
                L2SpecType::Default
            } else {
                L2SpecType::None
            },
        )
    })
}

proptest! {
    #[test]
    fn emit_agrees_with_slow_and_parses_back(
        shape in any_shape(),
        ids in any::<(u32, u32)>(),
        bytes in prop::collection::vec(any::<u8>(), 0..=8),
        ns in any::<Option<u32>>(),
        room in 0usize..40,
    ) {
        let (version, encap, l2spec) = shape;
        let cookie = cookie(&bytes);
        let header = DataHeader::new(version, encap, tid(ids.0), sid(ids.1), &cookie, l2spec);
        let expected = slow_header(shape, ids, &bytes, ns);
        let len = header.len(ns.is_some());
        prop_assert_eq!(len, expected.len());
        prop_assert!(len <= header.max_len() && header.max_len() <= DataHeader::MAX_LEN);
        prop_assert_eq!(emit(&header, ns), &expected[..]);

        // Whatever room there is: the header and not a byte more, or nothing.
        let mut out = vec![0xee; room];
        match header.emit(&mut out, ns) {
            Some(()) => {
                prop_assert!(room >= len);
                prop_assert_eq!(&out[..len], &expected[..]);
                prop_assert!(out[len..].iter().all(|byte| *byte == 0xee));
            }
            None => {
                prop_assert!(room < len);
                prop_assert!(out.iter().all(|byte| *byte == 0xee));
            }
        }

        // And back.
        let packet = [&expected[..], &[0x5a; 14]].concat();
        let found = match (version, encap) {
            (Version::V2, _) => {
                prop_assert_eq!(peek_udp(&packet), UdpPeek::V2 {
                    tunnel_id: TunnelId::from_v2(ids.0 as u16),
                    session_id: SessionId::from_v2(ids.1 as u16),
                });
                let data = v2::parse(&packet).unwrap();
                prop_assert_eq!(data.ns, ns.map(|ns| ns as u16));
                data.payload
            }
            (Version::V3, EncapType::Udp) => {
                prop_assert_eq!(peek_udp(&packet), UdpPeek::V3 {
                    session_id: sid(ids.1),
                    version: 3,
                });
                let data = v3::parse(&packet, v3::OPTIONS_AT_UDP, bytes.len(), l2spec).unwrap();
                prop_assert_eq!(data.cookie, cookie);
                prop_assert_eq!(data.ns, ns.filter(|_| header.carries_ns()).map(|ns| ns & 0xff_ffff));
                data.payload
            }
            (Version::V3, EncapType::Ip) => {
                prop_assert_eq!(peek_ip(&packet), IpPeek::Data { session_id: sid(ids.1) });
                let data = v3::parse(&packet, v3::OPTIONS_AT_IP, bytes.len(), l2spec).unwrap();
                prop_assert_eq!(data.cookie, cookie);
                prop_assert_eq!(data.ns, ns.filter(|_| header.carries_ns()).map(|ns| ns & 0xff_ffff));
                data.payload
            }
        };
        prop_assert_eq!(found, len);
    }

    #[test]
    fn ip_peek_of_anything(bytes in prop::collection::vec(any::<u8>(), 0..20), zero: bool) {
        let mut bytes = bytes;
        if zero {
            bytes.iter_mut().take(4).for_each(|byte| *byte = 0);
        }
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let expected = if bytes.len() < 4 {
            IpPeek::Short
        } else if word(0) != 0 {
            IpPeek::Data { session_id: sid(word(0)) }
        } else if bytes.len() < 16 || bytes[4] < 0xc0 {
            IpPeek::BadControl
        } else {
            IpPeek::Control { conn_id: tid(word(8)) }
        };
        prop_assert_eq!(peek_ip(&bytes), expected);
    }
}

// ---- outer headers; the packets were captured from a Linux kernel on its loopback ----

#[test]
fn outer_addresses() {
    let v4: Vec<u8> = [0x46].into_iter().chain(1..24).collect();
    let v6: Vec<u8> = [0x60].into_iter().chain(1..40).collect();
    assert_eq!(
        Ipv4Header::addresses(&v4),
        Some(([12, 13, 14, 15], [16, 17, 18, 19]))
    );
    let addresses = Ipv6Header::addresses(&v6).unwrap();
    assert_eq!(addresses.0.as_slice(), &v6[8..24]);
    assert_eq!(addresses.1.as_slice(), &v6[24..40]);
    // Cut off anywhere, or of the other version.
    for len in 0..20 {
        assert_eq!(Ipv4Header::addresses(&v4[..len]), None);
    }
    for len in 0..40 {
        assert_eq!(Ipv6Header::addresses(&v6[..len]), None);
    }
    assert_eq!(Ipv4Header::addresses(&v6), None);
    assert_eq!(Ipv6Header::addresses(&[&[0x40], &v6[1..]].concat()), None);
}

#[test]
fn ipv4_header() {
    let header = Ipv4Header {
        tos: 0xb8,
        total_len: 33,
        id: 0x52f1,
        ttl: 33,
        protocol: 17,
        saddr: [127, 0, 0, 1],
        daddr: [127, 1, 2, 3],
    };
    assert_eq!(
        &header.emit(),
        b"\x45\xb8\x00\x21\x52\xf1\x00\x00\x21\x11\x46\x1e\x7f\x00\x00\x01\x7f\x01\x02\x03"
    );
}

#[test]
fn ipv4_checksum_that_carries_twice() {
    let header = Ipv4Header {
        tos: 0,
        total_len: 0,
        id: 0xbb03,
        ttl: 0,
        protocol: 0,
        saddr: [0xff; 4],
        daddr: [0xff; 4],
    };
    // The words add up to 0x4ffff, that is to 0x10003, that is to 4.
    assert_eq!(header.emit()[10..12], [0xff, 0xfb]);
}

#[test]
fn ipv6_header() {
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let header = Ipv6Header {
        traffic_class: 0xb8,
        // The upper bits must not reach the wire.
        flow_label: 0xfffa_84e3,
        payload_len: 13,
        next_header: 17,
        hop_limit: 0x4d,
        saddr: loopback,
        daddr: loopback,
    };
    assert_eq!(
        &header.emit(),
        b"\x6b\x8a\x84\xe3\x00\x0d\x11\x4d\
          \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
    );
}

#[test]
fn udp_header() {
    let header = UdpHeader {
        source: 1701,
        dest: 45678,
        len: 13,
        check: 0x0024,
    };
    assert_eq!(&header.emit(), b"\x06\xa5\xb2\x6e\x00\x0d\x00\x24");
}

proptest! {
    #[test]
    fn ipv4_fields_and_checksum(
        (tos, total_len, id, ttl, protocol) in any::<(u8, u16, u16, u8, u8)>(),
        saddr: [u8; 4],
        daddr: [u8; 4],
        ones: bool,
    ) {
        let (saddr, daddr) = if ones { ([0xff; 4], [0xff; 4]) } else { (saddr, daddr) };
        let bytes = Ipv4Header { tos, total_len, id, ttl, protocol, saddr, daddr }.emit();
        let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) * 256 + u64::from(pair[1]));
        // A valid header sums up to minus zero in one's complement, never to plain zero here.
        prop_assert_eq!(words.sum::<u64>() % 0xffff, 0);
        prop_assert_eq!(&bytes[..4], &[&[0x45, tos], &total_len.to_be_bytes()[..]].concat()[..]);
        prop_assert_eq!(&bytes[4..8], &[&id.to_be_bytes()[..], &[0, 0]].concat()[..]);
        prop_assert_eq!(&bytes[8..10], &[ttl, protocol]);
        prop_assert_eq!(&bytes[12..], &[saddr, daddr].concat()[..]);
    }

    #[test]
    fn ipv6_addresses(saddr: [u8; 16], daddr: [u8; 16], label: u32, traffic_class: u8) {
        let bytes = Ipv6Header {
            traffic_class,
            flow_label: label,
            payload_len: 0x1234,
            next_header: 115,
            hop_limit: 64,
            saddr,
            daddr,
        }
        .emit();
        let first = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        prop_assert_eq!(first >> 28, 6);
        prop_assert_eq!((first >> 20) & 0xff, u32::from(traffic_class));
        prop_assert_eq!(first & 0xf_ffff, label & 0xf_ffff);
        prop_assert_eq!(&bytes[4..8], &[0x12, 0x34, 115, 64]);
        prop_assert_eq!(&bytes[8..], &[saddr, daddr].concat()[..]);
    }
}
