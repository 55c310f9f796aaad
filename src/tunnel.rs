// SPDX-License-Identifier: GPL-2.0

//! Tunnels: a socket and what is sent through it.
//!
//! # Lifetimes
//!
//! A tunnel is counted by the tables of [`crate::l2tp_core`] and by its sessions. It counts its
//! socket; nothing counts the tunnel back, the socket finds it in a table. Counts may drop to zero
//! in softirq context, so that dropping a tunnel does no more than give up the socket.
//!
//! A managed tunnel ends when its socket does, or soon after if that closes unheard; an unmanaged one
//! owns its socket, which the work that ends the tunnel closes. Sending needs neither the socket's
//! lock nor a reference: it runs under RCU, looks at `closed` first, and a network namespace waits for
//! a grace period between closing its tunnels and exiting.

use crate::{
    abstractions::{
        net::{
            skbuff::Skb,
            sock::{
                Endpoints,
                Sock, //
            },
            socket::{
                KernelSocket,
                UdpConfig, //
            },
        },
        sync::read_once,
        workqueue, //
    },
    prelude::*,
    pseudowire,
    session::Session,
    stats::{
        Snapshot,
        Stats, //
    },
    trace,
    wire::{
        ids::{
            EncapType,
            TunnelId,
            Version, //
        },
        outer::{
            Ipv4Header,
            Ipv6Header,
            UdpHeader, //
        },
        DataHeader, //
    }, //
};
use kernel::{
    new_mutex,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        rcu,
        Arc,
        Mutex, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Queue,
        Work,
        WorkItem, //
    }, //
};

/// The longest UDP payload of which segments are to be made, with room for any IP header.
const SEGMENTS_LEN_MAX: usize = 65535 - 60 - UdpHeader::LEN;

/// What a tunnel is to be.
#[derive(Clone, Copy)]
pub struct TunnelConfig {
    /// Protocol version.
    pub version: Version,
    /// What carries its messages.
    pub encap: EncapType,
    /// Our id.
    pub tunnel_id: TunnelId,
    /// The peer's id.
    pub peer_tunnel_id: TunnelId,
}

/// Where a tunnel's socket comes from.
pub enum SocketConfig {
    /// A file descriptor of the requesting task: a managed tunnel.
    Fd(i32),
    /// A UDP socket of the kernel's. Ports in host order, 0 for any.
    Udp {
        /// Addresses and checksums.
        addresses: UdpConfig,
        /// Our port.
        sport: u16,
        /// The peer's port.
        dport: u16,
    },
    /// A socket of the kernel's for L2TP over IPv4.
    Ip4 {
        /// Our address.
        local: [u8; 4],
        /// The peer's address.
        peer: [u8; 4],
    },
    /// A socket of the kernel's for L2TP over IPv6.
    Ip6 {
        /// Our address.
        local: [u8; 16],
        /// The peer's address.
        peer: [u8; 16],
    },
}

/// Sessions of one tunnel, by id.
pub type Sessions = RBTree<u32, Arc<Session>>;

/// What is left of a tunnel when it is in no table any more.
#[derive(Default)]
struct Remains {
    sessions: Option<Sessions>,
    socket: Option<KernelSocket>,
}

/// A tunnel (a "control connection" in the terms of RFC 3931).
#[pin_data]
pub struct Tunnel {
    config: TunnelConfig,
    peer_tunnel_id: Atomic<u32>,
    /// The caller's file descriptor, or -1. For information: it may mean another file by now.
    fd: i32,
    sock: ARef<Sock>,
    /// Set when the tunnel leaves the tables.
    closed: Atomic<bool>,
    stats: Stats,
    #[pin]
    remains: Mutex<Remains>,
    #[pin]
    work: Work<Self>,
    #[pin]
    unhook: Work<Self, UNHOOK>,
    /// Tells that this is freed.
    _end: trace::EndOfTunnel,
}

impl_has_work! {
    impl HasWork<Self> for Tunnel { self.work }
    impl HasWork<Self, UNHOOK> for Tunnel { self.unhook }
}

/// The second of a tunnel's two pieces of work.
const UNHOOK: u64 = 1;

impl Tunnel {
    /// Makes a tunnel on `sock`, with the kernel socket that it is to own or the file descriptor it
    /// came from. May sleep.
    pub fn new(
        config: &TunnelConfig,
        sock: ARef<Sock>,
        socket: Option<KernelSocket>,
        fd: i32,
    ) -> Result<Arc<Self>> {
        let stats = Stats::new()?;
        Arc::pin_init(
            pin_init!(Self {
                config: *config,
                peer_tunnel_id: Atomic::new(config.peer_tunnel_id.get()),
                fd,
                sock,
                closed: Atomic::new(false),
                stats,
                remains <- new_mutex!(Remains { sessions: None, socket }, "Tunnel::remains"),
                work <- new_work!("Tunnel::work"),
                unhook <- new_work!("Tunnel::unhook"),
                _end: trace::EndOfTunnel {
                    tunnel_id: config.tunnel_id,
                },
            }),
            GFP_KERNEL,
        )
    }

    /// Protocol version.
    #[inline]
    pub fn version(&self) -> Version {
        self.config.version
    }

    /// What carries the messages.
    #[inline]
    pub fn encap(&self) -> EncapType {
        self.config.encap
    }

    /// Our id.
    #[inline]
    pub fn tunnel_id(&self) -> TunnelId {
        self.config.tunnel_id
    }

    /// The peer's id.
    pub fn peer_tunnel_id(&self) -> TunnelId {
        TunnelId::new(self.peer_tunnel_id.load(Relaxed))
    }

    /// Takes the peer's id from somebody who knows it, if whoever made the tunnel did not. True if
    /// that was news.
    #[cfg_attr(not(CONFIG_L2TP_RUST_PPP), expect(dead_code))]
    pub fn learn_peer_tunnel_id(&self, id: TunnelId) -> bool {
        id.get() != 0 && self.peer_tunnel_id.cmpxchg(0, id.get(), Relaxed).is_ok()
    }

    /// The file descriptor that the socket came from, or -1 if it is our own.
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// Whether this is a managed tunnel on a UDP socket.
    pub fn is_on_udp_of_others(&self) -> bool {
        self.fd >= 0 && self.config.encap == EncapType::Udp
    }

    /// The socket.
    #[inline]
    pub fn sock(&self) -> &Sock {
        &self.sock
    }

    /// Whether a packet with this IP header comes from the peer: its addresses are those that the
    /// socket is connected to. It may also be sent to the address that the socket is bound to, which
    /// can be that of a group or of all, and then is none to send from. The peer may be a group, too,
    /// or all, who answer from addresses of their own; and a socket that is not connected has no peer.
    pub fn is_from_peer(&self, header: &[u8], guard: &rcu::Guard) -> bool {
        if !self.sock.is_connected() {
            return true;
        }
        let ends = self.sock.endpoints();
        let matches = match ends {
            Endpoints::V4 { saddr, daddr } => {
                Ipv4Header::addresses(header).is_some_and(|(source, to)| {
                    source == daddr && (to == saddr || to == self.sock.filter_v4().0)
                })
            }
            Endpoints::V6 { saddr, daddr } => {
                Ipv6Header::addresses(header).is_some_and(|(source, to)| {
                    source == daddr && (to == saddr || to == self.sock.filter_v6().0)
                })
            }
        };
        matches || self.has_many_peers(ends, guard)
    }

    /// Whether what is sent goes to a multicast group, or is broadcast.
    #[cold]
    fn has_many_peers(&self, ends: Endpoints, guard: &rcu::Guard) -> bool {
        match ends {
            Endpoints::V4 {
                daddr: [224..=239, ..],
                ..
            }
            | Endpoints::V6 {
                daddr: [0xff, ..], ..
            } => true,
            // Which addresses are for broadcast, the routing table knows.
            _ => {
                self.sock.may_broadcast()
                    && self
                        .sock
                        .route(guard)
                        .is_ok_and(|route| route.is_broadcast())
            }
        }
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// The counters, to count.
    #[inline]
    pub fn counters(&self) -> &Stats {
        &self.stats
    }

    /// Bytes of UDP header that the tunnel adds.
    #[inline]
    pub fn udp_header_len(&self) -> usize {
        match self.config.encap {
            EncapType::Udp => UdpHeader::LEN,
            EncapType::Ip => 0,
        }
    }

    /// Bytes that the tunnel and the layers below it may add in front of an L2TP message.
    pub fn headroom(&self) -> usize {
        self.sock.headroom().saturating_add(self.udp_header_len())
    }

    /// Whether a packet that stands for several can be sent with the header of one, which devices
    /// then repeat, or those that register protocol 115: not if each is to have a number of its own.
    #[inline]
    pub fn takes_segments(&self, skb: &Skb, header: &DataHeader, numbered: bool) -> bool {
        (self.config.encap == EncapType::Udp || skb.may_be_opaque())
            && !numbered
            && skb.len() <= SEGMENTS_LEN_MAX.wrapping_sub(header.max_len())
    }

    /// Adds the L2TP header, with the next of `numbers` if there are any, and those below it, and
    /// sends the packet. Bottom halves must be off; takes no lock.
    ///
    /// A number is taken when nothing of ours can fail any more. The peer takes a number that does
    /// not come for a frame that was lost, and may discard some of those behind it.
    ///
    /// # Errors
    ///
    /// `ESHUTDOWN` if the tunnel is closed, `ENOTCONN` if its owner has not connected the socket,
    /// `ELOOP` if the way to the peer is the device that the packet comes from, `EMSGSIZE` if the
    /// message does not fit in an IP packet, `ENOMEM`, and what routing and the network layer say.
    #[inline(always)]
    pub fn output(
        &self,
        mut skb: Skb,
        header: &DataHeader,
        numbers: Option<&Atomic<u32>>,
        guard: &rcu::Guard,
    ) -> Result {
        // Whoever waits for a grace period after closing the tunnel waits for those who do not see it.
        if read_once(&self.closed) {
            return Err(ESHUTDOWN);
        }
        // Whoever manages the tunnel may connect and disconnect the socket at any moment. If that
        // happens right now, one packet goes to the old peer, or to the new one, or nowhere.
        if self.fd >= 0 && !self.sock.is_connected() {
            return Err(ENOTCONN);
        }
        let route = self.sock.route(guard)?;
        if route.is_loop_for(&skb) {
            return Err(ELOOP);
        }

        let l2tp_len = header.len(numbers.is_some());
        let udp_len = self.udp_header_len();
        let header_len = udp_len.wrapping_add(l2tp_len);
        let datagram_len = skb.len().wrapping_add(header_len);
        if datagram_len > route.payload_max() {
            return Err(EMSGSIZE);
        }

        self.sock.encapsulate(&mut skb, &route, udp_len != 0)?;
        let bytes = skb.prepend(route.headroom().wrapping_add(header_len), header_len)?;
        let (udp, l2tp) = bytes.split_at_mut_checked(udp_len).ok_or(EINVAL)?;
        let ns = numbers.map(|numbers| numbers.fetch_add(1u32, Relaxed));
        header.emit(l2tp, ns).ok_or(EINVAL)?;
        if let Ok(udp) = <&mut [u8; UdpHeader::LEN]>::try_from(udp) {
            let (source, dest) = self.sock.ports();
            *udp = UdpHeader {
                source,
                dest,
                // CAST: Checked above.
                len: datagram_len as u16,
                check: 0,
            }
            .emit();
        }
        skb.reset_for_transmit();
        self.sock.send(skb, &route, udp_len != 0)
    }

    /// Marks the tunnel as closed. True the first time.
    pub fn set_closed(&self) -> bool {
        !self.closed.xchg(true, Full)
    }

    /// Leaves `sessions`, which are in no table any more, for [`Tunnel::finish`].
    pub fn leave(&self, sessions: Sessions) {
        self.remains.lock().sessions = Some(sessions);
    }

    /// Closes what is left of a tunnel that is in no table. Takes RTNL, and sleeps.
    pub fn finish(&self) {
        finish_all(core::iter::once(self));
    }

    /// Has [`Tunnel::finish`] called by `queue`.
    pub fn finish_later(self: Arc<Self>, queue: &workqueue::OwnedQueue) {
        // Only the one who has taken the tunnel out of the tables comes here, so that the work is
        // not queued yet.
        let _ = queue.enqueue::<_, 0>(self);
    }

    /// Has `queue` take from a managed UDP socket what could not be taken at once. That waits for
    /// the socket's owner if he holds its lock.
    pub fn unhook_later(self: Arc<Self>, queue: &Queue) {
        if self.is_on_udp_of_others() {
            // As above.
            let _ = queue.enqueue::<_, UNHOOK>(self);
        }
    }
}

/// Closes what is left of tunnels that are in no table: first the pseudowires, all at once, then the
/// sockets. Takes RTNL, and sleeps.
pub fn finish_all<'a>(tunnels: impl Iterator<Item = &'a Tunnel> + Clone) {
    pseudowire::close_all(|close| {
        for tunnel in tunnels.clone() {
            let sessions = tunnel.remains.lock().sessions.take();
            for session in sessions.iter().flat_map(Sessions::values) {
                close(session);
            }
        }
    });
    for tunnel in tunnels {
        let socket = tunnel.remains.lock().socket.take();
        drop(socket);
    }
}

impl WorkItem for Tunnel {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.finish();
    }
}

impl WorkItem<UNHOOK> for Tunnel {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.sock.lock().clear_encap_errors();
    }
}
