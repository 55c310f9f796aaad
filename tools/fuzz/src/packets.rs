// SPDX-License-Identifier: GPL-2.0

//! Packets for tunnels of every kind, in and out: right ones, cut off at each byte, with any flags,
//! in fragments, in pieces of memory, larger than any device can send, one in the other, and round
//! in circles, as routes lead tunnels through their own devices and through each other's.

use crate::{
    eventually,
    netlink::*,
    random::Random,
    sys::{
        self,
        raw, //
    },
    Hex,
    Round, //
};
use std::fs;

const OPERATIONS: u64 = 3000;
const ETH: u16 = 5;
const PPP: u16 = 7;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_L2TP: u8 = 115;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const NEAR4: [u8; 4] = [10, 9, 0, 1];

struct Tunnel {
    id: u32,
    version: u8,
    udp: bool,
    v6: bool,
}

impl Tunnel {
    /// The same on both sides.
    fn port(&self) -> u16 {
        5000 + self.id as u16
    }

    /// The outer addresses as bytes: of the host itself, and of the other side.
    fn ends(&self) -> (Vec<u8>, Vec<u8>) {
        if self.v6 {
            (v6(1).to_vec(), v6(10 + self.id as u8).to_vec())
        } else {
            (NEAR4.to_vec(), vec![10, 9, 0, 10 + self.id as u8])
        }
    }
}

/// fd09::N
fn v6(last: u8) -> [u8; 16] {
    let mut out = [0; 16];
    (out[0], out[1], out[15]) = (0xfd, 9, last);
    out
}

#[derive(Clone)]
struct Session {
    tunnel: usize,
    id: u32,
    cookie: Vec<u8>,
    sublayer: bool,
    /// The device at its end, which carries frames, or packets if it is of PPP.
    device: Option<i32>,
    kind: u16,
    next: u32,
}

struct Host {
    random: Random,
    tunnels: Vec<Tunnel>,
    sessions: Vec<Session>,
    /// For packets, and for frames made of pieces.
    tun: i32,
    tap: i32,
    /// For what the host sends.
    packet: i32,
    files: Vec<i32>,
}

// Headers.

fn sum(mut sum: u32, data: &[u8]) -> u32 {
    for pair in data.chunks(2) {
        sum += (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The checksum of a transport header, over the addresses too if `ends` are given.
fn checksum(protocol: u8, ends: &[&[u8]], data: &[u8]) -> [u8; 2] {
    let mut total = 0;
    if !ends.is_empty() {
        total = sum(sum(0, &ends.concat()), &(data.len() as u32).to_be_bytes());
        total = sum(total, &[0, protocol]);
    }
    (!sum(total, data) as u16).to_be_bytes()
}

/// An IPv4 packet; `fragment` is what is in the field of that name.
pub(crate) fn ip4(
    protocol: u8,
    source: &[u8],
    to: &[u8],
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let total = (header + payload.len()).min(0xffff) as u16;
    let mut out = vec![0x40 | (header / 4) as u8, 0];
    out.extend(total.to_be_bytes());
    out.extend([0x12, 0x34]);
    out.extend(fragment.to_be_bytes());
    out.extend([64, protocol, 0, 0]);
    out.extend(source);
    out.extend(to);
    out.extend(options);
    let sum = checksum(0, &[], &out);
    out[10..12].copy_from_slice(&sum);
    out.extend(payload);
    out
}

pub(crate) fn ip6(next: u8, source: &[u8], to: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len().min(0xffff) as u16).to_be_bytes());
    out.extend([next, 64]);
    out.extend(source);
    out.extend(to);
    out.extend(payload);
    out
}

pub(crate) fn udp(
    source: &[u8],
    to: &[u8],
    ports: [u16; 2],
    payload: &[u8],
    zero: bool,
) -> Vec<u8> {
    let mut out: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    out.extend(((payload.len() + 8).min(0xffff) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    if !zero {
        let sum = checksum(IPPROTO_UDP, &[source, to], &out);
        out[6..8].copy_from_slice(&sum);
    }
    out
}

/// struct virtio_net_hdr.
fn vnet(flags: u8, gso: u8, header: u16, size: u16, start: u16, offset: u16) -> Vec<u8> {
    let mut out = vec![flags, gso];
    for word in [header, size, start, offset] {
        out.extend(word.to_ne_bytes());
    }
    out
}

impl Host {
    fn new(round: &Round) -> Self {
        const TUN: u16 = 0x1;
        const TAP: u16 = 0x2;
        const NAPI_FRAGS: u16 = 0x30;

        sys::unshare(libc::CLONE_NEWNET);
        let mut random = round.random(0);
        let tun = device("tun0", TUN);
        let tap = device("tap0", TAP | NAPI_FRAGS);
        let mtu = random.pick(&[1500, 1500, 1280, 9000, 65535]);
        sys::ip(
            &format!(
                "link set lo up
link set tun0 up mtu {mtu} txqueuelen 10000
address add 10.9.0.1/24 dev tun0
address add fd09::1/64 dev tun0 nodad
link set tap0 up address 02:00:00:00:00:01
address add 10.8.0.1/24 dev tap0
"
            ),
            false,
        );
        let packet = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).expect("a packet socket");
        // PACKET_VNET_HDR
        sys::set_option(packet, libc::SOL_PACKET, 15, &1u32.to_ne_bytes())
            .expect("PACKET_VNET_HDR");
        let mut host = Self {
            random,
            tunnels: vec![],
            sessions: vec![],
            tun,
            tap,
            packet,
            files: vec![],
        };
        host.populate();
        host
    }

    fn populate(&mut self) {
        let genl = Netlink::l2tp();
        let kinds = [
            (2, true, false),
            (3, true, false),
            (3, true, true),
            (3, false, false),
            (3, false, true),
            (2, true, true),
        ];
        for (number, (version, udp, v6)) in kinds.into_iter().enumerate() {
            let id = 1 + number as u32;
            let this = Tunnel {
                id,
                version,
                udp,
                v6,
            };
            let (near, far) = this.ends();
            let mut attrs = tunnel(id, version, u16::from(!udp));
            let managed = udp && self.random.chance(50);
            if managed {
                let fd = self.managed(&this);
                attrs = attrs.u32(FD, fd as u32);
            } else {
                let kinds = if v6 {
                    [IP6_SADDR, IP6_DADDR]
                } else {
                    [IP_SADDR, IP_DADDR]
                };
                attrs = attrs.raw(kinds[0], &near).raw(kinds[1], &far);
                attrs = attrs
                    .u16(UDP_SPORT, this.port())
                    .u16(UDP_DPORT, this.port());
            }
            genl.must(TUNNEL_CREATE, &attrs);
            self.tunnels.push(this);
            for n in 1..=3u32 {
                self.session(
                    &genl,
                    number,
                    id * 10 + n,
                    if version == 2 || n == 3 { PPP } else { ETH },
                );
            }
        }
        let mut lines = String::new();
        for (number, session) in self.sessions.iter_mut().enumerate() {
            let name = match session.kind {
                ETH => format!("w{}", session.id),
                _ => match session.device {
                    Some(unit) => format!("ppp{unit}"),
                    None => continue,
                },
            };
            session.device = sys::index(&name);
            lines += &format!("link set {name} up\naddress add 10.77.{number}.1/24 dev {name}\n");
            if session.kind == ETH {
                lines += &format!("link set {name} arp off\n");
            }
        }
        sys::ip(&lines, true);
    }

    /// A socket of user space for the tunnel.
    fn managed(&mut self, tunnel: &Tunnel) -> i32 {
        let (near, far) = tunnel.ends();
        let name = |address: Vec<u8>| match address.len() {
            4 => sys::sockaddr_in(address.try_into().unwrap(), tunnel.port()),
            _ => sys::sockaddr_in6(address.try_into().unwrap(), tunnel.port()),
        };
        let family = if tunnel.v6 {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let fd = sys::socket(family, libc::SOCK_DGRAM, 0).expect("a socket");
        sys::bind(fd, &name(near)).expect("bind");
        sys::connect(fd, &name(far)).expect("connect");
        self.files.push(fd);
        fd
    }

    fn session(&mut self, genl: &Netlink, tunnel: usize, id: u32, kind: u16) {
        let v3 = self.tunnels[tunnel].version == 3;
        let len = if v3 { self.random.pick(&[0, 4, 8]) } else { 0 };
        let cookie = self.random.bytes(len);
        let sublayer = v3 && self.random.chance(70);
        let mut attrs = session(self.tunnels[tunnel].id, id, kind);
        attrs = attrs
            .raw(COOKIE, &cookie)
            .raw(PEER_COOKIE, &cookie)
            .u8(L2SPEC_TYPE, sublayer.into());
        attrs = attrs
            .u8(SEND_SEQ, self.random.below(2) as u8)
            .u8(LNS_MODE, self.random.below(2) as u8);
        if self.random.chance(50) {
            attrs = attrs.u64(RECV_TIMEOUT, self.random.pick(&[10, 50, 10000]));
        }
        if kind == ETH {
            attrs = attrs.name(IFNAME, &format!("w{id}"));
        }
        genl.must(SESSION_CREATE, &attrs);
        let device = if kind == PPP {
            self.ppp(tunnel, id)
        } else {
            None
        };
        self.sessions.push(Session {
            tunnel,
            id,
            cookie,
            sublayer,
            device,
            kind,
            next: 0,
        });
    }

    /// A socket for the session; two in three are connected to a unit, whose number this is.
    fn ppp(&mut self, tunnel: usize, id: u32) -> Option<i32> {
        const GCHAN: u64 = 0x8004_7437;
        const ATTCHAN: u64 = 0x4004_7438;
        const NEWUNIT: u64 = 0xc004_743e;
        const CONNECT: u64 = 0x4004_743a;
        const SNPMODE: u64 = 0x4008_744b;

        let socket = sys::socket(24, libc::SOCK_DGRAM, 1).expect("PPP");
        self.files.push(socket);
        let tunnel = &self.tunnels[tunnel];
        let address = sys::sockaddr_pppol2tp(
            tunnel.version == 2,
            tunnel.v6,
            -1,
            [tunnel.id, id, tunnel.id, id],
        );
        sys::connect(socket, &address).expect("connect a PPP socket");
        if id % 3 == 0 {
            return None;
        }
        let channel = sys::open("/dev/ppp").expect("/dev/ppp");
        let unit = sys::open("/dev/ppp").expect("/dev/ppp");
        self.files.extend([channel, unit]);
        let index = sys::ioctl_int(socket, GCHAN, 0).expect("GCHAN");
        sys::ioctl_int(channel, ATTCHAN, index).expect("ATTCHAN");
        let number = sys::ioctl_int(unit, NEWUNIT, -1).expect("NEWUNIT");
        sys::ioctl_int(channel, CONNECT, number).expect("CONNECT");
        for protocol in [0x21i32, 0x57] {
            let mut mode = [protocol.to_ne_bytes(), [0; 4]].concat();
            sys::ioctl(unit, SNPMODE, &mut mode).expect("SNPMODE");
        }
        Some(number)
    }

    /// Routes of the tunnels through their own devices, or those of others, or none.
    fn reroute(&mut self) {
        // Generic PPP's locks are of one class, whatever device they are of; so lockdep takes a PPP
        // device that sends through another one for a deadlock.
        let is_watched = fs::exists("/proc/lockdep_stats").is_ok_and(|it_is| it_is);
        let mut lines = String::new();
        for number in 0..self.tunnels.len() {
            let session = self.random.pick(&self.sessions);
            let name = match (self.random.below(3), session.kind) {
                (1.., ETH) => format!("w{}", session.id),
                (1.., _) if !is_watched => format!("ppp{}", self.random.below(6)),
                _ => "tun0".to_owned(),
            };
            let tunnel = &self.tunnels[number];
            let last = 10 + tunnel.id;
            lines += &if tunnel.v6 {
                format!("route replace fd09::{last:x}/128 dev {name}\n")
            } else {
                format!("route replace 10.9.0.{last}/32 dev {name}\n")
            };
        }
        sys::ip(&lines, true);
    }

    // What packets are made of.

    /// A frame or packet for the end of a session; it may hold a packet for another one.
    fn inner(&mut self, kind: u16, depth: usize) -> Vec<u8> {
        let payload = if depth < 8 && self.random.chance(25) {
            let (v6, packet) = self.packet(depth + 1);
            if kind == PPP {
                return [&[0xff, 3, 0, if v6 { 0x57 } else { 0x21 }][..], &packet].concat();
            }
            [
                &[if v6 { 0x86 } else { 8 }, if v6 { 0xdd } else { 0 }][..],
                &packet,
            ]
            .concat()
        } else {
            let mut len = self
                .random
                .pick(&[0, 1, 2, 3, 20, 46, 46, 60, 60, 200, 1400, 1500]);
            if self.random.chance(3) {
                len = self.random.pick(&[4000, 9000, 65000]);
            }
            let mut payload = self.random.bytes(len.min(200));
            payload.resize(len, 0x5a);
            payload
        };
        match kind {
            ETH => {
                let to = self
                    .random
                    .pick(&[[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [2, 0, 0, 0, 0, 9]]);
                [&to[..], &[2, 0, 0, 0, 0, 8], &payload].concat()
            }
            _ if self.random.chance(50) => [&[0xff, 3, 0xc0, 0x21][..], &payload].concat(),
            _ => payload,
        }
    }

    /// An L2TP message, from the start of its own header.
    fn message(&mut self, which: usize, depth: usize) -> Vec<u8> {
        let session = self.sessions[which].clone();
        let tunnel = &self.tunnels[session.tunnel];
        let (id, version, over_udp) = (tunnel.id, tunnel.version, tunnel.udp);
        let number = match self.random.below(10) {
            0 => self.random.number() as u32,
            1 | 2 => session
                .next
                .wrapping_add(self.random.below(5) as u32)
                .wrapping_sub(2),
            _ => session.next,
        };
        self.sessions[which].next = number.wrapping_add(1);
        let inner = self.inner(session.kind, depth);
        if self.random.chance(10) {
            return self.control(id, version, over_udp);
        }
        let sid = if self.random.chance(3) {
            self.random.number() as u32
        } else {
            session.id
        };
        let mut out = Vec::new();
        if version == 2 {
            let flags = self
                .random
                .pick(&[0, 0, 0x40, 0x08, 0x08, 0x48, 0x02, 0x4a, 0x0a, 0x01]);
            out.extend([flags, 2]);
            if flags & 0x40 != 0 {
                out.extend(((inner.len() + 12) as u16).to_be_bytes());
            }
            out.extend((id as u16).to_be_bytes());
            out.extend((sid as u16).to_be_bytes());
            if flags & 8 != 0 {
                out.extend((number as u16).to_be_bytes());
                out.extend([0, 0]);
            }
            if flags & 2 != 0 {
                let offset = self.random.pick(&[0u16, 1, 2, 40, 1400, 0x7fff, 0xffff]);
                out.extend(offset.to_be_bytes());
                out.resize(out.len() + usize::from(offset).min(100), 0);
            }
        } else {
            if over_udp {
                out.extend([0, 3, 0, 0]);
            }
            out.extend(sid.to_be_bytes());
            out.extend(&session.cookie);
            if session.sublayer {
                let bits = if self.random.chance(70) {
                    0x4000_0000 | number & 0xff_ffff
                } else {
                    number & 0x8000_0000
                };
                out.extend(bits.to_be_bytes());
            }
        }
        out.extend(inner);
        out
    }

    fn control(&mut self, id: u32, version: u8, udp: bool) -> Vec<u8> {
        let mut out = if udp { vec![] } else { vec![0; 4] };
        out.extend([self.random.pick(&[0xc8, 0x80, 0xff, 0x40]), version, 0, 12]);
        out.extend(id.to_be_bytes());
        let more = self.random.below(40);
        out.extend(self.random.bytes(more));
        out
    }

    /// A packet for some session, and whether it is of IPv6.
    fn packet(&mut self, depth: usize) -> (bool, Vec<u8>) {
        let which = self.random.below(self.sessions.len());
        let tunnel = self.sessions[which].tunnel;
        let mut message = self.message(which, depth);
        if self.random.chance(15) {
            self.random.spoil(&mut message);
        }
        message.truncate(65507);
        let (near, far) = self.tunnels[tunnel].ends();
        let (udp_too, port) = (
            self.tunnels[tunnel].udp != self.random.chance(2),
            self.tunnels[tunnel].port(),
        );
        let (mut payload, protocol) = if udp_too {
            let zero = near.len() == 4 && self.random.chance(50);
            (udp(&far, &near, [port, port], &message, zero), IPPROTO_UDP)
        } else {
            (message, IPPROTO_L2TP)
        };
        if self.random.chance(3) {
            self.random.spoil(&mut payload);
        }
        payload.truncate(65515);
        if near.len() == 16 {
            let (next, payload) = self.extended(protocol, payload);
            (true, ip6(next, &far, &near, &payload))
        } else {
            let options = if self.random.chance(5) {
                vec![1; 4 * self.random.below(11)]
            } else {
                vec![]
            };
            payload.truncate(65515 - options.len());
            (false, ip4(protocol, &far, &near, &options, 0, &payload))
        }
    }

    /// With headers before it, at times.
    fn extended(&mut self, protocol: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
        match self.random.below(20) {
            // Options for the destination, for each hop, an atomic fragment.
            0 => (
                60,
                [&[protocol, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat(),
            ),
            1 => (0, [&[protocol, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat()),
            2 => (
                44,
                [&[protocol, 0, 0, 0, 0, 0, 0, 7][..], &payload].concat(),
            ),
            _ => (protocol, payload),
        }
    }

    /// The pieces of a packet, some of them twice, in any order, or not at all.
    fn fragments(&mut self, v6: bool, packet: &[u8]) -> Vec<Vec<u8>> {
        let header = if v6 { 40 } else { 20 };
        if packet.len() < header + 16 || !v6 && packet[0] != 0x45 {
            return vec![packet.to_vec()];
        }
        let (head, payload) = packet.split_at(header);
        let size = 8 * (1 + self.random.below(payload.len() / 8));
        // Each id of its own.
        let id = self.random.next() as u16;
        let mut out = Vec::new();
        for (number, part) in payload.chunks(size).take(40).enumerate() {
            let offset = number * size;
            let more = offset + part.len() < payload.len();
            let mut piece = if v6 {
                let word = offset as u16 | u16::from(more);
                let mut inner = vec![head[6], 0];
                inner.extend(word.to_be_bytes());
                inner.extend([0, 0]);
                inner.extend(id.to_be_bytes());
                inner.extend(part);
                ip6(44, &head[8..24], &head[24..40], &inner)
            } else {
                let word = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                ip4(head[9], &head[12..16], &head[16..20], &[], word, part)
            };
            if !v6 {
                piece[4..6].copy_from_slice(&id.to_be_bytes());
                piece[10..12].fill(0);
                let sum = checksum(0, &[], &piece[..20]);
                piece[10..12].copy_from_slice(&sum);
            }
            if self.random.chance(5) {
                out.push(piece.clone());
            }
            if !self.random.chance(3) {
                out.push(piece);
            }
        }
        if self.random.chance(50) {
            for at in 1..out.len() {
                let other = self.random.below(at + 1);
                out.swap(at, other);
            }
        }
        out
    }

    /// An ICMP message about a packet that the host may have sent.
    fn error(&mut self) -> (bool, Vec<u8>) {
        let (v6, mut about) = self.packet(9);
        // It went the other way.
        let (at, len) = if v6 { (8, 16) } else { (12, 4) };
        let ends = about[at..at + 2 * len].to_vec();
        about[at..at + len].copy_from_slice(&ends[len..]);
        about[at + len..at + 2 * len].copy_from_slice(&ends[..len]);
        let len = self
            .random
            .pick(&[8, 20, 28, 40, 41, 48, 52, 60, 100, 1000]);
        about.truncate(len);
        let kind = if v6 {
            self.random.pick(&[1, 2, 2, 3, 4, 137])
        } else {
            self.random.pick(&[3, 3, 5, 11, 12, 4])
        };
        let mut message = vec![kind, self.random.below(16) as u8, 0, 0];
        message.extend((self.random.pick(&[0, 68, 576, 1280, 1400]) as u32).to_be_bytes());
        if v6 && kind == 137 {
            message.extend(v6_router());
            message.extend(self::v6(11));
        }
        message.extend(about);
        if v6 {
            let sum = checksum(ICMPV6, &[&v6_router(), &self::v6(1)], &message);
            message[2..4].copy_from_slice(&sum);
            (true, ip6(ICMPV6, &v6_router(), &self::v6(1), &message))
        } else {
            let sum = checksum(ICMP, &[], &message);
            message[2..4].copy_from_slice(&sum);
            (false, ip4(ICMP, &[10, 9, 0, 9], &NEAR4, &[], 0, &message))
        }
    }

    // Ways in.

    /// By the device that takes packets, with what virtio says of them.
    fn arrive(&mut self, v6: bool, packet: &[u8]) {
        let transport = if v6 { 40 } else { 20 };
        let head = match self.random.below(12) {
            // Large ones have so much of them in one piece.
            0..=3 => vnet(0, 0, self.random.below(90) as u16, 0, 0, 0),
            4 => vnet(1, 0, 0, 0, transport, 6),
            // UDP in segments, of the right kind and the old one.
            5 => vnet(
                1,
                self.random.pick(&[5, 3]),
                transport + 8,
                self.random.pick(&[1, 60, 500, 1400]),
                transport,
                6,
            ),
            // Claims about it that do not hold.
            6 if self.random.chance(20) => {
                vnet(0, self.random.pick(&[1, 4, 5, 0x81]), 60, 1000, 0, 0)
            }
            _ => vnet(0, 0, 0, 0, 0, 0),
        };
        let _ = sys::write(self.tun, &[&head[..], packet].concat());
    }

    /// By the device that takes frames, in pieces of memory, through the code that merges them.
    fn arrive_in_pieces(&mut self, v6: bool, packet: &[u8]) {
        let kind = if v6 { [0x86, 0xdd] } else { [8, 0] };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(kind);
        frame.extend(packet);
        let head = vnet(0, 0, 0, 0, 0, 0);
        let mut parts = vec![head];
        let mut at = 0;
        while at < frame.len() && parts.len() < 17 {
            let len = self
                .random
                .pick(&[14, 20, 28, 34, 42, 100, 1000, 4096])
                .min(frame.len() - at);
            parts.push(frame[at..at + len].to_vec());
            at += len;
        }
        let vector: Vec<_> = parts
            .iter()
            .flat_map(|part| [part.as_ptr() as usize, part.len()])
            .collect();
        let _ = raw!(SYS_writev, self.tap, vector.as_ptr(), parts.len());
    }

    // Ways out.

    fn transmit(&mut self, round: &Round) {
        let session = self.random.pick(&self.sessions);
        let Some(device) = session.device else { return };
        let v6 = self.random.chance(40);
        let (mut head, mut frame) = match self.random.below(4) {
            0 => self.segments(v6),
            _ => {
                let inner = self.inner(ETH, self.random.clone().below(9));
                (vnet(0, 0, self.random.below(90) as u16, 0, 0, 0), inner)
            }
        };
        if session.kind != ETH && frame.len() > 14 {
            // Without a link header.
            frame.drain(..14);
            let [start, ..] = &mut head[6..8] else { return };
            *start = start.saturating_sub(14);
        }
        round.log(format_args!(
            "transmit {} bytes on {device} with {}",
            frame.len(),
            Hex(&head)
        ));
        let protocol = if v6 { 0x86dd } else { 0x0800 };
        let data = [&head[..], &frame].concat();
        let _ = sys::send(self.packet, &data, 0, &sys::sockaddr_ll(device, protocol));
    }

    /// A frame to be cut by the device: TCP or UDP.
    fn segments(&mut self, v6: bool) -> (Vec<u8>, Vec<u8>) {
        let tcp = self.random.chance(60);
        let len = self.random.pick(&[100, 1000, 3000, 3000, 20000, 60000]);
        let transport: u16 = if v6 { 54 } else { 34 };
        let size = self
            .random
            .pick(&[1u16, 88, 536, 1380, 1448, 9000])
            .max((len / 100) as u16);
        let mut payload = if tcp {
            let mut tcp = vec![
                0, 80, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
            ];
            tcp[13] = self.random.pick(&[0x10, 0x18, 0x11, 0xd0]);
            tcp
        } else {
            let mut udp = vec![0x30, 0, 0x30, 1];
            udp.extend((len as u16 + 8).to_be_bytes());
            udp.extend([0, 0]);
            udp
        };
        let header = transport + payload.len() as u16;
        payload.resize(payload.len() + len, 0x5a);
        let protocol = if tcp { 6 } else { IPPROTO_UDP };
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
        if v6 {
            frame.extend([0x86, 0xdd]);
            frame.extend(ip6(protocol, &self::v6(1), &self::v6(99), &payload));
        } else {
            frame.extend([8, 0]);
            frame.extend(ip4(protocol, &NEAR4, &[10, 77, 0, 9], &[], 0, &payload));
        }
        let kind = match (tcp, v6) {
            (true, false) => 1,
            (true, true) => 4,
            _ => 5,
        };
        (
            vnet(1, kind, header, size, transport, if tcp { 16 } else { 6 }),
            frame,
        )
    }

    /// Reads what the host has sent; some of it comes back, as if the other side were like us.
    fn drain(&mut self) {
        let mut buffer = vec![0; 70000];
        for _ in 0..40 {
            let Ok(len) = sys::read(self.tun, &mut buffer) else {
                break;
            };
            let packet = &mut buffer[10..len as usize];
            let (at, size) = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
                (8, 16)
            } else {
                (12, 4)
            };
            if packet.len() >= at + 2 * size && self.random.chance(30) {
                let (near, far) = packet[at..at + 2 * size].split_at_mut(size);
                near.swap_with_slice(far);
                let data = buffer[..len as usize].to_vec();
                let _ = sys::write(self.tun, &data);
            }
        }
        while sys::read(self.tap, &mut buffer).is_ok() {}
    }

    fn one(&mut self, round: &Round) -> u64 {
        match self.random.below(100) {
            0..=24 => self.transmit(round),
            25..=29 => {
                let (v6, packet) = self.error();
                round.log(format_args!("ICMP {}", Hex(&packet)));
                self.arrive(v6, &packet);
            }
            30 => return self.sweep(round),
            31..=39 => {
                let (v6, packet) = self.packet(0);
                let parts = self.fragments(v6, &packet);
                round.log(format_args!(
                    "{} fragments of {} bytes {}",
                    parts.len(),
                    packet.len(),
                    Hex(&packet)
                ));
                for part in &parts {
                    if self.random.chance(10) {
                        self.arrive_in_pieces(v6, part);
                    } else {
                        self.arrive(v6, part);
                    }
                }
                return parts.len() as u64;
            }
            40..=54 => {
                let (v6, packet) = self.packet(0);
                round.log(format_args!(
                    "in pieces, {} bytes {}",
                    packet.len(),
                    Hex(&packet)
                ));
                self.arrive_in_pieces(v6, &packet);
            }
            _ => {
                let (v6, packet) = self.packet(0);
                round.log(format_args!(
                    "packet, {} bytes {}",
                    packet.len(),
                    Hex(&packet)
                ));
                self.arrive(v6, &packet);
            }
        }
        1
    }

    /// One message cut off at each of its first bytes, with lengths that say so.
    fn sweep(&mut self, round: &Round) -> u64 {
        let which = self.random.below(self.sessions.len());
        let message = self.message(which, 9);
        let tunnel = self.sessions[which].tunnel;
        let (near, far) = self.tunnels[tunnel].ends();
        let (over_udp, port) = (self.tunnels[tunnel].udp, self.tunnels[tunnel].port());
        let most = message.len().min(80);
        round.log(format_args!(
            "cut off at each byte: tunnel {} {}",
            tunnel + 1,
            Hex(&message)
        ));
        for len in 0..=most {
            let (payload, protocol) = if over_udp {
                (
                    udp(&far, &near, [port, port], &message[..len], false),
                    IPPROTO_UDP,
                )
            } else {
                (message[..len].to_vec(), IPPROTO_L2TP)
            };
            let packet = if near.len() == 16 {
                ip6(protocol, &far, &near, &payload)
            } else {
                ip4(protocol, &far, &near, &[], 0, &payload)
            };
            if len % 2 == 0 {
                self.arrive(near.len() == 16, &packet);
            } else {
                self.arrive_in_pieces(near.len() == 16, &packet);
            }
        }
        most as u64 + 1
    }
}

/// The router that complains.
fn v6_router() -> [u8; 16] {
    v6(9)
}

/// A device that this process writes to.
fn device(name: &str, flags: u16) -> i32 {
    const TUNSETIFF: u64 = 0x4004_54ca;
    const NO_PI: u16 = 0x1000;
    const VNET_HDR: u16 = 0x4000;

    let fd = sys::open("/dev/net/tun").expect("/dev/net/tun");
    let mut request = name.as_bytes().to_vec();
    request.resize(16, 0);
    request.extend((flags | NO_PI | VNET_HDR).to_ne_bytes());
    request.resize(40, 0);
    sys::ioctl(fd, TUNSETIFF, &mut request).expect("TUNSETIFF");
    fd
}

/// How many have come and gone, of what a session's statistics say.
fn packets(session: &[u8]) -> u64 {
    const SENT: u16 = 1;
    const RECEIVED: u16 = 4;

    let stats = attribute(&session[4..], STATS).expect("statistics");
    let count = |kind| {
        let payload = attribute(stats, kind).expect("a counter");
        u64::from_ne_bytes(payload.try_into().expect("an u64"))
    };
    count(SENT) + count(RECEIVED)
}

pub(crate) fn run(round: &Round) {
    let mut host = Host::new(round);
    let mut done = 0;
    while done < OPERATIONS {
        // In three of four rounds routes lead astray; some change them.
        let now = (done == 0 && host.random.chance(75)) || host.random.below(2000) == 0;
        if now && !round.tame {
            host.reroute();
        }
        done += host.one(round);
        if host.random.chance(10) {
            host.drain();
        }
    }
    round.done(done);
    let genl = Netlink::l2tp();
    // Packets are on their way still.
    let sessions = genl.ask(SESSION_GET, DUMP, &Attrs::default()).messages;
    round.accepted(sessions.iter().map(|message| packets(message)).sum());
    let (left, made) = (sessions.len(), host.sessions.len());
    assert!(left == made, "{left} sessions of {made} are left",);
    for fd in host.files.drain(..) {
        sys::close(fd);
    }
    genl.delete_all(&["tun0", "tap0"]);
    sys::close(host.tun);
    sys::close(host.tap);
    eventually("no device", || sys::links() == ["lo"]);
}
