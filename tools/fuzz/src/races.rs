// SPDX-License-Identifier: GPL-2.0

//! Everything that ends a tunnel, at the same time, while packets come and go: its socket closes,
//! requests delete it, its devices are deleted or move, its namespace exits, the module leaves. How
//! long each one waits before it begins comes from the seed.

use crate::{
    eventually,
    netlink::*,
    packets::{
        ip4,
        ip6,
        udp, //
    },
    random::Random,
    sys::{
        self,
        raw, //
    },
    Round, //
};
use std::{
    fs,
    process::Command,
    sync::{
        atomic::{
            AtomicBool,
            AtomicI32,
            AtomicU64,
            Ordering, //
        },
        Barrier, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    }, //
};

const CYCLES: usize = 12;
const ETH: u16 = 5;
const PPP: u16 = 7;
const PORT: u16 = 5000;
const SESSIONS: [u32; 3] = [1, 2, 3];
const V4: [[u8; 4]; 2] = [[10, 9, 1, 1], [10, 9, 1, 2]];
/// In the order in which they can be unloaded.
const MODULES: [&str; 8] = [
    "l2tp",
    "l2tp_ppp",
    "l2tp_eth",
    "l2tp_ip6",
    "l2tp_ip",
    "l2tp_debugfs",
    "l2tp_netlink",
    "l2tp_core",
];

/// fd0a::N
fn v6(last: u8) -> [u8; 16] {
    let mut out = [0; 16];
    (out[0], out[1], out[15]) = (0xfd, 0x0a, last);
    out
}

/// A host that can die, on a wire whose other end we hold.
struct Host {
    /// Ours, and that of the host.
    outer: i32,
    inner: i32,
    /// Sockets in the namespace of the host; -1 when they are closed.
    packet: AtomicI32,
    /// The wire's end.
    wire: i32,
    injector: i32,
}

/// A tunnel, and what belongs to it.
struct Tunnel {
    version: u8,
    udp: bool,
    v6: bool,
    kind: u16,
    socket: AtomicI32,
    /// The one that takes its place when it was closed.
    spare: AtomicI32,
    /// Of PPP sessions.
    sockets: Vec<AtomicI32>,
    devices: Vec<i32>,
    frames: Vec<Vec<u8>>,
}

fn take(fd: &AtomicI32) {
    let fd = fd.swap(-1, Ordering::Relaxed);
    if fd >= 0 {
        sys::close(fd);
    }
}

/// Waits without giving the processor away.
fn spin(random: &mut Random, most: usize) {
    let length = Duration::from_micros(random.below(most) as u64);
    let begun = Instant::now();
    while begun.elapsed() < length {
        std::hint::spin_loop();
    }
}

impl Host {
    fn new() -> Self {
        sys::unshare(libc::CLONE_NEWNET);
        let outer = sys::namespace();
        sys::unshare(libc::CLONE_NEWNET);
        let inner = sys::namespace();
        sys::enter(outer);
        let path = format!("/proc/{}/fd/{inner}", std::process::id());
        sys::ip(
            &format!(
                "link set lo up
link add v0 address 02:00:00:00:00:02 type veth peer name v1 address 02:00:00:00:00:01 netns {path}
link set v0 up
"
            ),
            false,
        );
        let wire = sys::index("v0").expect("v0");
        let injector = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).expect("a packet socket");
        sys::enter(inner);
        sys::ip(
            "link set lo up
link set v1 up
address add 10.9.1.1/24 dev v1
address add fd0a::1/64 dev v1 nodad
neighbour replace 10.9.1.2 lladdr 02:00:00:00:00:02 dev v1
neighbour replace fd0a::2 lladdr 02:00:00:00:00:02 dev v1
",
            false,
        );
        let packet = AtomicI32::new(
            sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).expect("a packet socket"),
        );
        Self {
            outer,
            inner,
            packet,
            wire,
            injector,
        }
    }

    /// Makes a tunnel with sessions. In the namespace of the host.
    fn tunnel(&self, round: &Round, random: &mut Random, genl: &Netlink, sessions: bool) -> Tunnel {
        let (version, udp, v6) = random.pick(&[
            (3, true, false),
            (3, true, true),
            (3, false, false),
            (3, false, true),
            (2, true, false),
            (2, true, true),
        ]);
        let udp = udp || !sessions;
        let kind = if version == 2 || !sessions || random.chance(30) {
            PPP
        } else {
            ETH
        };
        let mut this = Tunnel {
            version,
            udp,
            v6,
            kind,
            socket: AtomicI32::new(-1),
            spare: AtomicI32::new(-1),
            sockets: vec![],
            devices: vec![],
            frames: vec![],
        };
        if random.chance(60) {
            this.socket = AtomicI32::new(this.open());
            this.spare = AtomicI32::new(this.open());
        }
        let request = this.request(this.socket.load(Ordering::Relaxed));
        let answer = genl.ask(TUNNEL_CREATE, 0, &request);
        round.accepted((answer.error() == 0).into());
        for id in SESSIONS {
            let _ = genl.ask(SESSION_CREATE, 0, &this.session(id));
            if this.kind == ETH {
                this.devices.extend(sys::index(&format!("w{id}")));
            } else if sessions && random.chance(70) {
                let socket = sys::socket(24, libc::SOCK_DGRAM, 1).expect("a PPP socket");
                let _ = sys::connect(
                    socket,
                    &sys::sockaddr_pppol2tp(version == 2, v6, -1, [1, id, 1, id]),
                );
                let mut channel = [0; 4];
                if random.chance(50) {
                    let _ = sys::ioctl(socket, 0x8004_7437, &mut channel);
                }
                this.sockets.push(AtomicI32::new(socket));
            }
            this.frames.push(this.frame(id));
        }
        let route = Netlink::route();
        for index in &this.devices {
            route.link(16, *index, 0x81, 0x81, &Attrs::default()); // up, no ARP
        }
        this
    }
}

impl Tunnel {
    /// A socket of user space for it, in the namespace of this thread.
    fn open(&self) -> i32 {
        let family = if self.v6 {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let socket = sys::socket(family, libc::SOCK_DGRAM, if self.udp { 0 } else { 115 })
            .expect("a socket");
        let names = match (self.udp, self.v6) {
            (true, false) => V4.map(|end| sys::sockaddr_in(end, PORT)),
            (true, true) => [1, 2].map(|end| sys::sockaddr_in6(v6(end), PORT)),
            (false, false) => V4.map(|end| sys::sockaddr_l2tpip(end, 1)),
            (false, true) => [1, 2].map(|end| sys::sockaddr_l2tpip6(v6(end), 1)),
        };
        let _ = sys::set_option(
            socket,
            libc::SOL_SOCKET,
            libc::SO_REUSEADDR,
            &1u32.to_ne_bytes(),
        );
        // The address may still be taken.
        let _ = sys::bind(socket, &names[0]).and_then(|_| sys::connect(socket, &names[1]));
        socket
    }

    fn request(&self, fd: i32) -> Attrs {
        let attrs = tunnel(1, self.version, u16::from(!self.udp));
        if fd >= 0 {
            return attrs.u32(FD, fd as u32);
        }
        let attrs = if self.v6 {
            attrs.raw(IP6_SADDR, &v6(1)).raw(IP6_DADDR, &v6(2))
        } else {
            attrs.raw(IP_SADDR, &V4[0]).raw(IP_DADDR, &V4[1])
        };
        attrs.u16(UDP_SPORT, PORT).u16(UDP_DPORT, PORT)
    }

    fn session(&self, id: u32) -> Attrs {
        let mut attrs = session(1, id, self.kind).u8(SEND_SEQ, (id == 2).into());
        if id != 1 {
            attrs = attrs.u64(RECV_TIMEOUT, 20);
        }
        if self.kind == ETH {
            attrs = attrs.name(IFNAME, &format!("w{id}"));
        }
        attrs
    }

    /// One for a session, on the wire. Those with a number wait for one that never comes.
    fn frame(&self, id: u32) -> Vec<u8> {
        let mut message = match (self.version, self.udp) {
            (2, _) => [
                &[8, 2, 0, 1, 0, id as u8, 0, 5 * id as u8, 0, 0][..],
                &[0xff, 3, 0, 0x21],
            ]
            .concat(),
            (_, true) => [
                &[0, 3, 0, 0][..],
                &id.to_be_bytes(),
                &[0x40, 0, 0, 5 * id as u8],
            ]
            .concat(),
            (_, false) => [&id.to_be_bytes()[..], &[0x40, 0, 0, 5 * id as u8]].concat(),
        };
        message.extend([0xff; 6]);
        message.extend([2, 0, 0, 0, 0, 9, 8, 0]);
        message.extend([0; 46]);
        let ends: [Vec<u8>; 2] = if self.v6 {
            [1, 2].map(|end| v6(end).to_vec())
        } else {
            V4.map(|end| end.to_vec())
        };
        let (payload, protocol) = if self.udp {
            (
                udp(&ends[1], &ends[0], [PORT, PORT], &message, !self.v6),
                17,
            )
        } else {
            (message, 115)
        };
        let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.v6 {
            out.extend([0x86, 0xdd]);
            out.extend(ip6(protocol, &ends[1], &ends[0], &payload));
        } else {
            out.extend([8, 0]);
            out.extend(ip4(protocol, &ends[1], &ends[0], &[], 0, &payload));
        }
        out
    }

    fn close(&self) {
        take(&self.socket);
        take(&self.spare);
        self.sockets.iter().for_each(take);
    }
}

/// What takes part in a race.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Actor {
    Receive,
    Transmit,
    Close,
    DeleteTunnel,
    DeleteSessions,
    CreateAgain,
    Devices,
    Socket,
    Look,
}

use Actor::*;

/// Each has a netlink socket of its own, made in the namespace of the host before the race.
fn act(
    actor: Actor,
    random: &mut Random,
    host: &Host,
    tunnel: &Tunnel,
    genl: &Netlink,
    route: &Netlink,
) {
    match actor {
        Receive => {
            for _ in 0..60 {
                let frame = random.pick(&tunnel.frames);
                let _ = sys::send(
                    host.injector,
                    &frame,
                    0,
                    &sys::sockaddr_ll(host.wire, 0x0800),
                );
                spin(random, 30);
            }
        }
        Transmit => {
            for _ in 0..40 {
                if tunnel.kind == ETH && !tunnel.devices.is_empty() {
                    let to = sys::sockaddr_ll(random.pick(&tunnel.devices), 0x0800);
                    let _ = sys::send(host.packet.load(Ordering::Relaxed), &[0xff; 60], 0, &to);
                } else if !tunnel.sockets.is_empty() {
                    let at = random.below(tunnel.sockets.len());
                    let _ = sys::send(
                        tunnel.sockets[at].load(Ordering::Relaxed),
                        &[0xc0, 0x21, 1, 1, 0, 4],
                        0,
                        &[],
                    );
                }
                let _ = sys::send(
                    tunnel.socket.load(Ordering::Relaxed),
                    &[0xc8, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0],
                    0,
                    &[],
                );
                spin(random, 30);
            }
        }
        Close => tunnel.close(),
        DeleteTunnel => drop(genl.delete_tunnel(1)),
        DeleteSessions => {
            for _ in 0..5 {
                let id = random.pick(&SESSIONS);
                if random.chance(30) {
                    genl.ask(
                        SESSION_DELETE,
                        0,
                        &Attrs::default().name(IFNAME, &format!("w{id}")),
                    );
                } else {
                    genl.delete_session(1, id);
                }
                spin(random, 50);
            }
        }
        CreateAgain => {
            for _ in 0..2 {
                if tunnel.socket.load(Ordering::Relaxed) < 0 {
                    let spare = tunnel.spare.swap(-1, Ordering::Relaxed);
                    tunnel.socket.store(spare, Ordering::Relaxed);
                }
                genl.ask(
                    TUNNEL_CREATE,
                    0,
                    &tunnel.request(tunnel.socket.load(Ordering::Relaxed)),
                );
                for id in SESSIONS {
                    genl.ask(SESSION_CREATE, 0, &tunnel.session(id));
                }
            }
        }
        Devices => {
            for index in &tunnel.devices {
                match random.below(5) {
                    0 | 1 => drop(route.delete_link(*index)),
                    2 => drop(route.link(16, *index, 0, 1, &Attrs::default())),
                    3 => drop(route.link(
                        16,
                        *index,
                        0,
                        0,
                        &Attrs::default().u32(28, host.outer as u32),
                    )),
                    _ => drop(route.link(16, *index, 0, 0, &Attrs::default().u32(4, 1280))),
                }
                spin(random, 50);
            }
        }
        Socket => {
            let fd = tunnel.socket.load(Ordering::Relaxed);
            for _ in 0..6 {
                match random.below(5) {
                    0 => drop(sys::connect(fd, &[0; 32])),
                    1 => drop(raw!(SYS_shutdown, fd, 2)),
                    2 => drop(sys::set_option(
                        fd,
                        libc::SOL_UDP,
                        100,
                        &(3 * random.below(2) as u32).to_ne_bytes(),
                    )),
                    3 => drop(sys::receive(fd, &mut [0; 100], 0)),
                    _ => drop(raw!(SYS_dup2, fd, fd)),
                }
                spin(random, 30);
            }
        }
        Look => {
            for _ in 0..3 {
                genl.ask(SESSION_GET, DUMP, &Attrs::default());
                genl.ask(TUNNEL_GET, 0, &Attrs::default().u32(CONN_ID, 1));
                let id = random.pick(&SESSIONS);
                let attrs = Attrs::default().u32(CONN_ID, 1).u32(SESSION_ID, id);
                genl.ask(
                    SESSION_MODIFY,
                    0,
                    &attrs.u64(RECV_TIMEOUT, random.below(50) as u64),
                );
                let _ = fs::read("/proc/thread-self/net/pppol2tp");
            }
        }
    }
}

/// All at once, each after a while of its own. The sockets that the actors hold are closed as each
/// of them ends, and with the last one the namespace, if the caller has let go of it.
fn race(round: &Round, random: &mut Random, host: &Host, tunnel: &Tunnel, actors: &[Actor]) {
    round.log(format_args!(
        "v{} udp {} v6 {} kind {} managed {}: {actors:?}",
        tunnel.version,
        tunnel.udp,
        tunnel.v6,
        tunnel.kind,
        tunnel.socket.load(Ordering::Relaxed) >= 0
    ));
    let barrier = Barrier::new(actors.len());
    thread::scope(|scope| {
        for actor in actors {
            let mut random = Random::new(&[random.next()]);
            let (genl, route) = (Netlink::l2tp(), Netlink::route());
            let barrier = &barrier;
            let outer = host.outer;
            scope.spawn(move || {
                // Or the thread keeps it alive.
                sys::enter(outer);
                barrier.wait();
                spin(&mut random, 400);
                act(*actor, &mut random, host, tunnel, &genl, &route);
            });
        }
    });
    round.done(actors.len() as u64);
}

fn some_actors(random: &mut Random) -> Vec<Actor> {
    let mut all = vec![
        Close,
        DeleteTunnel,
        DeleteSessions,
        CreateAgain,
        Devices,
        Socket,
        Look,
        Transmit,
    ];
    let mut out = vec![Receive];
    for _ in 0..2 + random.below(4) {
        out.push(all.swap_remove(random.below(all.len())));
    }
    out
}

// The module.

fn modules() -> Vec<&'static str> {
    let table = fs::read_to_string("/proc/modules").expect("/proc/modules");
    let loaded = |name: &&str| {
        table
            .lines()
            .any(|line| line.split(' ').next() == Some(*name))
    };
    MODULES.into_iter().filter(loaded).collect()
}

/// Whether the implementation is gone now.
fn unload(names: &[&'static str]) -> bool {
    for name in names {
        let name = std::ffi::CString::new(*name).expect("a name");
        match raw!(SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) {
            Ok(_) | Err(libc::ENOENT) => (),
            Err(error) => {
                assert!(
                    [libc::EAGAIN, libc::EBUSY].contains(&error),
                    "delete_module: {error}"
                );
                return false;
            }
        }
    }
    true
}

fn load(names: &[&str]) {
    let status = Command::new("modprobe")
        .arg("-a")
        .args(names)
        .status()
        .expect("modprobe");
    assert!(status.success(), "modprobe {names:?}");
}

pub(crate) fn run(round: &Round) {
    let mut random = round.random(0);
    let host = Host::new();
    for _ in 0..CYCLES {
        let genl = Netlink::l2tp();
        let tunnel = host.tunnel(round, &mut random, &genl, true);
        let actors = some_actors(&mut random);
        race(round, &mut random, &host, &tunnel, &actors);
        tunnel.close();
        genl.delete_all(&["v1"]);
    }
    last(round, random, host);
    eventually("the end of the namespace", || {
        sys::links().iter().all(|link| link == "lo")
    });
}

/// The namespace exits, or the module leaves, or both, under traffic.
fn last(round: &Round, mut random: Random, host: Host) {
    let unloads = random.chance(60) && !round.tame;
    let exits = !unloads || random.chance(50);
    // What holds the module would keep it from leaving.
    let sessions = exits;
    let names = modules();
    let tunnel = host.tunnel(round, &mut random, &Netlink::l2tp(), sessions);
    let stop = AtomicBool::new(false);
    let attempts = AtomicU64::new(0);
    round.log(format_args!(
        "the namespace exits: {exits}; the module leaves: {unloads}"
    ));
    thread::scope(|scope| {
        let (stop, attempts, host, tunnel) = (&stop, &attempts, &host, &tunnel);
        let (mut more, mut rest) = (Random::new(&[random.next()]), Random::new(&[random.next()]));
        // Packets come to the end, and beyond.
        scope.spawn(move || {
            sys::enter(host.outer);
            while !stop.load(Ordering::Relaxed) {
                let frame = more.pick(&tunnel.frames);
                let _ = sys::send(
                    host.injector,
                    &frame,
                    0,
                    &sys::sockaddr_ll(host.wire, 0x0800),
                );
                spin(&mut more, 100);
            }
        });
        if exits {
            let inner = host.inner;
            let mut actors = some_actors(&mut random);
            if round.tame {
                // See UNHEARD-CLOSE in Documentation/compatibility.rst.
                actors.retain(|actor| *actor != Socket);
            }
            race(round, &mut random, host, tunnel, &actors);
            sys::enter(host.outer);
            let ending = scope.spawn(move || {
                sys::enter(host.outer);
                spin(&mut rest, 500);
                take(&host.packet);
                sys::close(inner);
                tunnel.close();
            });
            spin(&mut random, 500);
            if unloads {
                unload(&names);
            }
            ending.join().expect("the end");
        }
        if unloads {
            eventually("the module can leave", || {
                attempts.fetch_add(1, Ordering::Relaxed);
                unload(&names)
            });
        }
        thread::sleep(Duration::from_millis(random.below(20) as u64));
        stop.store(true, Ordering::Relaxed);
    });
    round.log(format_args!(
        "unloaded after {} attempts",
        attempts.load(Ordering::Relaxed)
    ));
    if unloads {
        load(&names);
    }
    tunnel.close();
    take(&host.packet);
    sys::close(host.injector);
    if !exits {
        sys::enter(host.outer);
        sys::close(host.inner);
    }
}
