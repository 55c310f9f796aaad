// SPDX-License-Identifier: GPL-2.0

//! Feeds packets to every parser, and what they found back to the emitters.

#![no_main]

use l2tp_host::wire::{
    ids::*,
    outer::*,
    *, //
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
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
        } => {
            let data = v2::parse(packet).expect("peeked");
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

    // No precondition holds for these.
    let _ = v2::parse(packet);
    let _ = v3::parse(packet, cookie_len, usize::from(config), l2spec);
    if let Some(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n]) = packet.first_chunk() {
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
});

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
