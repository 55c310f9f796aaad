// SPDX-License-Identifier: GPL-2.0

//! L2TP over IPv6: what `ip.rs` does not share.

use crate::{
    abstractions::net::{
        datagram::{
            flags,
            Message, //
        },
        datagram6::Destination,
        domain::Domain,
        net_namespace::{
            Net,
            Slot, //
        },
        proto::Locked,
        sock_table::Key,
        socket::KernelSocket, //
    },
    error::Outcome,
    ip::{
        self,
        is_multicast,
        Family,
        L2tpIp,
        Local,
        Registration,
        SocketAddress,
        SocketOf,
        Sockets,
        AF_UNSPEC,
        CONTROL_PREFIX, //
    },
    prelude::*,
    tunnel::TunnelConfig,
    wire::outer::{
        read,
        Ipv6Header, //
    }, //
};

/// L2TP over IPv6.
pub struct V6;

static SLOT: Slot<Sockets<V6>> = Slot::new();

/// Whether an address is good for one link only: `fe80::/10`, or a group of such a scope.
fn is_link_local([a, b, ..]: [u8; 16]) -> bool {
    match a {
        0xfe => b & 0xc0 == 0x80,
        0xff => b & 0x0f == 2,
        _ => false,
    }
}

/// The IPv4 address in `::ffff:0:0/96`.
fn mapped(addr: [u8; 16]) -> Option<[u8; 4]> {
    let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4 @ ..] = addr else {
        return None;
    };
    Some(v4)
}

impl V6 {
    /// Writes a `struct sockaddr_l2tpip6`; `flow` is as on the wire.
    fn emit(addr: [u8; 16], flow: [u8; 4], scope: u32, conn_id: u32) -> [u8; 32] {
        let mut out = [0; 32];
        put(&mut out, 0, Domain::Inet6.family().to_ne_bytes());
        put(&mut out, 4, flow);
        put(&mut out, 8, addr);
        put(&mut out, 24, scope.to_ne_bytes());
        put(&mut out, 28, conn_id.to_ne_bytes());
        out
    }
}

/// Stores `bytes` at a constant place of an array that is known to be long enough.
fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(out) = out.get_mut(at..).and_then(|out| out.first_chunk_mut()) {
        *out = bytes;
    }
}

/// Where to send to: reads the start of a `struct sockaddr_in6`, which may be cut off after the
/// address, where the first version of it ended (RFC 2133).
fn destination(name: &[u8]) -> Result<Destination> {
    let addr = read(name, 8).ok_or(EINVAL)?;
    let family = read(name, 0).map(u16::from_ne_bytes).ok_or(EINVAL)?;
    if family != Domain::Inet6.family() && family != AF_UNSPEC {
        return Err(EAFNOSUPPORT);
    }
    let scope = match read(name, 24) {
        Some(scope) if is_link_local(addr) => u32::from_ne_bytes(scope),
        _ => 0,
    };
    Ok(Destination {
        addr,
        flow: read(name, 4).ok_or(EINVAL)?,
        scope,
    })
}

impl Family for V6 {
    type Addr = [u8; 16];
    type Name = [u8; 32];

    const DOMAIN: Domain = Domain::Inet6;
    const NAME: &'static CStr = c"L2TP/IPv6";
    const ANY: [u8; 16] = [0; 16];

    fn slot() -> &'static Slot<Sockets<Self>> {
        &SLOT
    }

    #[inline]
    fn key(peer: [u8; 16]) -> Key {
        peer
    }

    #[inline]
    fn addresses(header: &[u8]) -> Option<([u8; 16], [u8; 16])> {
        Ipv6Header::addresses(header)
    }

    #[inline]
    fn filter(sk: &SocketOf<Self>) -> ([u8; 16], [u8; 16]) {
        sk.filter_v6()
    }

    fn parse(address: &[u8]) -> Option<SocketAddress<[u8; 16]>> {
        let address: &[u8; 32] = address.first_chunk()?;
        Some(SocketAddress {
            family: u16::from_ne_bytes(read(address, 0)?),
            addr: read(address, 8)?,
            scope: u32::from_ne_bytes(read(address, 24)?),
            conn_id: u32::from_ne_bytes(read(address, 28)?),
        })
    }

    fn check_bind(address: &SocketAddress<[u8; 16]>) -> Result {
        let [first, ..] = address.addr;
        if first == 0xff || mapped(address.addr).is_some() {
            return Err(EADDRNOTAVAIL);
        }
        Ok(())
    }

    fn local(
        net: &Net,
        sk: &Locked<'_, L2tpIp<Self>>,
        address: &SocketAddress<[u8; 16]>,
    ) -> Result<Local<[u8; 16]>> {
        let addr = address.addr;
        let mut device = sk.bound_device();
        if addr != Self::ANY {
            let mut scope = 0;
            if is_link_local(addr) {
                if address.scope != 0 {
                    device = address.scope;
                }
                if device == 0 {
                    return Err(EINVAL);
                }
                scope = device;
            }
            if !net.has_address_v6(addr, scope)? {
                return Err(EADDRNOTAVAIL);
            }
        }
        Ok(Local {
            receive: addr,
            source: addr,
            device,
        })
    }

    fn set_local(sk: &Locked<'_, L2tpIp<Self>>, local: &Local<[u8; 16]>) {
        // There is no IPv4 equivalent of an address, only of none.
        let v4 = if local.receive == Self::ANY {
            [0; 4]
        } else {
            [127, 0, 0, 6]
        };
        sk.set_local_v4(v4, v4);
        sk.set_local_v6(local.receive, local.device);
    }

    fn check_connect(address: &SocketAddress<[u8; 16]>) -> Result {
        let [first, ..] = address.addr;
        if address.family != Self::DOMAIN.family()
            || first == 0xff
            || mapped(address.addr).is_some_and(is_multicast)
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn send(net: &Net, sk: &SocketOf<Self>, message: &mut Message, len: usize) -> Result {
        if message.flags() & flags::OOB != 0 {
            return Err(EOPNOTSUPP);
        }
        let to = match message.name() {
            Some(name) => Some(destination(name)?),
            None => None,
        };
        // CAST: Four bytes.
        sk.send_v6(net, to.as_ref(), CONTROL_PREFIX.len() as u8, message, len)
    }

    fn sender(header: &[u8], ingress: u32) -> Option<[u8; 32]> {
        let addr = read(header, 8)?;
        let scope = if is_link_local(addr) { ingress } else { 0 };
        Some(Self::emit(addr, [0; 4], scope, 0))
    }

    fn name(sk: &SocketOf<Self>, peer: bool) -> [u8; 32] {
        let data = sk.data();
        let (local, remote) = sk.filter_v6();
        let (addr, flow, conn_id) = if peer {
            let flow = sk.flow_label().unwrap_or_default();
            (remote, flow, data.peer_conn_id())
        } else if local == Self::ANY {
            (sk.source_v6(), [0; 4], data.conn_id())
        } else {
            (local, [0; 4], data.conn_id())
        };
        let scope = if is_link_local(addr) {
            sk.bound_device()
        } else {
            0
        };
        Self::emit(addr, flow, scope, conn_id)
    }
}

/// A connected socket of the kernel's own for L2TP over IPv6.
pub fn kernel_socket(
    net: &Net,
    config: &TunnelConfig,
    local: [u8; 16],
    peer: [u8; 16],
) -> Outcome<KernelSocket> {
    ip::kernel_socket(
        net,
        Domain::Inet6,
        &V6::emit(local, [0; 4], 0, config.tunnel_id.get()),
        &V6::emit(peer, [0; 4], 0, config.peer_tunnel_id.get()),
    )
}

/// Registers L2TP over IPv6. See [`Registration::register`].
pub fn register(module: &'static ThisModule) -> Result<Registration<V6>> {
    Registration::register(module)
}
