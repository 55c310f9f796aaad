// SPDX-License-Identifier: GPL-2.0

//! Netlink requests: right ones, and what comes of them when attributes are missing, doubled, of
//! the wrong size, nested, or noise. From root, two threads at once, root of a user namespace, and
//! somebody who may do nothing.

use crate::{
    netlink::*,
    random::Random,
    sys,
    Hex,
    Round, //
};
use std::{
    sync::atomic::{
        AtomicI32,
        Ordering, //
    },
    thread, //
};

const OPERATIONS: u64 = 2000;
const MAX: u16 = 35;

/// What a request may come to. A capability is what all of these have.
const ERRORS: [i32; 22] = [
    0,
    libc::EINVAL,
    libc::ERANGE,
    libc::EEXIST,
    libc::ENODEV,
    libc::ENOENT,
    libc::EBADF,
    libc::ENOTSOCK,
    libc::EBUSY,
    libc::EPROTONOSUPPORT,
    libc::EADDRINUSE,
    libc::EADDRNOTAVAIL,
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EOPNOTSUPP,
    libc::EMSGSIZE,
    libc::ENFILE,
    libc::ENOBUFS,
    libc::ENOMEM,
    libc::EISCONN,
];

const NAMES: [&str; 10] = [
    "w1",
    "w2",
    "w3",
    "w%d",
    "",
    "lo",
    "a/b",
    "fifteen-letters",
    " ",
    ".",
];
const V4: [[u8; 4]; 7] = [
    [127, 0, 0, 1],
    [127, 0, 0, 2],
    [127, 0, 0, 3],
    [0; 4],
    [224, 0, 0, 1],
    [255; 4],
    [10, 9, 9, 9],
];

/// ::1, fd00::1, ::, ff02::1, fe80::1, ::ffff:127.0.0.1.
fn v6(random: &mut Random) -> [u8; 16] {
    let mut out = [0; 16];
    match random.below(8) {
        0..=2 => out[15] = 1,
        3 | 4 => (out[0], out[15]) = (0xfd, 1),
        5 => (out[0], out[1], out[15]) = (0xff, 2, 1),
        6 => (out[0], out[1], out[15]) = (0xfe, 0x80, 1),
        _ => (out[10], out[11], out[12], out[15]) = (0xff, 0xff, 127, 1),
    }
    out
}

/// Sockets and other files that a request may name.
struct Files([AtomicI32; 12]);

impl Files {
    fn new(random: &mut Random) -> Self {
        let files = Self(std::array::from_fn(|_| AtomicI32::new(-1)));
        for _ in 0..30 {
            files.renew(random);
        }
        files
    }

    fn pick(&self, random: &mut Random) -> i32 {
        self.0[random.below(self.0.len())].load(Ordering::Relaxed)
    }

    /// Another socket in the place of one.
    fn renew(&self, random: &mut Random) {
        let port = 5100 + random.below(8) as u16;
        let id = 1 + random.below(5) as u32;
        let (near, far) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        let mut six = [0; 16];
        six[15] = 1;
        let (family, kind, protocol) = random.pick(&[
            (libc::AF_INET, libc::SOCK_DGRAM, 0),
            (libc::AF_INET, libc::SOCK_DGRAM, 0),
            (libc::AF_INET6, libc::SOCK_DGRAM, 0),
            (libc::AF_INET, libc::SOCK_DGRAM, 115),
            (libc::AF_INET6, libc::SOCK_DGRAM, 115),
            (libc::AF_INET, libc::SOCK_STREAM, 0),
            (libc::AF_INET, libc::SOCK_RAW, 115),
            (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        ]);
        let Ok(fd) = sys::socket(family, kind, protocol) else {
            return;
        };
        let names = match (family, protocol) {
            (libc::AF_INET, 115) => [
                sys::sockaddr_l2tpip(near, id),
                sys::sockaddr_l2tpip(far, id),
            ],
            (libc::AF_INET6, 115) => [
                sys::sockaddr_l2tpip6(six, id),
                sys::sockaddr_l2tpip6(six, id + 1),
            ],
            (libc::AF_INET6, _) => [
                sys::sockaddr_in6(six, port),
                sys::sockaddr_in6(six, port + 100),
            ],
            _ => [sys::sockaddr_in(near, port), sys::sockaddr_in(far, port)],
        };
        let far = random.below(3);
        if far > 0 {
            let _ = sys::bind(fd, &names[0]);
        }
        if far > 1 && kind != libc::SOCK_STREAM {
            let _ = sys::connect(fd, &names[1]);
        }
        let old = self.0[random.below(self.0.len())].swap(fd, Ordering::Relaxed);
        if old >= 0 {
            sys::close(old);
        }
    }
}

/// An attribute as it should be, as long as it should be.
fn payload(random: &mut Random, files: &Files, kind: u16) -> Vec<u8> {
    let small = |random: &mut Random, bound| match random.below(20) {
        0 => random.number() as u32,
        1 => 0x1_0000 + random.below(bound) as u32,
        _ => random.below(bound) as u32,
    };
    match kind {
        CONN_ID | PEER_CONN_ID => small(random, 6).to_ne_bytes().to_vec(),
        SESSION_ID | PEER_SESSION_ID => small(random, 8).to_ne_bytes().to_vec(),
        PW_TYPE => random
            .pick(&[5u16, 5, 5, 7, 7, 4, 8, 11, 12, 0xffff])
            .to_ne_bytes()
            .to_vec(),
        ENCAP_TYPE => random
            .pick(&[0u16, 0, 0, 1, 1, 2, 0xffff])
            .to_ne_bytes()
            .to_vec(),
        PROTO_VERSION => vec![random.pick(&[3, 3, 3, 2, 2, 0, 1, 4, 255])],
        L2SPEC_TYPE => vec![random.pick(&[0, 1, 1, 2, 255])],
        IFNAME if random.chance(5) => random.bytes(16),
        IFNAME => format!("{}\0", random.pick(&NAMES)).into_bytes(),
        COOKIE | PEER_COOKIE => {
            let len = random.pick(&[0, 4, 8, 8, 1, 3, 7, 9]);
            random.bytes(len)
        }
        FD if random.chance(20) => (random.number() as u32).to_ne_bytes().to_vec(),
        FD => files.pick(random).to_ne_bytes().to_vec(),
        IP_SADDR | IP_DADDR => random.pick(&V4).to_vec(),
        IP6_SADDR | IP6_DADDR => v6(random).to_vec(),
        UDP_SPORT | UDP_DPORT => (random.pick(&[0, 5000, 5001, 5002, 5003]) as u16)
            .to_ne_bytes()
            .to_vec(),
        RECV_TIMEOUT => random
            .pick(&[0, 1, 20, 1000, 1 << 31, 1 << 32, u64::MAX])
            .to_ne_bytes()
            .to_vec(),
        STATS => nest(random, 0),
        3 | 14 | 28 | 29 => (random.number() as u16).to_ne_bytes().to_vec(),
        17 => (random.number() as u32).to_ne_bytes().to_vec(),
        33..=35 => vec![],
        _ => vec![random.below(3) as u8],
    }
}

/// Attributes in attributes.
fn nest(random: &mut Random, depth: usize) -> Vec<u8> {
    let mut attrs = Attrs::default();
    for _ in 0..random.below(4) {
        let kind = random.below(40) as u16 | random.pick(&[0, 0x8000, 0x4000]);
        let inner = if depth < 20 && random.chance(60) {
            nest(random, depth + 1)
        } else {
            let len = random.below(12);
            random.bytes(len)
        };
        attrs = attrs.raw(kind, &inner);
    }
    attrs.0
}

/// The attributes that a command wants, some that it may have, and mistakes.
fn attributes(random: &mut Random, files: &Files, command: u8) -> Vec<u8> {
    let mut kinds: Vec<u16> = match command {
        TUNNEL_CREATE => {
            let mut kinds = vec![CONN_ID, PEER_CONN_ID, PROTO_VERSION, ENCAP_TYPE];
            kinds.extend(match random.below(4) {
                0 => vec![FD],
                1 => vec![IP6_SADDR, IP6_DADDR, UDP_SPORT, UDP_DPORT],
                _ => vec![IP_SADDR, IP_DADDR, UDP_SPORT, UDP_DPORT],
            });
            kinds
        }
        SESSION_CREATE => vec![CONN_ID, SESSION_ID, PEER_SESSION_ID, PW_TYPE],
        SESSION_GET | SESSION_DELETE | SESSION_MODIFY if random.chance(20) => vec![IFNAME],
        SESSION_GET | SESSION_DELETE | SESSION_MODIFY => vec![CONN_ID, SESSION_ID],
        _ => vec![CONN_ID],
    };
    for _ in 0..random.below(5) {
        kinds.push(random.pick(&[
            IFNAME,
            COOKIE,
            PEER_COOKIE,
            L2SPEC_TYPE,
            18,
            SEND_SEQ,
            LNS_MODE,
            RECV_TIMEOUT,
            13,
            33,
            34,
        ]));
    }
    let mistakes = random.pick(&[0, 0, 0, 1, 1, 2, 5]);
    for _ in 0..mistakes {
        let at = random.below(kinds.len());
        match random.below(3) {
            0 if !kinds.is_empty() => drop(kinds.remove(at)),
            1 => kinds.push(random.below(usize::from(MAX) + 2) as u16),
            _ => kinds.push(random.pick(&[CONN_ID, SESSION_ID, FD, STATS, IFNAME])),
        }
    }
    let mut attrs = Attrs::default();
    for kind in kinds {
        let mut payload = payload(random, files, kind);
        if mistakes != 0 && random.chance(20) {
            random.spoil(&mut payload);
        }
        let flags = if random.chance(3) {
            random.pick(&[0x8000, 0x4000, 0xc000])
        } else {
            0
        };
        attrs = attrs.raw(kind | flags, &payload);
    }
    for _ in 0..random.pick(&[0, 0, 0, 0, mistakes]) {
        random.spoil(&mut attrs.0);
    }
    attrs.0
}

/// One request, and whether its answer is one that it may have.
fn request(round: &Round, random: &mut Random, genl: &Netlink, files: &Files, may: bool) {
    let mut data = Vec::new();
    let messages = if random.chance(5) {
        1 + random.below(6)
    } else {
        1
    };
    for _ in 0..messages {
        let command = match random.below(20) {
            0..=3 => TUNNEL_CREATE,
            4..=8 => SESSION_CREATE,
            9 => TUNNEL_DELETE,
            10 | 11 => SESSION_DELETE,
            12 | 13 => SESSION_MODIFY,
            14 | 15 => SESSION_GET,
            16 | 17 => TUNNEL_GET,
            18 => random.below(10) as u8,
            _ => random.number() as u8,
        };
        let mut payload = vec![command, 1, 0, 0];
        if random.chance(5) {
            payload = [&[command][..], &random.bytes(3)].concat();
        }
        payload.extend(attributes(random, files, command));
        let flags = match random.below(20) {
            0 => REQUEST | ACK | DUMP,
            1 => random.number() as u16 | REQUEST | ACK,
            _ => REQUEST | ACK,
        };
        let kind = if random.chance(99) { genl.family } else { 16 };
        let mut message = message(kind, flags, &payload);
        if random.chance(2) {
            message.truncate(random.below(message.len()));
        } else if random.chance(2) {
            let len = message.len() as u32;
            let wrong = random.pick(&[0, 4, 15, 16, 17, 20, len - 1, len + 1, len + 4, u32::MAX]);
            message[..4].copy_from_slice(&wrong.to_ne_bytes());
        }
        round.log(format_args!(
            "request {command} flags {flags:#x}: {}",
            Hex(&message[16.min(message.len())..])
        ));
        data.extend(message);
    }
    let sent = sys::send(genl.fd, &data, 0, &[]);
    let answer = genl.read();
    for error in &answer.errors {
        let known = if may {
            ERRORS.contains(error)
        } else {
            refused(*error)
        };
        assert!(known, "the request was answered with {error}");
    }
    round.accepted(answer.errors.iter().filter(|error| **error == 0).count() as u64);
    let shown = answer
        .messages
        .iter()
        .filter(|message| message[0] != 0 && message[0] != 10);
    assert!(
        may || data.len() > 16 && u16::from_ne_bytes([data[4], data[5]]) == 16
            || shown.count() == 0,
        "somebody was told"
    );
    if let Err(error) = sent {
        assert!(
            [libc::ENOBUFS, libc::EINVAL, libc::ENODATA].contains(&error),
            "send: {error}"
        );
    }
}

/// What those are told who may do nothing: the only command for everybody may be malformed.
fn refused(error: i32) -> bool {
    [
        0,
        libc::EPERM,
        libc::EOPNOTSUPP,
        libc::ERANGE,
        libc::EINVAL,
        libc::ENOENT,
        libc::EMSGSIZE,
        libc::ENOBUFS,
        libc::EBUSY,
    ]
    .contains(&error)
}

fn device(round: &Round, random: &mut Random, route: &Netlink) {
    const NEWLINK: u16 = 16;
    const UP: u32 = 1;

    let names = sys::links();
    let name = random.pick(&names);
    let what = random.below(8);
    let Some(index) = sys::index(&name).filter(|_| name != "lo") else {
        return;
    };
    round.log(format_args!("device {name}: {what}"));
    match what {
        0 | 1 => drop(route.delete_link(index)),
        2 => {
            let name = random.pick(&NAMES);
            route.link(NEWLINK, index, 0, 0, &Attrs::default().name(3, name));
        }
        3 => {
            let mtu = random.number() as u32;
            route.link(NEWLINK, index, 0, 0, &Attrs::default().u32(4, mtu));
        }
        4 => drop(route.link(NEWLINK, index, 0, UP, &Attrs::default())),
        _ => drop(route.link(NEWLINK, index, UP, UP, &Attrs::default())),
    }
}

fn work(round: &Round, thread: u64, files: &Files, may: bool, operations: u64) {
    let mut random = round.random(thread);
    let mut genl = Netlink::l2tp();
    let route = Netlink::route();
    for _ in 0..operations {
        match random.below(200) {
            0..=3 => files.renew(&mut random),
            4..=6 if may => device(round, &mut random, &route),
            7 | 8 => {
                // A dump that nobody reads to its end.
                let command = random.pick(&[TUNNEL_GET, SESSION_GET]);
                round.log(format_args!("dump {command}, and close"));
                let message = message(genl.family, REQUEST | DUMP, &[command, 1, 0, 0]);
                let _ = sys::send(genl.fd, &message, 0, &[]);
                let _ = sys::receive(genl.fd, &mut [0; 100], 0);
                genl = Netlink::l2tp();
            }
            9 => {
                // NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP
                let (option, group) = (1 + random.below(2) as i32, random.below(40) as i32);
                let _ = sys::set_option(genl.fd, 270, option, &group.to_ne_bytes());
            }
            _ => request(round, &mut random, &genl, files, may),
        }
    }
    round.done(operations);
}

/// A host with addresses on its loopback.
pub(crate) fn host() {
    sys::ip(
        "link set lo up\naddress add fd00::1/128 dev lo nodad\n",
        false,
    );
}

pub(crate) fn run(round: &Round) {
    let mut random = round.random(0);
    let who = random.below(8);
    round.log(format_args!(
        "as {}",
        [
            "root",
            "root",
            "root",
            "two",
            "two",
            "user",
            "nobody",
            "nobody, namespace"
        ][who]
    ));
    if who == 5 {
        sys::drop_privilege(Some(libc::CLONE_NEWNET));
    } else {
        sys::unshare(libc::CLONE_NEWNET);
    }
    host();
    let genl = Netlink::l2tp();
    let files = Files::new(&mut random);
    match who {
        3 | 4 => thread::scope(|scope| {
            for number in 1..=2 {
                let files = &files;
                scope.spawn(move || work(round, number, files, true, OPERATIONS / 2));
            }
        }),
        6 | 7 => {
            let near = tunnel(1, 3, 0).raw(IP_SADDR, &V4[0]).raw(IP_DADDR, &V4[1]);
            genl.must(
                TUNNEL_CREATE,
                &near.u16(UDP_SPORT, 5000).u16(UDP_DPORT, 5001),
            );
            genl.must(SESSION_CREATE, &session(1, 1, 5).name(IFNAME, "mine"));
            let before = state(&genl);
            // SAFETY: This process has one thread.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                sys::drop_privilege((who == 7).then_some(0));
                work(round, 1, &files, false, OPERATIONS);
                std::process::exit(0);
            }
            let mut status = 0i32;
            let _ = sys::raw!(SYS_wait4, pid, &mut status as *mut i32, 0, 0);
            assert!(status == 0, "the one without privilege: {status:#x}");
            assert!(
                before == state(&genl),
                "somebody without privilege changed something"
            );
        }
        _ => work(round, 1, &files, true, OPERATIONS),
    }
    genl.delete_all(&[]);
}

/// Everything that the family shows.
fn state(genl: &Netlink) -> Vec<Vec<u8>> {
    let dump = |command| genl.ask(command, DUMP, &Attrs::default()).messages;
    [dump(TUNNEL_GET), dump(SESSION_GET)].concat()
}
