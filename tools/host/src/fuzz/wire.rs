// SPDX-License-Identifier: GPL-2.0

use crate::wire::{
    ids::*,
    outer::*,
    *, //
};

/// Feeds packets to every parser, and what they found back to the emitters.
pub fn wire(input: &[u8]) {
    // One byte of session configuration, then the packet.
    let Some((&config, packet)) = input.split_first() else {
        return;
    };
    let l2spec = if config & 1 != 0 {
        L2SpecType::Default
    } else {
        L2SpecType::None
    };
    let cookie_len = usize::from((config >> 1) & 15);

    match peek_udp(packet) {
        UdpPeek::PassUp => assert!(packet.len() < UDP_PEEK_LEN || packet[0] & 0x80 != 0),
        UdpPeek::V2 {
            tunnel_id,
            session_id,
        } => check_v2(packet, tunnel_id, session_id),
        UdpPeek::V3 {
            session_id,
            version,
        } => {
            assert!(version != 2 && version < 16);
            check_v3(packet, EncapType::Udp, session_id, cookie_len, l2spec);
        }
    }
    match peek_ip(packet) {
        IpPeek::Short => assert!(packet.len() < 4),
        IpPeek::Control { .. } => assert!(packet.len() >= IP_PEEK_LEN),
        IpPeek::BadControl => assert_eq!(packet[..4], [0; 4]),
        IpPeek::Data { session_id } => {
            check_v3(packet, EncapType::Ip, session_id, cookie_len, l2spec)
        }
    }

    // No precondition holds for this.
    let _ = v3::parse(packet, cookie_len, usize::from(config), l2spec);
    check_cut(packet, cookie_len, l2spec);
    check_emit(config, packet, l2spec);
    check_outer(config, packet);
}

fn check_v2(packet: &[u8], tunnel_id: TunnelId, session_id: SessionId) {
    let Some(data) = v2::parse(packet) else {
        assert!(packet.len() < v2::HDR_LEN_MAX);
        return;
    };
    assert!(data.payload >= v2::HDR_LEN);
    // The plain header of the same meaning must read the same.
    let header = v2::Header::new(tunnel_id, session_id);
    let mut again = [0; 32];
    header.emit(&mut again, data.ns.map(u32::from)).unwrap();
    assert_eq!(
        peek_udp(&again),
        UdpPeek::V2 {
            tunnel_id,
            session_id
        }
    );
    let parsed = v2::parse(&again).unwrap();
    assert_eq!(parsed.ns, data.ns);
    assert_eq!(parsed.payload, header.len(data.ns.is_some()));
}

fn check_v3(
    packet: &[u8],
    encap: EncapType,
    session_id: SessionId,
    cookie_len: usize,
    l2spec: L2SpecType,
) {
    let at = match encap {
        EncapType::Udp => v3::OPTIONS_AT_UDP,
        EncapType::Ip => v3::OPTIONS_AT_IP,
    };
    let end = at + v3::options_len(cookie_len, l2spec);
    let Some(data) = v3::parse(packet, at, cookie_len, l2spec) else {
        assert!(packet.len() < end || cookie_len > COOKIE_MAX);
        return;
    };
    assert_eq!(data.payload, end);
    assert!(data.cookie.ct_eq(&packet[at..at + cookie_len]));

    let header = v3::Header::new(encap, session_id, &data.cookie, l2spec);
    let mut again = [0xee; 24];
    header.emit(&mut again, data.ns).unwrap();
    assert_eq!(header.hdr_len(), end);
    assert_eq!(v3::parse(&again[..end], at, cookie_len, l2spec), Some(data));
    assert!(again[end..].iter().all(|byte| *byte == 0xee));
}

/// What is read of the start of a packet is there in the whole of it, and nothing else.
fn check_cut(packet: &[u8], cookie_len: usize, l2spec: L2SpecType) {
    for len in 0..packet.len().min(32) {
        let cut = &packet[..len];
        match peek_udp(cut) {
            UdpPeek::PassUp => (),
            found => assert_eq!(found, peek_udp(packet)),
        }
        match peek_ip(cut) {
            IpPeek::Short | IpPeek::BadControl => (),
            found => assert_eq!(found, peek_ip(packet)),
        }
        if let Some(data) = v2::parse(cut) {
            assert_eq!(v2::parse(packet), Some(data));
        }
        for at in [v3::OPTIONS_AT_UDP, v3::OPTIONS_AT_IP] {
            if let Some(data) = v3::parse(cut, at, cookie_len, l2spec) {
                assert!(data.payload <= len);
                assert_eq!(v3::parse(packet, at, cookie_len, l2spec), Some(data));
            }
        }
    }
}

/// A header is written whole or not at all.
fn check_emit(config: u8, packet: &[u8], l2spec: L2SpecType) {
    let Some((&[a, b, c, d, e, f, g, h, room], cookie)) = packet.split_first_chunk() else {
        return;
    };
    let tunnel_id = TunnelId::new(u32::from_be_bytes([0, a, b, c]));
    let session_id = SessionId::new(u32::from_be_bytes([d, e, f, g]));
    let Ok(cookie) = Cookie::try_from(cookie) else {
        assert!(cookie.len() > COOKIE_MAX);
        return;
    };
    let version = if config & 0x40 != 0 {
        Version::V2
    } else {
        Version::V3
    };
    let encap = EncapType::from_u16(u16::from(config >> 7)).unwrap();
    let header = DataHeader::new(version, encap, tunnel_id, session_id, &cookie, l2spec);
    let ns = (config & 0x20 != 0).then_some(u32::from_be_bytes([d, c, b, h]));

    let len = header.len(ns.is_some());
    assert!(len <= header.max_len() && header.max_len() <= DataHeader::MAX_LEN);
    let mut out = vec![0xee; usize::from(room % 32)];
    let Some(()) = header.emit(&mut out, ns) else {
        assert!(out.len() < len && out.iter().all(|byte| *byte == 0xee));
        return;
    };
    assert!(out[len..].iter().all(|byte| *byte == 0xee));
    if version == Version::V3 {
        let data = v3::Data {
            cookie,
            ns: ns.filter(|_| header.carries_ns()).map(|ns| ns & 0xff_ffff),
            payload: len,
        };
        let at = len - v3::options_len(cookie.len(), l2spec);
        assert_eq!(v3::parse(&out, at, cookie.len(), l2spec), Some(data));
        assert_eq!(out[at - 4..at], session_id.get().to_be_bytes());
    }
}

fn check_outer(config: u8, packet: &[u8]) {
    let Some(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n]) = packet.first_chunk() else {
        return;
    };
    let header = Ipv4Header {
        tos: a,
        total_len: u16::from_be_bytes([b, c]),
        id: u16::from_be_bytes([d, e]),
        ttl: f,
        protocol: config,
        saddr: [g, h, i, j],
        daddr: [k, l, m, n],
    };
    let words = header.emit();
    let sum: u32 = words
        .chunks(2)
        .map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair[1]))
        .sum();
    assert_eq!(sum % 0xffff, 0);
}
