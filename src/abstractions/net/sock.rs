// SPDX-License-Identifier: GPL-2.0

//! Internet sockets as the network layer sees them.
//!
//! C headers: [`include/net/sock.h`](srctree/include/net/sock.h),
//! [`include/net/inet_sock.h`](srctree/include/net/inet_sock.h)

use super::net_namespace::{
    Net,
    NetRef, //
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque,
};

/// A socket of family `AF_INET` or `AF_INET6`.
///
/// # Invariants
///
/// The object is an initialised `inet_sock` (for `AF_INET6` with its `ipv6_pinfo`).
#[repr(transparent)]
pub struct Sock(Opaque<bindings::sock>);

// SAFETY: Sockets are shared by all contexts.
unsafe impl Send for Sock {}
// SAFETY: The methods either take the locks that C takes, or read single words that C reads without
// a lock as well.
unsafe impl Sync for Sock {}

// SAFETY: `sock_hold` and `sock_put` count.
unsafe impl AlwaysRefCounted for Sock {
    fn inc_ref(&self) {
        // SAFETY: `self` shows that the count is not zero.
        unsafe { bindings::sock_hold(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::sock_put(obj.as_ptr().cast()) }
    }
}

/// The addresses and ports of a connected socket. Bytes and ports in network order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Endpoints {
    /// IPv4, also when the socket is an `AF_INET6` one connected to a mapped address.
    V4 {
        /// Our address.
        saddr: [u8; 4],
        /// The peer's address.
        daddr: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Our address.
        saddr: [u8; 16],
        /// The peer's address.
        daddr: [u8; 16],
    },
}

/// Reads an IPv6 address of a socket that its owner may be changing: word by word, as that is what
/// processors read in one go.
///
/// # Safety
///
/// `address` must be valid for reads.
#[inline]
unsafe fn read_address(address: *const bindings::in6_addr) -> [u8; 16] {
    let mut words = [0u32; 4];
    let mut from = address.cast::<u32>();
    for word in &mut words {
        // SAFETY: One of the four words of the address, by the safety requirement.
        unsafe {
            *word = from.read_volatile();
            from = from.add(1);
        }
    }
    // SAFETY: Plain numbers of the same size.
    unsafe { core::mem::transmute(words) }
}

/// Writes an IPv6 address of a socket that others may be reading.
///
/// # Safety
///
/// `address` must be valid for writes, and nobody else may write.
#[inline]
pub(super) unsafe fn write_address(address: *mut bindings::in6_addr, value: [u8; 16]) {
    // SAFETY: Plain numbers of the same size.
    let words: [u32; 4] = unsafe { core::mem::transmute(value) };
    let mut to = address.cast::<u32>();
    for word in words {
        // SAFETY: One of the four words of the address, by the safety requirement.
        unsafe {
            to.write_volatile(word);
            to = to.add(1);
        }
    }
}

impl Sock {
    /// Borrows a socket from C.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a socket as the type invariants say, which lives for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::sock) -> &'a Self {
        // SAFETY: `Sock` is transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// The C object.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::sock {
        self.0.get()
    }

    /// The C object, as `inet_sock`.
    #[inline]
    pub(super) fn as_inet(&self) -> *mut bindings::inet_sock {
        // By the type invariants; `sk` is the first field.
        self.as_ptr().cast()
    }

    #[inline]
    pub(super) fn common(&self) -> *mut bindings::sock_common {
        // SAFETY: Valid by the type invariants.
        unsafe { &raw mut (*self.as_ptr()).__sk_common }
    }

    /// The C part for IPv6, null for an `AF_INET` socket.
    #[inline]
    pub(super) fn as_inet6(&self) -> *mut bindings::ipv6_pinfo {
        // SAFETY: Valid by the type invariants. Set at creation, and kept when `IPV6_ADDRFORM` makes
        // the socket an `AF_INET` one.
        unsafe { (&raw const (*self.as_inet()).pinet6).read_volatile() }
    }

    /// How many references there are at the moment. For information.
    #[cfg_attr(not(all(CONFIG_DEBUG_FS, CONFIG_NET_NS)), expect(dead_code))]
    pub fn ref_count(&self) -> u32 {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::sk_refcnt(self.as_ptr()) }
    }

    /// Takes a reference.
    pub fn hold(&self) -> ARef<Self> {
        self.into()
    }

    /// The namespace. The caller must know that it is not ending: see [`Net`].
    ///
    /// # Safety
    ///
    /// For as long as the result is used, the namespace must not have come to its exit methods.
    #[inline]
    pub unsafe fn net<'a>(&self) -> &'a Net {
        // SAFETY: By the safety requirement.
        unsafe { Net::from_raw(bindings::sock_net(self.as_ptr())) }
    }

    /// A reference to the namespace, unless that is ending. Any context.
    pub fn net_ref(&self) -> Option<NetRef> {
        // SAFETY: Every socket, also one of the kernel's, keeps at least the memory of its namespace
        // (`net_passive_inc`) for as long as it has memory itself. It does not change its namespace.
        unsafe { NetRef::try_get(bindings::sock_net(self.as_ptr())) }
    }

    /// `AF_INET` or `AF_INET6`.
    #[inline]
    pub fn family(&self) -> u16 {
        // SAFETY: Valid by the type invariants.
        unsafe { (&raw const (*self.common()).skc_family).read_volatile() }
    }

    /// Whether this is an `AF_INET6` socket, whatever it is connected to.
    #[inline]
    pub fn is_inet6(&self) -> bool {
        u32::from(self.family()) == bindings::AF_INET6
    }

    /// Whether packets leave as IPv6: an `AF_INET6` socket, not connected to a mapped address.
    #[inline]
    pub fn uses_ipv6(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        self.is_inet6() && unsafe { bindings::sk_uses_ipv6(self.as_ptr()) }
    }

    /// Whether the kernel has opened the socket for itself.
    #[inline]
    pub fn is_kernel(&self) -> bool {
        // SAFETY: Valid by the type invariants; set at creation.
        unsafe { bindings::sk_kern_sock(self.as_ptr()) }
    }

    /// Whether the socket is connected.
    #[inline]
    pub fn is_connected(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        let state = unsafe { (&raw const (*self.common()).skc_state).read_volatile() };
        u32::from(state) == bindings::TCP_ESTABLISHED
    }

    /// The device that the socket is bound to, or 0.
    #[inline]
    pub fn bound_device(&self) -> u32 {
        // SAFETY: Valid by the type invariants.
        let index = unsafe { (&raw const (*self.common()).skc_bound_dev_if).read_volatile() };
        // CAST: Interface indices are not negative.
        index as u32
    }

    /// Whether the owner wants to send to broadcast addresses, and so may have connected the socket to
    /// one.
    pub fn may_broadcast(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::sock_flag(self.as_ptr(), bindings::sock_flags_SOCK_BROADCAST) }
    }

    /// Whether nobody has the socket open any more.
    pub fn is_dead(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::sock_flag(self.as_ptr(), bindings::sock_flags_SOCK_DEAD) }
    }

    /// The addresses as they are now. They may change at any moment if the owner reconnects the
    /// socket, in the middle of being read, too.
    #[inline]
    pub fn endpoints(&self) -> Endpoints {
        if self.uses_ipv6() {
            let np = self.as_inet6();
            if !np.is_null() {
                // SAFETY: Valid by the type invariants.
                return unsafe {
                    Endpoints::V6 {
                        saddr: read_address(&raw const (*np).saddr),
                        daddr: read_address(&raw const (*self.common()).skc_v6_daddr),
                    }
                };
            }
        }
        // SAFETY: Valid by the type invariants.
        unsafe {
            Endpoints::V4 {
                saddr: (&raw const (*self.as_inet()).inet_saddr)
                    .read_volatile()
                    .to_ne_bytes(),
                daddr: (&raw const (*self.common()).__bindgen_anon_1.__bindgen_anon_1.skc_daddr)
                    .read_volatile()
                    .to_ne_bytes(),
            }
        }
    }

    /// The IPv4 address that packets must be sent to to be received, and the one they come from;
    /// each all zero if any will do.
    #[inline]
    pub fn filter_v4(&self) -> ([u8; 4], [u8; 4]) {
        // SAFETY: Valid by the type invariants. Single words, which C reads without a lock as well.
        unsafe {
            let addresses = &raw const (*self.common()).__bindgen_anon_1.__bindgen_anon_1;
            (
                (&raw const (*addresses).skc_rcv_saddr)
                    .read_volatile()
                    .to_ne_bytes(),
                (&raw const (*addresses).skc_daddr)
                    .read_volatile()
                    .to_ne_bytes(),
            )
        }
    }

    /// The same for IPv6. An address that is just being changed may be read half.
    #[inline]
    pub fn filter_v6(&self) -> ([u8; 16], [u8; 16]) {
        // SAFETY: Valid by the type invariants. C reads these without a lock as well.
        unsafe {
            (
                read_address(&raw const (*self.common()).skc_v6_rcv_saddr),
                read_address(&raw const (*self.common()).skc_v6_daddr),
            )
        }
    }

    /// The addresses as an `AF_INET6` socket knows them, mapped ones included.
    pub fn endpoints_v6(&self) -> ([u8; 16], [u8; 16]) {
        let np = self.as_inet6();
        if np.is_null() {
            return ([0; 16], [0; 16]);
        }
        // SAFETY: Valid by the type invariants.
        unsafe {
            (
                read_address(&raw const (*np).saddr),
                read_address(&raw const (*self.common()).skc_v6_daddr),
            )
        }
    }

    /// Our port and the peer's, in host order.
    #[inline]
    pub fn ports(&self) -> (u16, u16) {
        // SAFETY: Valid by the type invariants.
        let (sport, dport) = unsafe {
            (
                (&raw const (*self.as_inet()).inet_sport).read_volatile(),
                (&raw const (*self.common()).__bindgen_anon_3.__bindgen_anon_1.skc_dport)
                    .read_volatile(),
            )
        };
        (u16::from_be(sport), u16::from_be(dport))
    }

    /// Whether UDP datagrams over IPv4 are sent without a checksum.
    #[inline]
    pub fn no_check_tx(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::sock::sk_no_check_tx_raw(self.as_ptr()) != 0 }
    }

    /// Whether UDP datagrams over IPv6 are sent without a checksum.
    #[inline]
    pub fn no_check6_tx(&self) -> bool {
        // SAFETY: Valid by the type invariants, and a UDP socket: others are not asked, as their
        // memory may end before the flag.
        self.is_udp() && unsafe { bindings::udp_get_no_check6_tx(self.as_ptr()) }
    }

    /// Whether UDP datagrams over IPv6 are received without a checksum.
    pub fn no_check6_rx(&self) -> bool {
        // SAFETY: Valid by the type invariants, and a UDP socket.
        self.is_udp() && unsafe { bindings::udp_get_no_check6_rx(self.as_ptr()) }
    }

    /// Whether this is a UDP socket.
    #[inline]
    pub fn is_udp(&self) -> bool {
        u32::from(self.protocol()) == bindings::IPPROTO_UDP
    }

    /// The protocol number.
    #[inline]
    pub fn protocol(&self) -> u16 {
        // SAFETY: Valid by the type invariants; set at creation.
        unsafe { (*self.as_ptr()).sk_protocol }
    }

    /// Whether an IPsec policy was set on this socket.
    pub fn has_xfrm_policy(&self) -> bool {
        // SAFETY: Valid by the type invariants; the pointers are only compared with null.
        unsafe { bindings::sk_has_xfrm_policy(self.as_ptr()) }
    }

    /// How long the IP header and its options are, in bytes; 0 if the family has none. Takes the
    /// socket lock; may sleep.
    pub fn ip_overhead(&self) -> u32 {
        let _lock = self.lock();
        // SAFETY: Valid by the type invariants; the socket lock is held.
        unsafe { bindings::kernel_sock_ip_overhead(self.as_ptr()) }
    }

    /// Takes the socket lock. May sleep.
    pub fn lock(&self) -> SockGuard<'_> {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::lock_sock(self.as_ptr()) };
        SockGuard { sk: self }
    }
}

/// The socket lock, held.
pub struct SockGuard<'a> {
    sk: &'a Sock,
}

impl SockGuard<'_> {
    /// The socket's allocations must not sleep from now on.
    pub fn set_atomic_allocation(&self) {
        // SAFETY: Valid by the type invariants; written under the lock.
        unsafe { (*self.sk.as_ptr()).sk_allocation = bindings::GFP_ATOMIC }
    }

    /// Whether some other user has put its data on the socket.
    pub fn has_user_data(&self) -> bool {
        // SAFETY: Valid by the type invariants; only compared with null.
        !unsafe { (&raw const (*self.sk.as_ptr()).sk_user_data).read_volatile() }.is_null()
    }

    /// The socket.
    pub fn sock(&self) -> &Sock {
        self.sk
    }
}

impl Drop for SockGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `lock` has taken it.
        unsafe { bindings::release_sock(self.sk.as_ptr()) }
    }
}
