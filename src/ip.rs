// SPDX-License-Identifier: GPL-2.0

//! L2TP over IP (RFC 3931 section 4.1.1): protocol 115 of IPv4 and of IPv6, and its sockets.
//!
//! A data message begins with its session id, and goes to the session. A control message begins with
//! a session id of zero, and goes to a socket: daemons open one with
//! `socket(AF_INET, SOCK_DGRAM, IPPROTO_L2TP)`, or `AF_INET6`, and bind it to an address and to the
//! Control Connection ID of the messages that it wants, which is zero for the first message of a
//! new peer. The kernel opens such a socket for each unmanaged tunnel; nobody reads what comes there,
//! so that it is dropped.
//!
//! Both versions of IP share what is here; they differ in what they implement of [`Family`], this
//! file for IPv4, and `ip6.rs`.
//!
//! # Tables
//!
//! Bound sockets are in two hash tables for each namespace and version of IP: by id, for received
//! messages, and, while they are connected, by the peer's address, for ICMP errors. Both are read
//! under RCU. A socket enters them by `bind` and `connect`, leaves the second one by disconnecting,
//! and both when it is closed.
//!
//! # ICMP
//!
//! What an ICMP message says about the packets of a connected socket goes to the routing table. Errors
//! go to the error queue of sockets that asked for it by `IP_RECVERR`, `IPV6_RECVERR`, and to no
//! others: daemons end when their peer is not there yet.
//!
//! # Locks
//!
//! The socket lock, then `changes`, under which it is decided whether an address is taken. Nothing
//! else is taken inside. Closing a socket takes no lock around what it does to a tunnel.

use crate::{
    abstractions::net::{
        datagram::{
            flags,
            Message, //
        },
        domain::Domain,
        net_namespace::{
            self,
            Net,
            PerNet,
            Slot, //
        },
        proto::{
            self,
            AddressType,
            Locked,
            Proto,
            Socket, //
        },
        protocol::{
            self,
            Handler,
            Packet, //
        },
        sock::Sock,
        sock_table::{
            Key,
            SockTable, //
        },
        socket::KernelSocket, //
    },
    abstractions::sync::bottom_half,
    discard::{
        discard,
        Reason, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    l2tp_core::Namespace,
    prelude::*,
    tunnel::TunnelConfig,
    wire::{
        self,
        outer::{
            read,
            Ipv4Header, //
        },
        v3,
        IpPeek, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    new_mutex,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        Arc,
        ArcBorrow,
        Mutex, //
    }, //
};

/// The IP protocol number.
pub const PROTOCOL: u16 = 115;

/// What precedes a control message on the wire, and what its sender does not know of.
pub const CONTROL_PREFIX: [u8; wire::IP_CONTROL_AT] = [0; wire::IP_CONTROL_AT];

/// What distinguishes IPv4 and IPv6.
pub trait Family: Sized + Send + Sync + 'static {
    /// An address, in network order.
    type Addr: Copy + Eq + Send + Sync + 'static;

    /// The bytes of a socket address.
    type Name: AsRef<[u8]>;

    /// The version of IP.
    const DOMAIN: Domain;

    /// The name in `/proc/net/protocols`.
    const NAME: &'static CStr;

    /// Any address.
    const ANY: Self::Addr;

    /// The per-namespace state.
    fn slot() -> &'static Slot<Sockets<Self>>;

    /// What sockets are found by that are connected to `peer`.
    fn key(peer: Self::Addr) -> Key;

    /// Source and destination in an IP header.
    fn addresses(header: &[u8]) -> Option<(Self::Addr, Self::Addr)>;

    /// The addresses that a packet must be sent to and come from to be for this socket, each
    /// [`Family::ANY`] if that does not matter.
    fn filter(sk: &SocketOf<Self>) -> (Self::Addr, Self::Addr);

    /// Reads a `struct sockaddr_l2tpip` or `sockaddr_l2tpip6`. [`None`] if it is cut off.
    fn parse(address: &[u8]) -> Option<SocketAddress<Self::Addr>>;

    /// Whether such an address can be bound to at all: what does not depend on the socket.
    fn check_bind(address: &SocketAddress<Self::Addr>) -> Result;

    /// Where on this host a socket is to be bound to.
    fn local(
        net: &Net,
        sk: &Locked<'_, L2tpIp<Self>>,
        address: &SocketAddress<Self::Addr>,
    ) -> Result<Local<Self::Addr>>;

    /// Sets what [`Family::local`] has returned.
    fn set_local(sk: &Locked<'_, L2tpIp<Self>>, local: &Local<Self::Addr>);

    /// Whether such an address can be connected to at all.
    fn check_connect(address: &SocketAddress<Self::Addr>) -> Result;

    /// Sends a control message of `len` bytes.
    fn send(net: &Net, sk: &SocketOf<Self>, message: &mut Message, len: usize) -> Result;

    /// The name of whoever has sent a packet that came in by device `ingress`.
    fn sender(header: &[u8], ingress: u32) -> Option<Self::Name>;

    /// The name of a socket, or of the peer that it is connected to.
    fn name(sk: &SocketOf<Self>, peer: bool) -> Self::Name;
}

/// What a socket address says.
pub struct SocketAddress<A> {
    /// The address family.
    pub family: u16,
    /// The address.
    pub addr: A,
    /// The device that a link-local IPv6 address belongs to, or 0.
    pub scope: u32,
    /// The Control Connection ID.
    pub conn_id: u32,
}

/// Where a socket is bound to.
#[derive(Clone, Copy)]
pub struct Local<A> {
    /// The address that messages are to be sent to, or any.
    pub receive: A,
    /// The address that messages are sent from, or any.
    pub source: A,
    /// The device, or 0.
    pub device: u32,
}

/// The protocol, over one version of IP.
pub struct L2tpIp<F>(PhantomData<fn() -> F>);

/// A socket of the protocol.
pub type SocketOf<F> = Socket<L2tpIp<F>>;

/// What such a socket has besides addresses.
#[derive(Default)]
pub struct SocketData {
    conn_id: Id,
    peer_conn_id: Id,
    /// When the socket was bound or connected, compared with others in its namespace.
    since: Since,
}

struct Id(Atomic<u32>);

impl Default for Id {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

struct Since(Atomic<u64>);

impl Default for Since {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl SocketData {
    /// The id of the messages that the socket gets.
    pub fn conn_id(&self) -> u32 {
        self.conn_id.0.load(Relaxed)
    }

    /// The peer's id, which only the owner of the socket takes an interest in.
    pub fn peer_conn_id(&self) -> u32 {
        self.peer_conn_id.0.load(Relaxed)
    }
}

/// The bound sockets of a namespace.
#[pin_data]
pub struct Sockets<F: Family> {
    /// By Control Connection ID.
    #[pin]
    bound: SockTable<L2tpIp<F>, 0>,
    /// By the peer's address.
    #[pin]
    connected: SockTable<L2tpIp<F>, 1>,
    /// Counts calls of `bind` and `connect`.
    #[pin]
    changes: Mutex<u64>,
}

fn id_key(conn_id: u32) -> Key {
    u128::from(conn_id).to_ne_bytes()
}

impl<F: Family> Sockets<F> {
    #[inline]
    fn of(net: &Net) -> Option<ArcBorrow<'_, Self>> {
        F::slot().get(net)
    }

    /// The socket for a control message: the one bound or connected last of those that match.
    fn find<'g>(
        &'g self,
        conn_id: u32,
        (source, destination): (F::Addr, F::Addr),
        ingress: u32,
        guard: &'g rcu::Guard,
    ) -> Option<&'g SocketOf<F>> {
        self.bound
            .find(&id_key(conn_id), guard)
            .filter(|sk| {
                let device = sk.bound_device();
                let (local, peer) = F::filter(sk);
                sk.data().conn_id() == conn_id
                    && (device == 0 || ingress == 0 || device == ingress)
                    && (local == F::ANY || local == destination)
                    && (peer == F::ANY || peer == source)
            })
            .max_by_key(|sk| sk.data().since.0.load(Relaxed))
    }

    /// Whether some socket gets messages that one bound like this would get.
    fn is_taken(&self, conn_id: u32, local: &Local<F::Addr>) -> bool {
        let guard = rcu::read_lock();
        let taken = self.bound.find(&id_key(conn_id), &guard).any(|sk| {
            let device = sk.bound_device();
            let (other, _) = F::filter(sk);
            sk.data().conn_id() == conn_id
                && (device == 0 || local.device == 0 || device == local.device)
                && (other == F::ANY || local.receive == F::ANY || other == local.receive)
        });
        taken
    }

    /// Binds a socket, unless somebody else is bound there.
    fn bind(
        &self,
        sk: &Locked<'_, L2tpIp<F>>,
        local: &Local<F::Addr>,
        before: &Local<F::Addr>,
        conn_id: u32,
    ) -> Result {
        let mut changes = self.changes.lock();
        if self.is_taken(conn_id, local) {
            return Err(EADDRINUSE);
        }
        F::set_local(sk, local);
        let data = sk.data();
        data.conn_id.0.store(conn_id, Relaxed);
        *changes = changes.wrapping_add(1);
        data.since.0.store(*changes, Relaxed);
        self.bound.insert(sk, id_key(conn_id)).inspect_err(|_| {
            F::set_local(sk, before);
            data.conn_id.0.store(0, Relaxed);
        })?;
        sk.set_bound();
        Ok(())
    }

    /// Notes that a bound socket was connected, before to the peer `before` or to none. Sleeps if
    /// that was another one.
    fn connected(&self, sk: &Locked<'_, L2tpIp<F>>, before: F::Addr, peer_conn_id: u32) {
        let data = sk.data();
        data.peer_conn_id.0.store(peer_conn_id, Relaxed);
        {
            let mut changes = self.changes.lock();
            *changes = changes.wrapping_add(1);
            data.since.0.store(*changes, Relaxed);
        }
        let (_, peer) = F::filter(sk);
        if peer != before {
            self.connected.remove(sk);
        }
        // It may be there already; without memory, no MTU is learnt for this peer.
        let _ = self.connected.insert(sk, F::key(peer));
    }
}

impl<F: Family> PerNet for Sockets<F> {
    fn slot() -> &'static Slot<Self> {
        F::slot()
    }

    fn init(_net: &Net) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                bound <- SockTable::new(),
                connected <- SockTable::new(),
                changes <- new_mutex!(0, "L2tpIp::changes"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Sockets of user space keep the namespace, and those of the kernel are closed with the
    /// tunnels.
    fn pre_exit(_this: ArcBorrow<'_, Self>) {}

    fn exit(_this: Arc<Self>) {}
}

impl<F: Family> Handler for L2tpIp<F> {
    const DOMAIN: Domain = F::DOMAIN;
    // CAST: 115.
    const PROTOCOL: u8 = PROTOCOL as u8;
    const HEADER_LENS: &'static [usize] = &v3::HDR_LENS_IP;

    fn mergeable(net: &Net, message: &[u8]) -> Option<usize> {
        match wire::peek_ip(message) {
            IpPeek::Data { session_id } => Namespace::of(net)?.mergeable_ip(message, session_id),
            _ => None,
        }
    }

    #[inline]
    fn receive(net: &Net, mut packet: Packet, guard: &rcu::Guard, bh: &bottom_half::Guard) {
        let wanted = packet.len().min(wire::IP_PEEK_LEN);
        let Some(head) = packet.pull_head(wanted) else {
            return discard(packet.into_skb(), Reason::TooShort, 0);
        };
        match wire::peek_ip(head) {
            IpPeek::Data { session_id } => {
                if let Some(namespace) = Namespace::of(net) {
                    namespace.receive_ip(packet.into_skb(), session_id, guard, bh);
                }
            }
            IpPeek::Control { conn_id } => {
                Self::receive_control(net, packet, conn_id.get(), guard);
            }
            IpPeek::Short => discard(packet.into_skb(), Reason::TooShort, 0),
            IpPeek::BadControl => discard(packet.into_skb(), Reason::BadControl, 0),
        }
    }

    const PREFIX: &'static [u8] = &CONTROL_PREFIX;

    fn senders(net: &Net, header: &[u8], mut each: impl FnMut(&Sock)) {
        let Some((source, destination)) = F::addresses(header) else {
            return;
        };
        let Some(sockets) = Sockets::<F>::of(net) else {
            return;
        };
        let guard = rcu::read_lock();
        for sk in sockets.connected.find(&F::key(destination), &guard) {
            if F::filter(sk) == (source, destination) {
                each(sk);
            }
        }
    }
}

impl<F: Family> L2tpIp<F> {
    /// Queues a control message on the socket that it is for, without the session id of zero.
    fn receive_control(net: &Net, mut packet: Packet, conn_id: u32, guard: &rcu::Guard) {
        let Some(addresses) = F::addresses(packet.ip_header()) else {
            return;
        };
        let Some(sockets) = Sockets::<F>::of(net) else {
            return;
        };
        let found = sockets.find(conn_id, addresses, packet.ingress(), guard);
        let Some(sk) = found.filter(|sk| !sk.is_kernel()) else {
            return discard(packet.into_skb(), Reason::NoListener, 0);
        };
        if packet.pull(wire::IP_CONTROL_AT).is_none() {
            return;
        }
        sk.queue(net, packet);
    }
}

impl<F: Family> Proto for L2tpIp<F> {
    const DOMAIN: Domain = F::DOMAIN;
    const NAME: &'static CStr = F::NAME;
    // CAST: 115.
    const PROTOCOL: u8 = PROTOCOL as u8;

    type Data = SocketData;
    type Name = F::Name;

    fn bind(net: &Net, sk: &SocketOf<F>, address: &[u8]) -> Result {
        let address = F::parse(address).ok_or(EINVAL)?;
        if address.family != F::DOMAIN.family() {
            return Err(EINVAL);
        }
        F::check_bind(&address)?;
        let sockets = Sockets::<F>::of(net).ok_or(ENODEV)?;
        let sk = sk.lock();
        if sk.is_bound() || !sk.is_closed() {
            return Err(EINVAL);
        }
        let local = F::local(net, &sk, &address)?;
        let before = Local {
            receive: F::ANY,
            source: F::ANY,
            device: sk.bound_device(),
        };
        sockets.bind(&sk, &local, &before, address.conn_id)
    }

    fn connect(net: &Net, sk: &SocketOf<F>, bytes: &[u8]) -> Result {
        let address = F::parse(bytes).ok_or(EINVAL)?;
        F::check_connect(&address)?;
        let sockets = Sockets::<F>::of(net).ok_or(ENODEV)?;
        let sk = sk.lock();
        // There is no id that could be chosen for those who do not bind.
        if !sk.is_bound() {
            return Err(EINVAL);
        }
        let (_, before) = F::filter(&sk);
        sk.connect(bytes)?;
        sockets.connected(&sk, before, address.conn_id);
        Ok(())
    }

    fn disconnect(net: &Net, sk: &SocketOf<F>) -> Result {
        let sk = sk.lock();
        if !sk.is_bound() {
            return Ok(());
        }
        if let Some(sockets) = Sockets::<F>::of(net) {
            sockets.connected.remove(&sk);
        }
        sk.disconnect()
    }

    fn name(sk: &SocketOf<F>, peer: bool) -> Result<F::Name> {
        if peer && !sk.is_connected() {
            return Err(ENOTCONN);
        }
        Ok(F::name(sk, peer))
    }

    fn ioctl(sk: &SocketOf<F>, request: u32) -> Result<i32> {
        match request {
            proto::SIOCOUTQ => Ok(sk.unsent()),
            proto::SIOCINQ => Ok(i32::try_from(sk.next_len())?),
            _ => Err(ENOIOCTLCMD),
        }
    }

    fn send(net: &Net, sk: &SocketOf<F>, message: &mut Message, len: usize) -> Result {
        F::send(net, sk, message, len)
    }

    fn receive(sk: &SocketOf<F>, message: &mut Message, len: usize, flags: u32) -> Result<usize> {
        if flags & flags::OOB != 0 {
            return Err(EOPNOTSUPP);
        }
        if flags & flags::ERRQUEUE != 0 {
            return sk.next_error(message, len);
        }
        let Some(datagram) = sk.next_datagram(flags)? else {
            return Ok(0);
        };
        let copied = datagram.copy_to(message, len)?;
        if let Some(name) = F::sender(datagram.ip_header(), datagram.ingress()) {
            message.set_name(name.as_ref());
        }
        datagram.control_to(message);
        if flags & flags::TRUNC != 0 {
            return Ok(datagram.len());
        }
        Ok(copied)
    }

    fn close(net: &Net, sk: &SocketOf<F>) {
        if let Some(sockets) = Sockets::<F>::of(net) {
            sockets.bound.remove(sk);
            sockets.connected.remove(sk);
        }
        if let Some(namespace) = Namespace::of(net) {
            namespace.socket_closed(sk);
        }
    }
}

/// The protocol, registered. Dropped in this order: no new sockets, no new packets, no state.
pub struct Registration<F: Family> {
    sockets: proto::Registration<L2tpIp<F>>,
    _handler: protocol::Registration<L2tpIp<F>>,
    _state: net_namespace::Registration<Sockets<F>>,
}

impl<F: Family> Registration<F> {
    /// Registers the protocol over one version of IP. [`Namespace`] must be registered before, and
    /// until this is dropped. May sleep.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let state = net_namespace::Registration::register(module)?;
        let handler = protocol::Registration::register()?;
        Ok(Self {
            sockets: proto::Registration::register(module)?,
            _handler: handler,
            _state: state,
        })
    }

    /// Lets sockets be opened. After that, the module's initialisation must not fail any more.
    pub fn open(&mut self) {
        self.sockets.open();
    }
}

/// Opens a socket, binds it to an id and connects it. Addresses in the form of their family.
pub fn kernel_socket(
    net: &Net,
    domain: Domain,
    local: &[u8],
    peer: &[u8],
) -> Outcome<KernelSocket> {
    let socket = KernelSocket::new_datagram(net, domain.family().into(), PROTOCOL.into())
        .map_err(|e| Refusal::new(e, c"cannot open a socket for L2TP over IP"))?;
    socket
        .bind(local)
        .map_err(|e| Refusal::new(e, c"cannot bind a socket for L2TP over IP"))?;
    socket
        .connect(peer)
        .map_err(|e| Refusal::new(e, c"cannot connect a socket for L2TP over IP"))?;
    Ok(socket)
}

/// A connected socket of the kernel's own for L2TP over IPv4.
pub fn kernel_socket4(
    net: &Net,
    config: &TunnelConfig,
    local: [u8; 4],
    peer: [u8; 4],
) -> Outcome<KernelSocket> {
    kernel_socket(
        net,
        Domain::Inet,
        &V4::emit(local, config.tunnel_id.get()),
        &V4::emit(peer, config.peer_tunnel_id.get()),
    )
}

/// A connected socket of the kernel's own for L2TP over IPv6.
pub fn kernel_socket6(
    net: &Net,
    config: &TunnelConfig,
    local: [u8; 16],
    peer: [u8; 16],
) -> Outcome<KernelSocket> {
    #[cfg(CONFIG_IPV6)]
    return crate::ip6::kernel_socket(net, config, local, peer);
    #[cfg(not(CONFIG_IPV6))]
    {
        let _ = (net, config, local, peer);
        Err(Refusal::new(EAFNOSUPPORT, c"the kernel has no IPv6"))
    }
}

/// The address family of no address; taken for the socket's own when sending.
pub const AF_UNSPEC: u16 = 0;

/// The longest control message that fits in an IPv4 packet.
const CONTROL_LEN_MAX: usize = 65535 - Ipv4Header::LEN - wire::IP_CONTROL_AT;

/// L2TP over IPv4.
pub struct V4;

static SLOT: Slot<Sockets<V4>> = Slot::new();

impl V4 {
    /// Writes a `struct sockaddr_l2tpip`.
    fn emit([a, b, c, d]: [u8; 4], conn_id: u32) -> [u8; 16] {
        let [f, g] = Domain::Inet.family().to_ne_bytes();
        let [i, j, k, l] = conn_id.to_ne_bytes();
        [f, g, 0, 0, a, b, c, d, i, j, k, l, 0, 0, 0, 0]
    }
}

impl Family for V4 {
    type Addr = [u8; 4];
    type Name = [u8; 16];

    const DOMAIN: Domain = Domain::Inet;
    const NAME: &'static CStr = c"L2TP/IP";
    const ANY: [u8; 4] = [0; 4];

    fn slot() -> &'static Slot<Sockets<Self>> {
        &SLOT
    }

    #[inline]
    fn key(peer: [u8; 4]) -> Key {
        u128::from(u32::from_ne_bytes(peer)).to_ne_bytes()
    }

    #[inline]
    fn addresses(header: &[u8]) -> Option<([u8; 4], [u8; 4])> {
        Ipv4Header::addresses(header)
    }

    #[inline]
    fn filter(sk: &SocketOf<Self>) -> ([u8; 4], [u8; 4]) {
        sk.filter_v4()
    }

    fn parse(address: &[u8]) -> Option<SocketAddress<[u8; 4]>> {
        let address: &[u8; 16] = address.first_chunk()?;
        Some(SocketAddress {
            family: u16::from_ne_bytes(read(address, 0)?),
            addr: read(address, 4)?,
            scope: 0,
            conn_id: u32::from_ne_bytes(read(address, 8)?),
        })
    }

    fn check_bind(_address: &SocketAddress<[u8; 4]>) -> Result {
        Ok(())
    }

    fn local(
        net: &Net,
        sk: &Locked<'_, L2tpIp<Self>>,
        address: &SocketAddress<[u8; 4]>,
    ) -> Result<Local<[u8; 4]>> {
        let receive = address.addr;
        let source = match net.address_type_v4(receive) {
            AddressType::Local => receive,
            // Messages to a group come from an address of the device's.
            AddressType::Group => Self::ANY,
            AddressType::Other if receive == Self::ANY => Self::ANY,
            AddressType::Other => return Err(EADDRNOTAVAIL),
        };
        Ok(Local {
            receive,
            source,
            device: sk.bound_device(),
        })
    }

    fn set_local(sk: &Locked<'_, L2tpIp<Self>>, local: &Local<[u8; 4]>) {
        sk.set_local_v4(local.receive, local.source);
    }

    fn check_connect(address: &SocketAddress<[u8; 4]>) -> Result {
        if is_multicast(address.addr) {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn send(net: &Net, sk: &SocketOf<Self>, message: &mut Message, len: usize) -> Result {
        let sk = sk.lock();
        if sk.is_dead() {
            return Err(ENOTCONN);
        }
        let to = match message.name() {
            Some(name) => {
                let to = Self::parse(name).ok_or(EINVAL)?;
                if to.family != Domain::Inet.family() && to.family != AF_UNSPEC {
                    return Err(EAFNOSUPPORT);
                }
                Some(to.addr)
            }
            None if sk.is_connected() => None,
            None => return Err(EDESTADDRREQ),
        };
        if len > CONTROL_LEN_MAX {
            return Err(EMSGSIZE);
        }
        sk.send_v4(net, to, &CONTROL_PREFIX, message, len)
    }

    fn sender(header: &[u8], _ingress: u32) -> Option<[u8; 16]> {
        Some(Self::emit(read(header, 12)?, 0))
    }

    fn name(sk: &SocketOf<Self>, peer: bool) -> [u8; 16] {
        let data = sk.data();
        let (local, remote) = sk.filter_v4();
        if peer {
            Self::emit(remote, data.peer_conn_id())
        } else if local == Self::ANY {
            Self::emit(sk.source_v4(), data.conn_id())
        } else {
            Self::emit(local, data.conn_id())
        }
    }
}

/// Whether an IPv4 address is that of a multicast group.
pub fn is_multicast([a, ..]: [u8; 4]) -> bool {
    a & 0xf0 == 0xe0
}

/// Registers L2TP over IPv4. See [`Registration::register`].
pub fn register(module: &'static ThisModule) -> Result<Registration<V4>> {
    Registration::register(module)
}
