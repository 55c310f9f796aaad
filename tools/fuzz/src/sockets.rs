// SPDX-License-Identifier: GPL-2.0

//! Socket calls and ioctls on every kind of socket that the module has a part in, while tunnels
//! and sessions are made on them and deleted. Half of the rounds have two threads at it.

use crate::{
    netlink::*,
    random::Random,
    requests::host,
    sys::{
        self,
        raw, //
    },
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

const OPERATIONS: u64 = 3000;
const SLOTS: usize = 20;
const SOL_PPPOL2TP: i32 = 273;
const UDP_ENCAP: i32 = 100;

const PPPIOCGCHAN: u64 = 0x8004_7437;
const PPPIOCNEWUNIT: u64 = 0xc004_743e;
const PPPIOCATTCHAN: u64 = 0x4004_7438;

/// Nothing here may wait, or make the kernel look for a module.
const IOCTLS: [u64; 26] = [
    PPPIOCGCHAN,
    PPPIOCGCHAN,
    0x8004_7453,
    0x4004_7452,
    0x8004_745a,
    0x4004_7459,
    0x8048_7436,
    0x8048_7436,
    PPPIOCATTCHAN,
    PPPIOCATTCHAN,
    0x4004_743a,
    0x4004_743a,
    0x7439,
    PPPIOCNEWUNIT,
    PPPIOCNEWUNIT,
    0x4004_743b,
    0x4008_744b,
    0x4004_7435,
    0x7434,
    0x4004_743c, // of PPP
    0x541b,
    0x5411,
    0x8906,
    0x8907,
    0x8905,
    0x8910, // of sockets and devices
];

struct Shared {
    fds: [AtomicI32; SLOTS],
    /// Of a PPP channel and a unit, as the last one said.
    channel: AtomicI32,
    unit: AtomicI32,
}

impl Shared {
    fn fd(&self, random: &mut Random) -> i32 {
        self.fds[random.below(SLOTS)].load(Ordering::Relaxed)
    }

    fn put(&self, random: &mut Random, fd: i32) {
        let old = self.fds[random.below(SLOTS)].swap(fd, Ordering::Relaxed);
        if old >= 0 {
            sys::close(old);
        }
    }
}

fn open(random: &mut Random) -> i32 {
    let kinds = [
        (libc::AF_INET, libc::SOCK_DGRAM, 115),
        (libc::AF_INET6, libc::SOCK_DGRAM, 115),
        (libc::AF_INET, libc::SOCK_DGRAM, 0),
        (libc::AF_INET6, libc::SOCK_DGRAM, 0),
        (24, libc::SOCK_DGRAM, 1),
        (24, libc::SOCK_DGRAM, 1),
        (24, libc::SOCK_DGRAM, 1),
        (libc::AF_INET, libc::SOCK_RAW, 115),
    ];
    match random.below(9) {
        8 => sys::open("/dev/ppp").unwrap_or(-1),
        _ => {
            let (family, kind, protocol) = random.pick(&kinds);
            sys::socket(family, kind, protocol).unwrap_or(-1)
        }
    }
}

/// An address of any kind: right, nearly right, or noise.
fn address(random: &mut Random, shared: &Shared) -> Vec<u8> {
    let v4 = random.pick(&[
        [127, 0, 0, 1],
        [127, 0, 0, 2],
        [0; 4],
        [224, 0, 0, 1],
        [10, 9, 9, 9],
        [255; 4],
    ]);
    let mut v6 = [0; 16];
    match random.below(5) {
        0 => (v6[10], v6[11], v6[12], v6[15]) = (0xff, 0xff, 127, 1),
        1 => (v6[0], v6[15]) = (0xfd, 1),
        2 => (),
        3 => (v6[0], v6[1], v6[15]) = (0xfe, 0x80, 1),
        _ => v6[15] = 1,
    }
    let port = random.pick(&[0, 1701, 5000, 5001, 5002]);
    let mut id = || match random.below(30) {
        0 => random.number() as u32,
        n => n as u32 % 6,
    };
    let ids = [id(), id(), id(), id()];
    let mut out = match random.below(6) {
        0 => sys::sockaddr_in(v4, port),
        1 => sys::sockaddr_in6(v6, port),
        2 => sys::sockaddr_l2tpip(v4, ids[0]),
        3 => sys::sockaddr_l2tpip6(v6, ids[0]),
        _ => {
            let (v2, v6) = (random.chance(60), random.chance(20));
            let fd = shared.fd(random);
            let sessions = if random.chance(40) {
                [ids[0], 0, ids[2], 0]
            } else {
                ids
            };
            sys::sockaddr_pppol2tp(v2, v6, fd, sessions)
        }
    };
    match random.below(20) {
        0 => out[..2].fill(0), // AF_UNSPEC
        1 | 2 => random.spoil(&mut out),
        _ => (),
    }
    out
}

fn option(random: &mut Random) -> (i32, i32) {
    let level = random.pick(&[
        libc::SOL_SOCKET,
        libc::SOL_IP,
        libc::SOL_IPV6,
        libc::SOL_UDP,
        SOL_PPPOL2TP,
        SOL_PPPOL2TP,
    ]);
    let option = match level {
        SOL_PPPOL2TP => random.below(8) as i32,
        libc::SOL_UDP => random.pick(&[1, UDP_ENCAP, UDP_ENCAP, 101, 102, 103, 104]),
        _ => random.below(80) as i32,
    };
    (level, option)
}

/// What a call came to must be a number that user space knows.
fn judge(round: &Round, result: sys::Result, what: &str) {
    match result {
        Ok(_) => round.accepted(1),
        Err(error) => assert!((1..134).contains(&error), "{what}: error {error}"),
    }
}

fn one(round: &Round, random: &mut Random, shared: &Shared, genl: &Netlink) {
    let fd = shared.fd(random);
    match random.below(40) {
        0..=3 => {
            let new = open(random);
            round.log(format_args!("open: {new}"));
            shared.put(random, new);
        }
        4 => {
            let new = raw!(SYS_dup, fd).unwrap_or(-1) as i32;
            round.log(format_args!("dup {fd}: {new}"));
            shared.put(random, new);
        }
        5..=7 => {
            let address = address(random, shared);
            round.log(format_args!("bind {fd} {}", Hex(&address)));
            judge(round, sys::bind(fd, &address), "bind");
        }
        8..=15 => {
            let address = address(random, shared);
            round.log(format_args!("connect {fd} {}", Hex(&address)));
            judge(round, sys::connect(fd, &address), "connect");
        }
        16 => {
            let mut room = [0xa5u8; 128];
            let mut len = random.pick(&[0u32, 1, 16, 38, 57, 128, u32::MAX]);
            let call = random.chance(50);
            let (name, size) = (room.as_mut_ptr(), &mut len as *mut u32);
            round.log(format_args!("name {fd} peer {call}"));
            judge(
                round,
                if call {
                    raw!(SYS_getpeername, fd, name, size)
                } else {
                    raw!(SYS_getsockname, fd, name, size)
                },
                "name",
            );
        }
        17..=20 => message(round, random, shared, fd),
        21..=23 => {
            let len = random.pick(&[0, 1, 20, 2000, 70000]);
            let flags = random.pick(&[
                0,
                libc::MSG_PEEK,
                libc::MSG_TRUNC,
                libc::MSG_ERRQUEUE,
                libc::MSG_OOB,
                libc::MSG_WAITALL,
            ]);
            let mut room = vec![0; len];
            round.log(format_args!("recv {fd} {len} flags {flags:#x}"));
            let result = sys::receive(fd, &mut room, flags);
            assert!(
                flags == libc::MSG_TRUNC || result.unwrap_or(0) <= len as i64,
                "received more than there is room for"
            );
            judge(round, result, "recv");
        }
        24..=27 => {
            let (level, option) = option(random);
            let len = random.pick(&[4usize, 4, 4, 0, 1, 3, 5, 8, 40]);
            let mut value = random.bytes(len);
            if len >= 4 && random.chance(70) {
                let number = if option == UDP_ENCAP {
                    random.pick(&[0, 2, 3, 3])
                } else {
                    random.below(4) as u32
                };
                value[..4].copy_from_slice(&number.to_ne_bytes());
            }
            round.log(format_args!(
                "setsockopt {fd} {level} {option} {}",
                Hex(&value)
            ));
            judge(
                round,
                sys::set_option(fd, level, option, &value),
                "setsockopt",
            );
        }
        28 | 29 => {
            let (level, option) = option(random);
            let mut value = [0u8; 64];
            let mut len = random.pick(&[0u32, 1, 4, 8, 64, u32::MAX]);
            // Without memory behind it, if the length says that there is more.
            let address = if len > 64 || random.chance(5) {
                8
            } else {
                value.as_mut_ptr() as usize
            };
            round.log(format_args!("getsockopt {fd} {level} {option} {len}"));
            judge(
                round,
                raw!(
                    SYS_getsockopt,
                    fd,
                    level,
                    option,
                    address,
                    &mut len as *mut u32
                ),
                "getsockopt",
            );
        }
        30..=33 => {
            let request = random.pick(&IOCTLS);
            let value = match request {
                PPPIOCNEWUNIT => -1,
                PPPIOCATTCHAN | 0x4004_7435 => shared.channel.load(Ordering::Relaxed),
                0x4004_743a | 0x4004_743c => shared.unit.load(Ordering::Relaxed),
                _ => random.number() as i32,
            };
            round.log(format_args!("ioctl {fd} {request:#x} {value}"));
            if random.chance(5) {
                judge(round, raw!(SYS_ioctl, fd, request, 8), "ioctl");
                return;
            }
            let mut argument = [0u8; 128];
            argument[..4].copy_from_slice(&value.to_ne_bytes());
            let result = sys::ioctl(fd, request, &mut argument);
            let value = i32::from_ne_bytes(argument[..4].try_into().unwrap());
            match (request, result) {
                (PPPIOCGCHAN, Ok(_)) => shared.channel.store(value, Ordering::Relaxed),
                (PPPIOCNEWUNIT, Ok(_)) => shared.unit.store(value, Ordering::Relaxed),
                _ => (),
            }
            judge(round, result, "ioctl");
        }
        34 => {
            let what = random.below(6);
            round.log(format_args!("call {what} on {fd}"));
            judge(
                round,
                match what {
                    0 => raw!(SYS_listen, fd, 5),
                    1 => raw!(SYS_accept4, fd, 0, 0, libc::SOCK_NONBLOCK),
                    2 => sys::write(fd, &random.bytes(50)),
                    3 => sys::read(fd, &mut [0; 100]),
                    _ => raw!(SYS_shutdown, fd, random.below(4)),
                },
                "call",
            );
        }
        35 => {
            round.log(format_args!("close {fd}"));
            shared.put(random, -1);
        }
        _ => request(round, random, genl, fd),
    }
}

/// sendmsg with any flags, name and control data.
fn message(round: &Round, random: &mut Random, shared: &Shared, fd: i32) {
    let name = if random.chance(50) {
        address(random, shared)
    } else {
        vec![]
    };
    let len = random.pick(&[0, 1, 4, 12, 60, 1400, 5000, 65507, 70000]);
    let mut data = vec![0; len];
    // A control message, a data message, or a PPP frame.
    let start = random.pick(&[
        [0xc8, 3, 0, 12],
        [0xc8, 2, 0, 12],
        [0, 3, 0, 0],
        [0xc0, 0x21, 1, 1],
    ]);
    for (byte, new) in data.iter_mut().zip(start) {
        *byte = new;
    }
    let mut control = Vec::new();
    if random.chance(20) {
        for _ in 0..random.below(4) {
            let len = random.pick(&[0usize, 1, 4, 12, 20, 24]);
            let size = if random.chance(5) {
                random.number() as usize
            } else {
                16 + len
            };
            control.extend(size.to_ne_bytes());
            control.extend(
                random
                    .pick(&[
                        libc::SOL_IP,
                        libc::SOL_IPV6,
                        libc::SOL_UDP,
                        libc::SOL_SOCKET,
                    ])
                    .to_ne_bytes(),
            );
            control.extend((random.below(80) as i32).to_ne_bytes());
            control.extend(random.bytes(len.next_multiple_of(8)));
        }
    }
    let flags = random.pick(&[
        0,
        0,
        libc::MSG_OOB,
        libc::MSG_MORE,
        libc::MSG_CONFIRM,
        0x10,
        libc::MSG_DONTROUTE,
    ]);
    round.log(format_args!(
        "sendmsg {fd} {len} flags {flags:#x} control {} to {}",
        control.len(),
        Hex(&name)
    ));
    let part = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    let header = [
        name.as_ptr() as usize,
        name.len(),
        &part as *const _ as usize,
        1,
        control.as_ptr() as usize,
        control.len(),
        0,
    ];
    judge(
        round,
        raw!(
            SYS_sendmsg,
            fd,
            header.as_ptr(),
            flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL
        ),
        "sendmsg",
    );
}

/// What gives the sockets tunnels and sessions, and takes them away.
fn request(round: &Round, random: &mut Random, genl: &Netlink, fd: i32) {
    let (id, sid) = (1 + random.below(5) as u32, 1 + random.below(5) as u32);
    let what = random.below(10);
    round.log(format_args!(
        "request {what} tunnel {id} session {sid} file {fd}"
    ));
    match what {
        0..=3 => {
            let tunnel =
                tunnel(id, random.pick(&[2, 3]), random.below(2) as u16).u32(FD, fd as u32);
            genl.ask(TUNNEL_CREATE, 0, &tunnel);
        }
        4..=6 => {
            let mut session = session(id, sid, random.pick(&[7, 7, 5]));
            if random.chance(40) {
                session = session.u64(RECV_TIMEOUT, 20);
            }
            genl.ask(SESSION_CREATE, 0, &session);
        }
        7 => drop(genl.delete_tunnel(id)),
        8 => drop(genl.delete_session(id, sid)),
        _ => drop(genl.ask(SESSION_GET, DUMP, &Attrs::default())),
    }
}

fn work(round: &Round, thread: u64, shared: &Shared, operations: u64) {
    let mut random = round.random(thread);
    let genl = Netlink::l2tp();
    for _ in 0..operations {
        one(round, &mut random, shared, &genl);
    }
    round.done(operations);
}

pub(crate) fn run(round: &Round) {
    let mut random = round.random(0);
    let who = random.below(5);
    round.log(format_args!(
        "as {}",
        ["root", "root", "two", "two", "user"][who]
    ));
    if who == 4 {
        sys::drop_privilege(Some(libc::CLONE_NEWNET));
    } else {
        sys::unshare(libc::CLONE_NEWNET);
    }
    host();
    let shared = Shared {
        fds: std::array::from_fn(|_| AtomicI32::new(open(&mut random))),
        channel: AtomicI32::new(0),
        unit: AtomicI32::new(0),
    };
    if matches!(who, 2 | 3) {
        thread::scope(|scope| {
            for number in 1..=2 {
                let shared = &shared;
                scope.spawn(move || work(round, number, shared, OPERATIONS / 2));
            }
        });
    } else {
        work(round, 1, &shared, OPERATIONS);
    }
    for fd in &shared.fds {
        sys::close(fd.load(Ordering::Relaxed));
    }
    Netlink::l2tp().delete_all(&[]);
}
