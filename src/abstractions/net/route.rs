// SPDX-License-Identifier: GPL-2.0

//! Routes of connected sockets, and output through them, without the socket lock.
//!
//! C headers: [`include/net/route.h`](srctree/include/net/route.h),
//! [`include/net/ip6_route.h`](srctree/include/net/ip6_route.h)

use super::{
    skbuff::Skb,
    sock::{
        Endpoints,
        Sock, //
    }, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::rcu, //
};

/// The longest IPv4 header. Always reserved in full, since the socket's owner may set options at
/// any moment; IPv6 makes room for extension headers itself.
const IP_HEADROOM: usize = 60;

/// What to reserve for a link layer when it is not known: Ethernet with two VLAN tags fits.
const LL_HEADROOM: usize = 32;

/// The route of a socket's packets.
///
/// # Invariants
///
/// `dst` is valid for the RCU read section `'g`.
pub struct Route<'g> {
    dst: NonNull<bindings::dst_entry>,
    _guard: PhantomData<&'g rcu::Guard>,
}

impl Route<'_> {
    /// Makes the packet take this route. It must be sent within the same RCU read section.
    pub(super) fn attach(&self, skb: &Skb) {
        // SAFETY: The packet is valid and ours; the route is valid by the type invariant.
        unsafe { bindings::skb_dst_set_noref(skb.as_ptr(), self.dst.as_ptr()) }
    }

    /// The largest IP packet that the path takes, in bytes.
    pub fn mtu(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::dst_mtu(self.dst.as_ptr()) }
    }

    /// Bytes that the layers below the transport header may add: an IP header and one for the link
    /// layer.
    #[inline]
    pub fn headroom(&self) -> usize {
        // SAFETY: By the type invariant; a valid route has a device.
        // CAST: Headers are short.
        IP_HEADROOM.wrapping_add(unsafe { bindings::dst_headroom(self.dst.as_ptr()) } as usize)
    }
}

impl Sock {
    /// The route in the socket's cache if it is still good. Any context.
    #[inline]
    fn cached_route<'g>(&self, _guard: &'g rcu::Guard) -> Option<Route<'g>> {
        let cookie = if self.uses_ipv6() {
            let np = self.as_inet6();
            // SAFETY: An `AF_INET6` socket has an `ipv6_pinfo`.
            unsafe { (&raw const (*np).dst_cookie).read_volatile() }
        } else {
            0
        };
        // SAFETY: The socket is valid; the guard keeps what is in the cache valid.
        let dst = unsafe {
            let dst = bindings::__sk_dst_get(self.as_ptr());
            if dst.is_null() {
                dst
            } else {
                bindings::dst_check(dst, cookie)
            }
        };
        // INVARIANT: A route in a socket's cache is freed a grace period after it has left it.
        NonNull::new(dst).map(|dst| Route {
            dst,
            _guard: PhantomData,
        })
    }

    /// The route to the socket's peer: from its cache, which is read without a lock, or looked up
    /// and then put there.
    ///
    /// # Errors
    ///
    /// What the routing tables say: `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` and so on.
    #[inline]
    pub fn route<'g>(&self, guard: &'g rcu::Guard) -> Result<Route<'g>> {
        match self.cached_route(guard) {
            Some(route) => Ok(route),
            None => self.find_route(guard),
        }
    }

    /// Bytes that are likely to be added below the transport header.
    pub fn headroom(&self) -> usize {
        let guard = rcu::read_lock();
        match self.cached_route(&guard) {
            Some(route) => route.headroom(),
            None => IP_HEADROOM.wrapping_add(LL_HEADROOM),
        }
    }

    #[cold]
    fn find_route<'g>(&self, _guard: &'g rcu::Guard) -> Result<Route<'g>> {
        // SAFETY: The socket is valid, and used only while its namespace is alive: a tunnel sends
        // under RCU, and is told to stop before the namespace exits, with a grace period between.
        let net = unsafe { bindings::sock_net(self.as_ptr()) };
        let dst = if self.uses_ipv6() {
            let mut fl6 = self.flow6();
            let mut last = bindings::in6_addr::default();
            // SAFETY: The socket is an `AF_INET6` one; we are in an RCU read section, which keeps
            // its options valid.
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
        } else {
            let mut fl4 = bindings::flowi4::default();
            // SAFETY: The socket is an internet one, `fl4` is ours.
            let rt = unsafe {
                bindings::inet_sk_init_flowi4(self.as_ptr(), &mut fl4);
                from_err_ptr(bindings::ip_route_output_flow(net, &mut fl4, self.as_ptr()))?
            };
            // SAFETY: A `dst_entry` is the first field of an `rtable`. We own a reference, which
            // the cache takes over.
            let dst = unsafe { &raw mut (*rt).dst };
            // SAFETY: As above.
            unsafe { bindings::sk_dst_set(self.as_ptr(), dst) };
            dst
        };
        // INVARIANT: The cache holds a reference. Should another CPU replace it at once, it is
        // freed a grace period later.
        Ok(Route {
            dst: NonNull::new(dst).ok_or(ENETUNREACH)?,
            _guard: PhantomData,
        })
    }

    fn flow6(&self) -> bindings::flowi6 {
        let mut fl6 = bindings::flowi6::default();
        let np = self.as_inet6();
        // SAFETY: The socket is valid, and an `AF_INET6` one.
        unsafe {
            let sk = self.as_ptr();
            fl6.daddr = (&raw const (*self.common()).skc_v6_daddr).read_volatile();
            fl6.saddr = (&raw const (*np).saddr).read_volatile();
            fl6.flowlabel = (&raw const (*np).flow_label).read_volatile();
            // CAST: Protocol numbers of packets are 8 bits wide.
            fl6.__fl_common.flowic_proto = self.protocol() as u8;
            fl6.__fl_common.flowic_oif =
                (&raw const (*self.common()).skc_bound_dev_if).read_volatile();
            fl6.__fl_common.flowic_mark = (&raw const (*sk).sk_mark).read_volatile();
            fl6.__fl_common.flowic_uid = (&raw const (*sk).sk_uid).read_volatile();
            let (sport, dport) = self.ports();
            fl6.uli.ports.sport = sport.to_be();
            fl6.uli.ports.dport = dport.to_be();
            bindings::security_sk_classify_flow(sk, &mut fl6.__fl_common);
        }
        fl6
    }

    /// Fills in the checksum of the UDP datagram that the packet's transport header begins, or
    /// leaves that to the device, as the socket's options say.
    #[inline]
    pub fn udp_checksum(&self, skb: &mut Skb) {
        // CAST: The caller has checked that the datagram fits in 16 bits.
        let len = skb.len() as i32;
        match self.endpoints() {
            // SAFETY: The packet is ours, and its transport header is a UDP header, linear.
            Endpoints::V4 { saddr, daddr } => unsafe {
                bindings::udp_set_csum(
                    self.no_check_tx(),
                    skb.as_ptr(),
                    u32::from_ne_bytes(saddr),
                    u32::from_ne_bytes(daddr),
                    len,
                )
            },
            // SAFETY: As above; the addresses are read as 16 bytes each, aligned or not.
            Endpoints::V6 { saddr, daddr } => unsafe {
                let saddr = Aligned { _bytes: saddr };
                let daddr = Aligned { _bytes: daddr };
                bindings::udp6_set_csum(
                    self.no_check6_tx(),
                    skb.as_ptr(),
                    ptr::from_ref(&saddr).cast(),
                    ptr::from_ref(&daddr).cast(),
                    len,
                )
            },
        }
    }

    /// Sends a packet that begins with its transport header: adds the IP header, as the socket's
    /// options say, and gives it to the network layer. It is fragmented if it must be.
    ///
    /// Bottom halves must be off. The socket lock is not taken.
    ///
    /// # Errors
    ///
    /// What the network layer says. A positive verdict (congestion, a drop further down) is success.
    #[inline]
    pub fn ip_output(&self, mut skb: Skb, route: &Route<'_>) -> Result {
        skb.headers().set_ignore_df(1);
        // SAFETY: The route is valid for the RCU read section that it was found in.
        unsafe { bindings::skb_dst_set_noref(skb.as_ptr(), route.dst.as_ptr()) };
        let ret = if self.uses_ipv6() {
            self.ipv6_output(skb)
        } else {
            self.ipv4_output(skb)
        };
        if ret < 0 {
            Err(Error::from_errno(ret))
        } else {
            Ok(())
        }
    }

    #[inline]
    fn ipv4_output(&self, skb: Skb) -> i32 {
        let Endpoints::V4 { saddr, daddr } = self.endpoints() else {
            return EAFNOSUPPORT.to_errno();
        };
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

    #[inline]
    fn ipv6_output(&self, skb: Skb) -> i32 {
        let mut fl6 = self.flow6();
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

/// An address that C may read as two words.
#[repr(align(8))]
struct Aligned {
    _bytes: [u8; 16],
}
