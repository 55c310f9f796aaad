// SPDX-License-Identifier: GPL-2.0

//! PPP pseudowires (RFC 2661): a session whose far side is a socket of family `AF_PPPOX`.
//!
//! The socket is the handle by which a daemon and pppd own a session. It is a channel of generic
//! PPP, too, which carries the frames once pppd has asked for its number. A session is made by
//! netlink and then joined by `connect`, or by `connect` alone; in the oldest interface, so is the
//! tunnel, from the file descriptor of its UDP socket.
//!
//! A socket that is connected with both session ids 0 manages the tunnel: options and statistics. It
//! has a session of its own, by which the tunnel knows of it, but which no message is for, nor shown
//! to anybody: see [`Session::is_management`].
//!
//! # Lifetimes
//!
//! ```text
//!   file ═══► socket ═══► Session ═══► Tunnel        ═══► counted
//!               ▲  ◄─ ─ ─ ─ Port                     ─ ─► pointer under RCU
//!   generic PPP ┘ (channel, in the socket)
//! ```
//!
//! A socket owns its session from `connect` until a grace period after it was closed. The way back
//! is no reference: the session's [`Port`] has a pointer, which is set once and cleared for good by
//! the first of two ends:
//!
//! - The socket is closed. This deletes the session, whoever made it, and then unregisters the
//!   channel: the device that used it, and pppd, notice.
//! - The session leaves the tables: it is deleted by a request, with its tunnel, or with its
//!   namespace or the module, neither of which ends as long as there are sockets. The socket stays
//!   connected to what has gone, and the channel registered, as daemons tear down PPP from above;
//!   frames are dropped, and calls that need a session fail.
//!
//! Sockets hold the module. The session keeps the tunnel and that the UDP socket as memory; that
//! socket is in the same namespace, which the PPP socket keeps.
//!
//! # Contexts and locks
//!
//! [`Port::deliver`] runs in softirqs on several CPUs at once, under RCU. [`Proto::start_xmit`] is
//! called by generic PPP, one frame at a time for each channel, with bottom halves off. Neither takes
//! a reference of ours, nor a lock, but for a session's turns if it numbers what it sends. The socket
//! lock is held around `connect` and closing, in which the registry is locked; a tunnel is made before.
//!
//! # Rights
//!
//! Anybody may open a socket. To connect it takes `CAP_NET_ADMIN` in the namespace, as the same
//! things do by netlink: C lets anybody take over sessions and sockets of the network that he
//! happens to be in.

use crate::{
    abstractions::{
        net::{
            datagram::Message,
            net_namespace::{
                self,
                Net,
                PerNet,
                Slot, //
            },
            ppp_channel,
            pppox::{
                self,
                Proto,
                Socket,
                SocketPtr, //
            },
            skbuff::Skb,
            sock::Endpoints, //
        },
        sync::bottom_half,
        uaccess, //
    },
    discard::{
        discard_of,
        Reason, //
    },
    error::Outcome,
    l2tp_core::Namespace,
    netlink::{
        Cause,
        Change, //
    },
    prelude::*,
    pseudowire::Pseudowire,
    session::{
        Session,
        SessionConfig, //
    },
    tunnel::{
        SocketConfig,
        Tunnel,
        TunnelConfig, //
    },
    uapi::ppp as uapi,
    wire::{
        ids::{
            Cookie,
            EncapType,
            L2SpecType,
            PwType,
            SessionId,
            TunnelId,
            Version, //
        },
        outer::read, //
    }, //
};
use kernel::{
    current,
    sync::{
        rcu,
        Arc,
        ArcBorrow, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// The address and control fields of a PPP frame (RFC 1662), in front of its protocol field. They
/// are always sent, and are not negotiated.
const ADDRESS_AND_CONTROL: [u8; 2] = [0xff, 0x03];

/// Bytes of the protocol field of a PPP frame.
const PROTOCOL_LEN: usize = 2;

/// An MTU to assume of paths that are not known.
const USUAL_MTU: u32 = 1500;

/// What does not fit in any datagram is not worth a buffer.
const SEND_MAX: usize = 65535;

/// The end of a session that is a PPP socket.
pub struct Port {
    socket: SocketPtr<PppoL2tp>,
    /// The task that has made the session. For information.
    owner: i32,
}

impl Port {
    fn new() -> Self {
        Self {
            socket: SocketPtr::new(),
            owner: current!().pid(),
        }
    }

    /// Hands a frame to the socket: to generic PPP if that has taken over, or to the queue that the
    /// socket is read from. Softirq.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if there is no socket, `ENOBUFS` if the queue is full; `ENOMEM`.
    #[inline]
    pub fn deliver(
        &self,
        session: &Session,
        mut skb: Skb,
        _ordered: bool,
        guard: &rcu::Guard,
        _bh: &bottom_half::Guard,
    ) -> Result {
        let Some(socket) = self.socket.get(guard) else {
            discard_of(session, skb, Reason::NoFarSide);
            return Err(ENOTCONN);
        };
        let head = skb.pull_head(ADDRESS_AND_CONTROL.len());
        if head.is_some_and(|head| head.starts_with(&ADDRESS_AND_CONTROL)) {
            let _ = skb.pull(ADDRESS_AND_CONTROL.len());
        }
        skb.reset_for_receive()?;
        socket.deliver(skb, guard)
    }

    /// The name of the device that the socket's channel is connected to. [`None`] if there is no
    /// socket.
    #[cfg_attr(
        not(any(
            all(CONFIG_DEBUG_FS, CONFIG_NET_NS),
            all(CONFIG_PROC_FS, CONFIG_L2TP_RUST_PPP)
        )),
        expect(dead_code)
    )]
    pub fn interface(&self) -> Option<[u8; 16]> {
        const UNCONNECTED: [u8; 16] = *b"(null)\0\0\0\0\0\0\0\0\0\0";

        let guard = rcu::read_lock();
        let socket = self.socket.get(&guard)?;
        Some(socket.channel().device_name(&guard).unwrap_or(UNCONNECTED))
    }

    /// The session leaves the tables: from now on it has no socket. Any context.
    pub fn close(&self) {
        self.socket.close();
    }
}

/// Makes a session of `tunnel` that waits for its socket. May sleep.
///
/// # Errors
///
/// Those of [`Namespace::register_session`]; `ENOMEM`.
pub fn create(
    namespace: &Namespace,
    tunnel: &Arc<Tunnel>,
    config: &SessionConfig,
) -> Outcome<Arc<Session>> {
    let session = Session::new(tunnel, config, Pseudowire::Ppp(Port::new()))?;
    namespace.register_session(&session)?;
    Ok(session)
}

/// The sockets.
pub struct PppoL2tp;

static SOCKETS: pppox::Slot<PppoL2tp> = pppox::Slot::new();

/// Of sessions that no socket can be connected to.
static NOWHERE: SocketPtr<PppoL2tp> = SocketPtr::closed();

impl Proto for PppoL2tp {
    const NAME: &'static CStr = c"PPPOL2TP";
    const PROTOCOL: u32 = uapi::PX_PROTO_OL2TP;
    const LEVEL: u32 = uapi::SOL_PPPOL2TP;

    type Peer = Arc<Session>;
    type Name = Name;

    fn slot() -> &'static pppox::Slot<Self> {
        &SOCKETS
    }

    fn pointer(session: &Arc<Session>) -> &SocketPtr<Self> {
        match session.pseudowire() {
            Pseudowire::Ppp(port) => &port.socket,
            Pseudowire::Eth(_) => &NOWHERE,
        }
    }

    fn connect(net: &Net, sk: &Socket<Self>, address: &[u8]) -> Result {
        let address = Address::parse(address).ok_or(EINVAL)?;
        if address.tunnel_id.get() == 0 {
            return Err(EINVAL);
        }
        if !net.may_administer() {
            return Err(EPERM);
        }
        let namespace = Namespace::of(net).ok_or(ENODEV)?;
        let mut made = None;
        let tunnel = match namespace.tunnel(address.tunnel_id) {
            Some(tunnel) => tunnel,
            None => made.insert(address.create_tunnel(net, namespace)?).clone(),
        };
        let joined = join(namespace, sk, &tunnel, &address);
        match (joined, made) {
            (Ok(()), Some(made)) => namespace.announce_tunnel(&made, Change::Created, Cause::Other),
            (Err(_), Some(made)) => namespace.delete_tunnel(&made, Cause::Unannounced),
            (_, None) => (),
        }
        joined
    }

    fn closed(net: &Net, session: &Arc<Session>) {
        if let Some(namespace) = Namespace::of(net) {
            namespace.delete_session(session, Cause::Other);
        }
    }

    fn name(session: &Arc<Session>) -> Result<Name> {
        Ok(Name::of(session))
    }

    fn send(
        sk: &Socket<Self>,
        session: &Arc<Session>,
        message: &mut Message,
        len: usize,
    ) -> Result {
        if len > SEND_MAX {
            return Err(EMSGSIZE);
        }
        let mut skb = sk.packet(session.headroom(), &ADDRESS_AND_CONTROL, message, len)?;
        // IP takes the socket that a packet is charged to for an internet socket, and looks into it.
        skb.orphan();
        // Like a wire, it does not tell what became of the frame; the counters do.
        let _ = session.transmit(skb, &bottom_half::Guard::new());
        Ok(())
    }

    fn set_option(net: &Net, session: &Arc<Session>, option: i32, value: i32) -> Result {
        let switch = || match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EINVAL),
        };
        match option {
            // What it chose is not there any more.
            uapi::DEBUG => (),
            _ if session.is_management() => return Err(ENOPROTOOPT),
            uapi::RECVSEQ => session.set_recv_seq(switch()?),
            uapi::SENDSEQ => session.set_send_seq(switch()?),
            uapi::LNSMODE => session.set_lns_mode(switch()?),
            uapi::REORDERTO => {
                session.set_reorder_timeout_ms(value.try_into().map_err(|_| EINVAL)?)
            }
            _ => return Err(ENOPROTOOPT),
        }
        if option != uapi::DEBUG {
            if let Some(namespace) = Namespace::of(net) {
                namespace.announce_session(session, Change::Modified, Cause::Other);
            }
        }
        Ok(())
    }

    fn option(session: &Arc<Session>, option: i32) -> Result<i32> {
        match option {
            uapi::DEBUG => Ok(0),
            _ if session.is_management() => Err(ENOPROTOOPT),
            uapi::RECVSEQ => Ok(session.recv_seq().into()),
            uapi::SENDSEQ => Ok(session.send_seq().into()),
            uapi::LNSMODE => Ok(session.lns_mode().into()),
            uapi::REORDERTO => Ok(i32::try_from(session.reorder_timeout_ms()).unwrap_or(i32::MAX)),
            _ => Err(ENOPROTOOPT),
        }
    }

    fn ioctl(net: &Net, session: Option<&Arc<Session>>, request: u32, arg: UserPtr) -> Result {
        let of_session = || match session {
            None => Err(ENOTCONN),
            Some(session) if session.is_management() => Err(ENOSYS),
            Some(_) => Ok(()),
        };
        match request {
            // There is nothing to ask for and nothing to choose; but pppd does both.
            uapi::GMRU | uapi::GFLAGS => {
                of_session()?;
                UserSlice::new(arg, size_of::<i32>()).writer().write(&0i32)
            }
            uapi::SMRU | uapi::SFLAGS => {
                of_session()?;
                uaccess::check_range(arg, size_of::<i32>())
            }
            uapi::GL2TPSTATS => statistics(net, session.ok_or(ENOTCONN)?, arg),
            _ => Err(ENOIOCTLCMD),
        }
    }

    #[inline]
    fn start_xmit(session: &Arc<Session>, mut skb: Skb) {
        // A bridged channel may bring what a device has put together, which is not taken apart here.
        if skb.is_gso() {
            session.count_tx_error();
            return;
        }
        // Room for everything at once, so that a frame that lacks it is copied once.
        let reserve = headroom(session);
        let Ok(head) = skb.prepend(reserve, ADDRESS_AND_CONTROL.len()) else {
            session.count_tx_error();
            return;
        };
        for (to, from) in head.iter_mut().zip(ADDRESS_AND_CONTROL) {
            *to = from;
        }
        let _ = session.transmit(skb, &bottom_half::Guard::new());
    }

    fn dropped(session: &Arc<Session>) {
        session.count_tx_error();
    }
}

/// Bytes to be put in front of a frame.
fn headroom(session: &Session) -> usize {
    session.headroom().saturating_add(ADDRESS_AND_CONTROL.len())
}

/// Connects a socket to the session of `tunnel` that `address` names, which is made if there is none.
fn join(
    namespace: ArcBorrow<'_, Namespace>,
    sk: &Socket<PppoL2tp>,
    tunnel: &Arc<Tunnel>,
    address: &Address,
) -> Result {
    let sk = sk.lock();
    if sk.is_connected() {
        return Err(EBUSY);
    }
    if tunnel.learn_peer_tunnel_id(address.peer_tunnel_id) {
        namespace.announce_tunnel(tunnel, Change::Modified, Cause::Other);
    }
    let mut made = None;
    let session = match namespace.session(tunnel, address.session_id) {
        Some(session) => session,
        None => made
            .insert(create(&namespace, tunnel, &address.session_config())?)
            .clone(),
    };
    let channel = match session.pseudowire() {
        Pseudowire::Ppp(_) if session.is_management() => None,
        Pseudowire::Ppp(_) => Some(ppp_channel::Config {
            mtu: mtu(&session),
            headroom: headroom(&session),
        }),
        Pseudowire::Eth(_) => return Err(EPROTOTYPE),
    };
    let connected = sk.connect(session, channel.as_ref());
    if let Some(made) = made {
        // Somebody else may have connected to it, as soon as it was registered.
        if connected.is_err_and(|e| e != EEXIST) {
            namespace.delete_session(&made, Cause::Unannounced);
        } else {
            namespace.announce_session(&made, Change::Created, Cause::Other);
        }
    }
    connected
}

/// What is left of the path's MTU when all headers are paid for. It does not follow later changes of
/// the path. Takes the lock of the tunnel's socket.
fn mtu(session: &Session) -> u32 {
    let tunnel = session.tunnel();
    let overhead = session
        .header_len()
        .saturating_add(tunnel.udp_header_len())
        .saturating_add(ADDRESS_AND_CONTROL.len())
        .saturating_add(PROTOCOL_LEN);
    let overhead = u32::try_from(overhead)
        .unwrap_or(u32::MAX)
        .saturating_add(tunnel.sock().ip_overhead());
    tunnel
        .sock()
        .path_mtu()
        .and_then(|path| path.checked_sub(overhead))
        .filter(|&mtu| mtu != 0)
        .unwrap_or_else(|| USUAL_MTU.saturating_sub(overhead))
}

// Addresses.

/// Where the fields of the four address structures are. Their lengths tell them apart.
struct Layout {
    len: usize,
    version: Version,
    /// Whether the internet address in it is an IPv6 one.
    v6: bool,
    /// The internet address.
    addr: usize,
    /// Four ids of two or four bytes: tunnel and session, ours and the peer's.
    ids: usize,
}

const FAMILY: usize = 0;
const PROTOCOL: usize = 2;
const PID: usize = 6;
const FD: usize = 10;

static LAYOUTS: [Layout; 4] = [
    // struct sockaddr_pppol2tp
    Layout {
        len: 38,
        version: Version::V2,
        v6: false,
        addr: 14,
        ids: 30,
    },
    // struct sockaddr_pppol2tpin6
    Layout {
        len: 50,
        version: Version::V2,
        v6: true,
        addr: 22,
        ids: 14,
    },
    // struct sockaddr_pppol2tpv3
    Layout {
        len: 46,
        version: Version::V3,
        v6: false,
        addr: 14,
        ids: 30,
    },
    // struct sockaddr_pppol2tpv3in6
    Layout {
        len: 58,
        version: Version::V3,
        v6: true,
        addr: 30,
        ids: 14,
    },
];

impl Layout {
    /// Where id number `i` is.
    fn id_at(&self, i: usize) -> usize {
        let width = match self.version {
            Version::V2 => 2,
            Version::V3 => 4,
        };
        self.ids.wrapping_add(i.wrapping_mul(width))
    }

    fn id(&self, bytes: &[u8], i: usize) -> Option<u32> {
        let at = self.id_at(i);
        match self.version {
            Version::V2 => read(bytes, at).map(u16::from_ne_bytes).map(u32::from),
            Version::V3 => read(bytes, at).map(u32::from_ne_bytes),
        }
    }
}

/// An address to connect to.
struct Address {
    /// Of a tunnel that is to be made.
    version: Version,
    /// The UDP socket of a tunnel that is to be made.
    fd: i32,
    tunnel_id: TunnelId,
    session_id: SessionId,
    peer_tunnel_id: TunnelId,
    peer_session_id: SessionId,
}

impl Address {
    /// Reads an address. Family, process and internet address do not matter: the tunnel's socket has
    /// its own. [`None`] if it is not one of ours.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let layout = LAYOUTS.iter().find(|layout| layout.len == bytes.len())?;
        if read(bytes, PROTOCOL).map(u32::from_ne_bytes)? != uapi::PX_PROTO_OL2TP {
            return None;
        }
        Some(Self {
            version: layout.version,
            fd: read(bytes, FD).map(i32::from_ne_bytes)?,
            tunnel_id: TunnelId::new(layout.id(bytes, 0)?),
            session_id: SessionId::new(layout.id(bytes, 1)?),
            peer_tunnel_id: TunnelId::new(layout.id(bytes, 2)?),
            peer_session_id: SessionId::new(layout.id(bytes, 3)?),
        })
    }

    /// Makes the tunnel, if that is what is asked for.
    fn create_tunnel(&self, net: &Net, namespace: ArcBorrow<'_, Namespace>) -> Result<Arc<Tunnel>> {
        if self.session_id.get() != 0 || self.peer_session_id.get() != 0 {
            return Err(ENOENT);
        }
        if self.fd < 0 {
            return Err(EBADF);
        }
        let config = TunnelConfig {
            version: self.version,
            encap: EncapType::Udp,
            tunnel_id: self.tunnel_id,
            peer_tunnel_id: self.peer_tunnel_id,
        };
        Ok(namespace.create_tunnel(net, &config, &SocketConfig::Fd(self.fd))?)
    }

    /// A session without any extras.
    fn session_config(&self) -> SessionConfig {
        SessionConfig {
            session_id: self.session_id,
            peer_session_id: self.peer_session_id,
            pw_type: PwType::Ppp,
            l2spec: L2SpecType::None,
            cookie: Cookie::EMPTY,
            peer_cookie: Cookie::EMPTY,
            send_seq: false,
            recv_seq: false,
            lns_mode: false,
            reorder_timeout: 0,
        }
    }
}

/// The longest of [`LAYOUTS`].
const NAME_MAX: usize = 58;

/// The name of a socket: ids, and the peer's internet address. Local and remote name are the same.
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    fn of(session: &Session) -> Self {
        let tunnel = session.tunnel();
        let sock = tunnel.sock();
        let mut name = Self {
            bytes: [0; NAME_MAX],
            len: 0,
        };
        let Some(layout) = LAYOUTS
            .iter()
            .find(|layout| layout.version == tunnel.version() && layout.v6 == sock.is_inet6())
        else {
            return name;
        };
        name.len = layout.len;
        // CAST: Small numbers.
        name.put(FAMILY, (uapi::AF_PPPOX as u16).to_ne_bytes());
        name.put(PROTOCOL, uapi::PX_PROTO_OL2TP.to_ne_bytes());
        if let Pseudowire::Ppp(port) = session.pseudowire() {
            name.put(PID, port.owner.to_ne_bytes());
        }
        name.put(FD, tunnel.fd().to_ne_bytes());
        let ids = [
            tunnel.tunnel_id().get(),
            session.session_id().get(),
            tunnel.peer_tunnel_id().get(),
            session.peer_session_id().get(),
        ];
        for (i, id) in (0..).zip(ids) {
            match layout.version {
                // CAST: Of a v2 id, 16 bits count.
                Version::V2 => name.put(layout.id_at(i), (id as u16).to_ne_bytes()),
                Version::V3 => name.put(layout.id_at(i), id.to_ne_bytes()),
            }
        }
        let port = match tunnel.encap() {
            EncapType::Udp => sock.ports().1,
            EncapType::Ip => 0,
        };
        // struct sockaddr_in: family, port, address; sockaddr_in6 has a flow label before that.
        let at = layout.addr;
        name.put(at.wrapping_add(2), port.to_be_bytes());
        if layout.v6 {
            name.put(at, (uapi::AF_INET6 as u16).to_ne_bytes());
            name.put(at.wrapping_add(8), sock.endpoints_v6().1);
        } else {
            name.put(at, (uapi::AF_INET as u16).to_ne_bytes());
            if let Endpoints::V4 { daddr, .. } = sock.endpoints() {
                name.put(at.wrapping_add(4), daddr);
            }
        }
        name
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        let room = self.bytes.get_mut(at..).unwrap_or(&mut []);
        for (to, from) in room.iter_mut().zip(value) {
            *to = from;
        }
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

// Statistics.

/// Length of `struct pppol2tp_ioc_stats`.
const STATS_LEN: usize = 72;

/// `PPPIOCGL2TPSTATS`. A socket that manages the tunnel asks for the tunnel's, or for those of one
/// of its sessions by its id; another one gets those of its session.
fn statistics(net: &Net, session: &Arc<Session>, arg: UserPtr) -> Result {
    let tunnel = session.tunnel();
    let user = UserSlice::new(arg, STATS_LEN);
    // CAST: The structure has no room for more.
    let mut session_id = session.session_id().get() as u16;
    let stats = if session.is_management() {
        let mut asked = [0; STATS_LEN];
        user.reader().read_slice(&mut asked)?;
        session_id = read(&asked, 2).map(u16::from_ne_bytes).ok_or(EFAULT)?;
        match session_id {
            0 => tunnel.stats(),
            id => Namespace::of(net)
                .and_then(|namespace| namespace.session(tunnel, SessionId::new(id.into())))
                .filter(|session| matches!(session.pseudowire(), Pseudowire::Ppp(_)))
                .ok_or(EBADR)?
                .stats(),
        }
    } else {
        session.stats()
    };
    // CAST: As above.
    let tunnel_id = tunnel.tunnel_id().get() as u16;
    let using_ipsec = u32::from(tunnel.sock().has_xfrm_policy());
    let mut writer = UserSlice::new(arg, STATS_LEN).writer();
    writer.write(&tunnel_id)?;
    writer.write(&session_id)?;
    writer.write(&using_ipsec)?;
    for counter in [
        stats.tx_packets,
        stats.tx_bytes,
        stats.tx_errors,
        stats.rx_packets,
        stats.rx_bytes,
        stats.rx_seq_discards,
        stats.rx_oos_packets,
        stats.rx_errors,
    ] {
        writer.write(&counter)?;
    }
    Ok(())
}

// /proc/net/pppol2tp.

#[cfg(CONFIG_PROC_FS)]
mod proc_file {
    //! `/proc/net/pppol2tp`: tunnels and sessions of version 2, in the format of long ago.

    use super::*;
    use crate::{
        listing::{
            show_counters,
            show_interface,
            show_seq,
            Format, //
        }, //
    };
    use kernel::seq_file::{
        seq_print,
        SeqFile, //
    };

    /// What IPv6 sockets have for an IPv4 address.
    const LOOPBACK4_IPV6: [u8; 4] = [127, 0, 0, 6];

    /// The file.
    pub struct Listing;

    impl Format for Listing {
        const NAME: &'static CStr = c"pppol2tp";

        fn wants(tunnel: &Tunnel) -> bool {
            tunnel.version() == Version::V2
        }

        fn show_header(out: &SeqFile) {
            seq_print!(
                out,
                "PPPoL2TP driver info, V2.0\n\
                 TUNNEL name, user-data-ok session-count\n \
                 debug tx-pkts/bytes/errs rx-pkts/bytes/errs\n  \
                 SESSION name, addr/port src-tid/sid dest-tid/sid state user-data-ok\n   \
                 mtu/mru/rcvseq/sendseq/lns debug reorderto\n   \
                 nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs\n"
            );
        }

        fn show_tunnel(out: &SeqFile, tunnel: &Tunnel, sessions: usize) {
            let id = tunnel.tunnel_id().get();
            seq_print!(out, "\nTUNNEL 'tunl {id}', Y {sessions}\n 00000000");
            show_counters(out, "", "", &tunnel.stats());
        }

        fn show_session(out: &SeqFile, session: &Session) {
            let tunnel = session.tunnel();
            let (tunnel_id, session_id) = (tunnel.tunnel_id().get(), session.session_id().get());
            let address = match tunnel.sock().endpoints() {
                Endpoints::V4 { saddr, .. } => saddr,
                Endpoints::V6 { .. } => LOOPBACK4_IPV6,
            };
            let state = match session.pseudowire() {
                Pseudowire::Ppp(port) => port.socket.get(&rcu::read_lock()).map(Socket::state),
                Pseudowire::Eth(_) => None,
            };
            seq_print!(
                out,
                "  SESSION 'sess {tunnel_id}/{session_id}' {:08X}/{} {tunnel_id:04X}/{session_id:04X} \
                 -> {:04X}/{:04X} {} {}\n",
                u32::from_be_bytes(address),
                tunnel.sock().ports().0,
                tunnel.peer_tunnel_id().get(),
                session.peer_session_id().get(),
                state.unwrap_or(0),
                if state.is_some() { 'Y' } else { 'N' }
            );
            let (recv, send, mode) = show_seq(session);
            seq_print!(
                out,
                "   0/0/{recv}/{send}/{mode} 00000000 {}\n",
                session.reorder_timeout_ms()
            );
            let (ns, nr) = session.numbers();
            seq_print!(out, "   {nr}/{ns}");
            show_counters(out, "", "", &session.stats());
            show_interface(out, session);
        }
    }
}

/// What a namespace has for us.
pub struct Files {
    #[cfg(CONFIG_PROC_FS)]
    _listing: crate::abstractions::net::proc_net::File<proc_file::Listing>,
}

static FILES: Slot<Files> = Slot::new();

impl PerNet for Files {
    fn slot() -> &'static Slot<Self> {
        &FILES
    }

    fn init(net: &Net) -> Result<Arc<Self>> {
        #[cfg(not(CONFIG_PROC_FS))]
        let _ = net;
        Ok(Arc::new(
            Self {
                #[cfg(CONFIG_PROC_FS)]
                _listing: crate::abstractions::net::proc_net::File::new(net)?,
            },
            GFP_KERNEL,
        )?)
    }

    fn pre_exit(_this: ArcBorrow<'_, Self>) {}

    fn exit(this: Arc<Self>) {
        // Nobody else has a reference: the file goes.
        drop(this);
    }
}

/// The registration of what user space sees. To be held by the module, and dropped before the
/// namespaces are.
pub struct Registration {
    sockets: pppox::Registration<PppoL2tp>,
    _files: net_namespace::Registration<Files>,
}

impl Registration {
    /// Registers the sockets, which can be opened after [`Registration::open`], and the files.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there are such sockets already; `ENOMEM`.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let sockets = pppox::Registration::register(module).map_err(|e| {
            if e == EALREADY {
                EEXIST
            } else {
                e
            }
        })?;
        Ok(Self {
            sockets,
            _files: net_namespace::Registration::register(module)?,
        })
    }

    /// Lets sockets be opened: see [`pppox::Registration::open`].
    pub fn open(&self) {
        self.sockets.open();
    }
}
