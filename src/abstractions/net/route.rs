// SPDX-License-Identifier: GPL-2.0

//! Routes of connected sockets, and output through them, without the socket lock.
//!
//! C headers: [`include/net/route.h`](srctree/include/net/route.h),
//! [`include/net/ip6_route.h`](srctree/include/net/ip6_route.h)

use super::{
    gso,
    skbuff::Skb,
    sock::{
        Endpoints,
        Sock, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    error::from_err_ptr,
    sync::rcu, //
};

/// More than this is not reserved: offsets in a packet are 16 bits wide, and tunnels nest. As
/// `ip_tunnel_adj_headroom` has it. Lower layers make room themselves where there is none.
const HEADROOM_MAX: usize = 512;

/// The most that the length in an IP header can be.
const PACKET_MAX: usize = 65535;

/// An IPv4 header without options.
const IPV4_HLEN: usize = size_of::<bindings::iphdr>();

/// The longest IPv4 header. Since the socket's owner may set options at any moment, other ones, too,
/// there is always room for it if there are any.
const IPV4_HLEN_MAX: usize = 60;

/// An IPv6 header. IPv6 makes room for extension headers itself.
const IPV6_HLEN: usize = size_of::<bindings::ipv6hdr>();

/// What to reserve for a link layer when it is not known: Ethernet with two VLAN tags fits.
const LL_HEADROOM: usize = 32;

// CAST: One.
const NET_XMIT_DROP: i32 = bindings::NET_XMIT_DROP as i32;

/// The route of a socket's packets.
///
/// # Invariants
///
/// `dst` is valid for the RCU read section `'g`, and of the family of `ends`.
pub struct Route<'g> {
    dst: NonNull<bindings::dst_entry>,
    ends: Endpoints,
    _guard: PhantomData<&'g rcu::Guard>,
}

impl Route<'_> {
    /// Makes the packet take this route. It must be sent within the same RCU read section.
    pub(super) fn attach(&self, skb: &Skb) {
        // SAFETY: The packet is valid and ours; the route is valid by the type invariant.
        unsafe { bindings::skb_dst_set_noref(skb.as_ptr(), self.dst.as_ptr()) }
    }

    /// Whether the route leads out by the device that the packet is being sent by already.
    #[inline]
    pub fn is_loop_for(&self, skb: &Skb) -> bool {
        // SAFETY: By the type invariants; the packet is not in a list that uses the place of its
        // device. The devices are only compared.
        unsafe {
            let dev = (&raw const (*self.dst.as_ptr()).__bindgen_anon_1.dev).read_volatile();
            let skb = &raw const (*skb.as_ptr()).__bindgen_anon_1.__bindgen_anon_1;
            ptr::eq(dev, (*skb).__bindgen_anon_1.dev)
        }
    }

    /// Whether the packets are broadcast.
    pub fn is_broadcast(&self) -> bool {
        match self.ends {
            Endpoints::V4 { .. } => {
                let rt = self.dst.as_ptr().cast::<bindings::rtable>();
                // SAFETY: By the type invariant this is an IPv4 route, of which a `dst_entry` is the
                // first field.
                let flags = unsafe { (&raw const (*rt).rt_flags).read_volatile() };
                flags & bindings::RTCF_BROADCAST != 0
            }
            Endpoints::V6 { .. } => false,
        }
    }

    /// The largest IP packet that the path takes, in bytes.
    pub fn mtu(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::dst_mtu(self.dst.as_ptr()) }
    }

    /// Bytes that the layers below the transport header add in the ordinary case: an IP header and
    /// one for the link layer.
    #[inline]
    pub fn headroom(&self) -> usize {
        let ip = match self.ends {
            Endpoints::V4 { .. } => IPV4_HLEN,
            Endpoints::V6 { .. } => IPV6_HLEN,
        };
        ip.wrapping_add(self.link_headroom()).min(HEADROOM_MAX)
    }

    /// How many bytes fit in an IP packet behind the header, which has no options.
    #[inline]
    pub fn payload_max(&self) -> usize {
        match self.ends {
            Endpoints::V4 { .. } => PACKET_MAX - IPV4_HLEN,
            // The header does not count.
            Endpoints::V6 { .. } => PACKET_MAX,
        }
    }

    #[inline]
    fn link_headroom(&self) -> usize {
        // SAFETY: By the type invariant; a valid route has a device.
        // CAST: Headers are short.
        unsafe { bindings::dst_headroom(self.dst.as_ptr()) as usize }
    }
}

impl Sock {
    /// The route to `ends` in the socket's cache if it is still good: of the family of `ends`, and
    /// valid for the RCU read section. Any context.
    #[inline]
    fn cached_route(
        &self,
        ends: &Endpoints,
        _guard: &rcu::Guard,
    ) -> Option<NonNull<bindings::dst_entry>> {
        let (family, cookie) = match ends {
            Endpoints::V4 { .. } => (bindings::AF_INET, 0),
            // SAFETY: A socket with such addresses has an `ipv6_pinfo`.
            Endpoints::V6 { .. } => (bindings::AF_INET6, unsafe {
                (&raw const (*self.as_inet6()).dst_cookie).read_volatile()
            }),
        };
        // SAFETY: The socket is valid. This is `rcu_dereference`, as the guard shows.
        let dst = unsafe { (&raw const (*self.as_ptr()).sk_dst_cache).read_volatile() };
        let dst = NonNull::new(dst)?;
        // Whoever connects the socket to an address of the other family changes addresses and cache
        // one after the other.
        // SAFETY: The guard keeps what is in the cache valid; its operations are static.
        if u32::from(unsafe { (*(*dst.as_ptr()).ops).family }) != family {
            return None;
        }
        // SAFETY: As above.
        let dst = unsafe { bindings::dst_check(dst.as_ptr(), cookie) };
        // A route in a socket's cache is freed a grace period after it has left it.
        NonNull::new(dst)
    }

    /// The route to the socket's peer: from its cache, which is read without a lock, or looked up
    /// and then put there.
    ///
    /// # Errors
    ///
    /// `EDESTADDRREQ` if the socket is connected to no address, and what the routing tables say:
    /// `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` and so on.
    #[inline]
    pub fn route<'g>(&self, guard: &'g rcu::Guard) -> Result<Route<'g>> {
        let ends = self.endpoints();
        let dst = match self.cached_route(&ends, guard) {
            Some(dst) => dst,
            None => self.find_route(&ends, guard)?,
        };
        // INVARIANT: By the two functions.
        Ok(Route {
            dst,
            ends,
            _guard: PhantomData,
        })
    }

    /// The MTU of the path that the socket's packets take, if it is known where they go. Any context.
    pub fn path_mtu(&self) -> Option<u32> {
        if !self.is_connected() {
            return None;
        }
        let guard = rcu::read_lock();
        self.route(&guard).ok().map(|route| route.mtu())
    }

    /// Tells the routing table what the MTU of the path is that the socket's packets take, which may
    /// depend on the device, mark and owner of the socket; and says whether it did. Any context.
    pub(super) fn learn_mtu(&self, mtu: u32, guard: &rcu::Guard) -> bool {
        // SAFETY: Valid by the type invariants.
        if !unsafe { bindings::sk_accept_pmtu(self.as_ptr()) } {
            return false;
        }
        let Ok(route) = self.route(guard) else {
            return false;
        };
        let dst = route.dst.as_ptr();
        // SAFETY: The route is valid for the read section, and its operations are static; they take
        // the addresses from the socket, which has those of its family.
        unsafe {
            if let Some(update) = (*(*dst).ops).update_pmtu {
                update(dst, self.as_ptr(), ptr::null_mut(), mtu, false);
            }
        }
        true
    }

    /// Tells the routing table of a better router for the socket's packets, which go over IPv4, and says
    /// whether it did.
    ///
    /// # Safety
    ///
    /// `skb` must be an ICMP message that says so, with its transport header where it begins and its
    /// data at the IP header that it quotes.
    pub(super) unsafe fn learn_redirect(
        &self,
        skb: *mut bindings::sk_buff,
        guard: &rcu::Guard,
    ) -> bool {
        let Ok(route) = self.route(guard) else {
            return false;
        };
        let dst = route.dst.as_ptr();
        // SAFETY: As for `learn_mtu`; by the safety requirement the message is one.
        unsafe {
            if let Some(redirect) = (*(*dst).ops).redirect {
                redirect(dst, self.as_ptr(), skb);
            }
        }
        true
    }

    /// Bytes that are likely to be added below the transport header.
    pub fn headroom(&self) -> usize {
        let guard = rcu::read_lock();
        let ends = self.endpoints();
        match self.cached_route(&ends, &guard) {
            // INVARIANT: By `cached_route`.
            Some(dst) => Route {
                dst,
                ends,
                _guard: PhantomData,
            }
            .headroom(),
            None => IPV6_HLEN.wrapping_add(LL_HEADROOM),
        }
    }

    /// Looks up the route to `ends`, which is of their family, and valid for the RCU read section.
    #[cold]
    fn find_route(
        &self,
        ends: &Endpoints,
        _guard: &rcu::Guard,
    ) -> Result<NonNull<bindings::dst_entry>> {
        let ports = self.ports();
        // SAFETY: The socket is valid, and used only while its namespace is alive: a tunnel sends
        // under RCU, and is told to stop before the namespace exits, with a grace period between.
        let net = unsafe { bindings::sock_net(self.as_ptr()) };
        let dst = match *ends {
            Endpoints::V4 {
                daddr: [0, 0, 0, 0],
                ..
            } => return Err(EDESTADDRREQ),
            Endpoints::V6 { daddr, .. } if daddr == [0; 16] => return Err(EDESTADDRREQ),
            Endpoints::V4 { .. } => {
                let mut fl4 = bindings::flowi4::default();
                // SAFETY: The socket is an internet one, `fl4` is ours.
                let rt = unsafe {
                    bindings::inet_sk_init_flowi4(self.as_ptr(), &mut fl4);
                    from_err_ptr(bindings::ip_route_output_flow(net, &mut fl4, self.as_ptr()))?
                };
                // SAFETY: A `dst_entry` is the first field of an `rtable`.
                let dst = unsafe { &raw mut (*rt).dst };
                // SAFETY: We own a reference, which the cache takes over.
                unsafe { bindings::sk_dst_set(self.as_ptr(), dst) };
                dst
            }
            Endpoints::V6 { saddr, daddr } => {
                let mut fl6 = self.flow6(saddr, daddr);
                let mut last = bindings::in6_addr::default();
                // SAFETY: The socket is an `AF_INET6` one; we are in an RCU read section, which
                // keeps its options valid.
                let dst = unsafe {
                    let opt = (&raw const (*self.as_inet6()).opt).read_volatile();
                    let last = bindings::fl6_update_dst(&mut fl6, opt, &mut last);
                    from_err_ptr(bindings::ip6_dst_lookup_flow(
                        net,
                        self.as_ptr(),
                        &mut fl6,
                        last,
                    ))?
                };
                // SAFETY: We own a reference to `dst`, which the cache takes over.
                unsafe { bindings::ip6_dst_store(self.as_ptr(), dst) };
                dst
            }
        };
        // If the owner has connected the socket anew meanwhile, what we have put in the cache may
        // have replaced the new route.
        if self.endpoints() != *ends || self.ports() != ports {
            // SAFETY: The socket is valid; the cache gives up its reference.
            unsafe { bindings::sk_dst_set(self.as_ptr(), ptr::null_mut()) };
        }
        // The cache holds a reference, or held it a moment ago: what leaves it is freed a grace period
        // later.
        NonNull::new(dst).ok_or(ENETUNREACH)
    }

    /// What the socket's packets are marked with.
    #[inline]
    pub(super) fn mark(&self) -> u32 {
        // SAFETY: Valid by the type invariants.
        unsafe { (&raw const (*self.as_ptr()).sk_mark).read_volatile() }
    }

    /// Whose socket it is.
    #[inline]
    pub(super) fn uid(&self) -> bindings::kuid_t {
        // SAFETY: Valid by the type invariants.
        unsafe { (&raw const (*self.as_ptr()).sk_uid).read_volatile() }
    }

    /// What the socket says about its IPv6 packets. The socket must be an `AF_INET6` one.
    fn flow6(&self, saddr: [u8; 16], daddr: [u8; 16]) -> bindings::flowi6 {
        let mut fl6 = bindings::flowi6::default();
        fl6.saddr.in6_u.u6_addr8 = saddr;
        fl6.daddr.in6_u.u6_addr8 = daddr;
        let np = self.as_inet6();
        // SAFETY: The socket is valid, and an `AF_INET6` one.
        unsafe {
            let sk = self.as_ptr();
            fl6.flowlabel = (&raw const (*np).flow_label).read_volatile();
            // CAST: Protocol numbers of packets are 8 bits wide.
            fl6.__fl_common.flowic_proto = self.protocol() as u8;
            fl6.__fl_common.flowic_oif =
                (&raw const (*self.common()).skc_bound_dev_if).read_volatile();
            fl6.__fl_common.flowic_mark = self.mark();
            fl6.__fl_common.flowic_uid = self.uid();
            let (sport, dport) = self.ports();
            fl6.uli.ports.sport = sport.to_be();
            fl6.uli.ports.dport = dport.to_be();
            bindings::security_sk_classify_flow(sk, &mut fl6.__fl_common);
        }
        fl6
    }

    /// Makes what is left to the device about an Ethernet frame apply to the frame in the tunnel. To
    /// be called before headers are added; then [`Sock::send`] is for the same route.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn encapsulate(&self, skb: &mut Skb, route: &Route<'_>, datagram: bool) -> Result {
        skb.encapsulate(|| match datagram {
            true if self.no_checksum(route) => bindings::SKB_GSO_UDP_TUNNEL,
            true => bindings::SKB_GSO_UDP_TUNNEL_CSUM,
            false => gso::OPAQUE,
        })
    }

    /// Whether UDP datagrams are sent without a checksum.
    #[inline]
    fn no_checksum(&self, route: &Route<'_>) -> bool {
        match route.ends {
            Endpoints::V4 { .. } => self.no_check_tx(),
            Endpoints::V6 { .. } => self.no_check6_tx(),
        }
    }

    /// Sends a packet that begins with its transport header, which for a `datagram` is a UDP header
    /// without its checksum: adds that as the socket's options say, then the IP header, and gives
    /// the packet to the network layer. It is fragmented if it must be.
    ///
    /// Bottom halves must be off. The socket lock is not taken.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if there is less room than [`Route::headroom`], `EMSGSIZE` if the datagram is
    /// longer than 64 KiB or shorter than its header, `ENOMEM`, and what the network layer says;
    /// `ENOBUFS`, too, if a queue further down has dropped the packet. Congestion is success.
    #[inline]
    pub fn send(&self, mut skb: Skb, route: &Route<'_>, datagram: bool) -> Result {
        skb.reset_transport_header();
        if datagram {
            if skb.head().len() < size_of::<bindings::udphdr>() {
                return Err(EMSGSIZE);
            }
            self.set_udp_checksum(&mut skb, route)?;
        }
        skb.headers().set_ignore_df(1);
        // SAFETY: The route is valid for the RCU read section that it was found in.
        unsafe { bindings::skb_dst_set_noref(skb.as_ptr(), route.dst.as_ptr()) };
        let ret = match route.ends {
            Endpoints::V4 { saddr, daddr } if self.has_ipv4_options() => {
                skb.make_room(IPV4_HLEN_MAX.wrapping_add(route.link_headroom()))?;
                self.ipv4_output_with_options(skb, saddr, daddr)
            }
            Endpoints::V4 { saddr, daddr } => self.ipv4_output(skb, route, saddr, daddr)?,
            Endpoints::V6 { saddr, daddr } => self.ipv6_output(skb, saddr, daddr),
        };
        if ret == NET_XMIT_DROP {
            return Err(ENOBUFS);
        }
        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// Fills in the checksum of the UDP datagram that the packet is, or leaves that to the device.
    /// The UDP header must be linear, and the transport header say where it is.
    #[inline]
    fn set_udp_checksum(&self, skb: &mut Skb, route: &Route<'_>) -> Result {
        let len = i32::from(u16::try_from(skb.len()).map_err(|_| EMSGSIZE)?);
        let no_checksum = self.no_checksum(route);
        match route.ends {
            // SAFETY: The packet is ours, and its transport header is a UDP header, linear.
            Endpoints::V4 { saddr, daddr } => unsafe {
                bindings::udp_set_csum(
                    no_checksum,
                    skb.as_ptr(),
                    u32::from_ne_bytes(saddr),
                    u32::from_ne_bytes(daddr),
                    len,
                )
            },
            // SAFETY: As above; the addresses are aligned, and outlive the call.
            Endpoints::V6 { saddr, daddr } => unsafe {
                let (saddr, daddr) = (in6_addr(saddr), in6_addr(daddr));
                bindings::udp6_set_csum(no_checksum, skb.as_ptr(), &saddr, &daddr, len)
            },
        }
        Ok(())
    }

    /// Whether the socket's owner has set IPv4 options.
    #[inline]
    fn has_ipv4_options(&self) -> bool {
        // SAFETY: The socket is valid; the pointer is only compared with null.
        let options = unsafe { (&raw const (*self.as_inet()).inet_opt).read_volatile() };
        !options.is_null()
    }

    /// Adds an IPv4 header without options, as the socket's owner wants it to be. The packet must
    /// have an IPv4 route.
    #[inline]
    fn ipv4_output(
        &self,
        mut skb: Skb,
        route: &Route<'_>,
        saddr: [u8; 4],
        daddr: [u8; 4],
    ) -> Result<i32> {
        let (sk, inet) = (self.as_ptr(), self.as_inet());
        // SAFETY: The socket and the route are valid.
        let (tos, ttl, priority, mark) = unsafe {
            let ttl = match (&raw const (*inet).uc_ttl).read_volatile() {
                ..0 => bindings::ip4_dst_hoplimit(route.dst.as_ptr()),
                ttl => ttl.into(),
            };
            (
                (&raw const (*inet).tos).read_volatile(),
                ttl,
                (&raw const (*sk).sk_priority).read_volatile(),
                (&raw const (*sk).sk_mark).read_volatile(),
            )
        };
        let header = skb.push(IPV4_HLEN).ok_or(ENOBUFS)?;
        let header: &mut [u8; IPV4_HLEN] = header.try_into().map_err(|_| ENOBUFS)?;
        // What is zero: the length and the checksum, which are filled in later; the place in a
        // fragmented packet, with leave to fragment.
        // CAST: Both are 8 bits wide on the wire.
        let (ttl, protocol) = (ttl as u8, self.protocol() as u8);
        *header = [0; IPV4_HLEN];
        [header[0], header[1]] = [0x45, tos];
        [header[8], header[9]] = [ttl, protocol];
        header[12..16].copy_from_slice(&saddr);
        header[16..20].copy_from_slice(&daddr);
        skb.reset_network_header();
        skb.headers().priority = priority;
        skb.headers().__bindgen_anon_4.mark = mark;
        // SAFETY: The packet is ours, with an IPv4 header where its network header is, and a route;
        // it is given away. The socket is valid, and so is its namespace: see `find_route`.
        Ok(unsafe {
            let net = bindings::sock_net(sk);
            bindings::ip_select_ident_segs(net, skb.as_ptr(), sk, skb.gso_segments());
            bindings::ip_local_out(net, sk, skb.into_raw())
        })
    }

    /// The packet must have an IPv4 route, and room for the longest header.
    #[cold]
    fn ipv4_output_with_options(&self, skb: Skb, saddr: [u8; 4], daddr: [u8; 4]) -> i32 {
        // Only the addresses are read of a flow whose packet has its route already.
        let mut fl = bindings::flowi::default();
        fl.u.ip4.saddr = u32::from_ne_bytes(saddr);
        fl.u.ip4.daddr = u32::from_ne_bytes(daddr);
        // SAFETY: The socket is valid; the packet is given away, with a route.
        unsafe {
            let tos = (&raw const (*self.as_inet()).tos).read_volatile();
            bindings::__ip_queue_xmit(self.as_ptr(), skb.into_raw(), &mut fl, tos)
        }
    }

    /// The packet must have an IPv6 route. IPv6 makes room for its headers itself.
    #[inline]
    fn ipv6_output(&self, skb: Skb, saddr: [u8; 16], daddr: [u8; 16]) -> i32 {
        let mut fl6 = self.flow6(saddr, daddr);
        // SAFETY: The socket is an `AF_INET6` one; its options are valid in the RCU read section
        // that the packet's route shows. The packet is given away.
        unsafe {
            let np = self.as_inet6();
            let opt = (&raw const (*np).opt).read_volatile();
            let tclass = (&raw const (*np).tclass).read_volatile();
            let priority = (&raw const (*self.as_ptr()).sk_priority).read_volatile();
            let mark = fl6.__fl_common.flowic_mark;
            bindings::ip6_xmit(
                self.as_ptr(),
                skb.into_raw(),
                &mut fl6,
                mark,
                opt,
                tclass.into(),
                priority,
            )
        }
    }
}

fn in6_addr(bytes: [u8; 16]) -> bindings::in6_addr {
    let mut addr = bindings::in6_addr::default();
    addr.in6_u.u6_addr8 = bytes;
    addr
}
