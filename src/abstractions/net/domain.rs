// SPDX-License-Identifier: GPL-2.0

//! The internet protocol families, and what goes by another name in each of them.
//!
//! C headers: [`include/net/inet_common.h`](srctree/include/net/inet_common.h),
//! [`include/net/ipv6.h`](srctree/include/net/ipv6.h)

use crate::bindings;
use kernel::ffi::{
    c_char,
    c_int,
    c_uint,
    c_ulong, //
};

/// An internet protocol family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// `AF_INET`: IPv4.
    Inet,
    /// `AF_INET6`: IPv6.
    #[cfg(CONFIG_IPV6)]
    Inet6,
}

impl Domain {
    /// The number of the address family.
    pub const fn family(self) -> u16 {
        // CAST: Address families are small.
        match self {
            Self::Inet => bindings::AF_INET as u16,
            #[cfg(CONFIG_IPV6)]
            Self::Inet6 => bindings::AF_INET6 as u16,
        }
    }

    /// What C has for this family.
    #[inline]
    pub(super) const fn functions(self) -> &'static Functions {
        match self {
            Self::Inet => &INET,
            #[cfg(CONFIG_IPV6)]
            Self::Inet6 => &INET6,
        }
    }
}

type Ioctl = unsafe extern "C" fn(*mut bindings::socket, c_uint, c_ulong) -> c_int;

/// C functions that mean the same in each family.
///
/// Besides what C asks for, they need sockets and packets of their own family: for a packet, that is
/// the version of IP that has delivered it, whose route and control block it still has.
pub(super) struct Functions {
    // For a `struct proto_ops`.
    pub(super) release: unsafe extern "C" fn(*mut bindings::socket) -> c_int,
    pub(super) bind: unsafe extern "C" fn(
        *mut bindings::socket,
        *mut bindings::sockaddr_unsized,
        c_int,
    ) -> c_int,
    pub(super) ioctl: Ioctl,
    #[cfg(CONFIG_COMPAT)]
    pub(super) compat_ioctl: Option<Ioctl>,

    // For a `struct proto`.
    pub(super) setsockopt: unsafe extern "C" fn(
        *mut bindings::sock,
        c_int,
        c_int,
        bindings::sockptr_t,
        c_uint,
    ) -> c_int,
    pub(super) getsockopt:
        unsafe extern "C" fn(*mut bindings::sock, c_int, c_int, *mut c_char, *mut c_int) -> c_int,

    /// Lets such sockets be opened.
    pub(super) register: unsafe extern "C" fn(*mut bindings::inet_protosw) -> c_int,
    /// Undoes that, and waits for those who look.
    pub(super) unregister: unsafe extern "C" fn(*mut bindings::inet_protosw),
    /// Connects a datagram socket whose lock is held.
    pub(super) connect:
        unsafe extern "C" fn(*mut bindings::sock, *mut bindings::sockaddr_unsized, c_int) -> c_int,
    /// Frees what a socket without user was to send.
    pub(super) flush: unsafe extern "C" fn(*mut bindings::sock),

    /// The device that a packet came in by, or that device's VRF.
    pub(super) iif: unsafe extern "C" fn(*const bindings::sk_buff) -> c_int,
    /// Whether a socket's IPsec policy lets a packet in.
    pub(super) policy_check:
        unsafe extern "C" fn(*mut bindings::sock, *mut bindings::sk_buff) -> bool,
    /// Puts what the socket's options ask for about a packet into a message.
    pub(super) control_to:
        unsafe extern "C" fn(*mut bindings::msghdr, *mut bindings::sock, *mut bindings::sk_buff),
}

static INET: Functions = Functions {
    release: bindings::inet_release,
    bind: bindings::inet_bind,
    ioctl: bindings::inet_ioctl,
    #[cfg(CONFIG_COMPAT)]
    compat_ioctl: None,
    setsockopt: bindings::ip_setsockopt,
    getsockopt: bindings::ip_getsockopt,
    register: register4,
    unregister: bindings::inet_unregister_protosw,
    connect: bindings::__ip4_datagram_connect,
    flush: flush4,
    iif: bindings::inet_iif,
    policy_check: bindings::xfrm4_policy_check,
    control_to: bindings::ip_cmsg_recv,
};

#[cfg(CONFIG_IPV6)]
static INET6: Functions = Functions {
    release: bindings::inet6_release,
    bind: bindings::inet6_bind,
    ioctl: bindings::inet6_ioctl,
    #[cfg(CONFIG_COMPAT)]
    compat_ioctl: Some(bindings::inet6_compat_ioctl),
    setsockopt: bindings::ipv6_setsockopt,
    getsockopt: bindings::ipv6_getsockopt,
    register: bindings::inet6_register_protosw,
    unregister: bindings::inet6_unregister_protosw,
    connect: bindings::__ip6_datagram_connect,
    flush: flush6,
    iif: bindings::inet6_iif,
    policy_check: bindings::xfrm6_policy_check,
    control_to: bindings::ip6_cmsg_recv,
};

/// # Safety
///
/// As [`Functions::register`].
unsafe extern "C" fn register4(protosw: *mut bindings::inet_protosw) -> c_int {
    // SAFETY: By the safety requirement.
    unsafe { bindings::inet_register_protosw(protosw) };
    0
}

/// # Safety
///
/// As [`Functions::flush`].
unsafe extern "C" fn flush4(sk: *mut bindings::sock) {
    // SAFETY: Nobody else uses the queue of a socket without user.
    unsafe { bindings::__skb_queue_purge(&raw mut (*sk).sk_write_queue) }
}

/// # Safety
///
/// As [`Functions::flush`].
#[cfg(CONFIG_IPV6)]
unsafe extern "C" fn flush6(sk: *mut bindings::sock) {
    // SAFETY: By the safety requirement. IPv6 keeps a route with the frames, and wants the lock.
    unsafe {
        bindings::lock_sock(sk);
        bindings::ip6_flush_pending_frames(sk);
        bindings::release_sock(sk);
    }
}
