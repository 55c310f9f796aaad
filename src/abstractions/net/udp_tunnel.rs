// SPDX-License-Identifier: GPL-2.0

//! UDP sockets as tunnel endpoints.
//!
//! C header: [`include/net/udp_tunnel.h`](srctree/include/net/udp_tunnel.h)
//!
//! # Datagrams that are merged
//!
//! They wait with the device that they have come in on, until its softirq has no more of them, and
//! keep nothing of ours. UDP calls [`gro_receive`] for one that comes and [`gro_complete`] for one that
//! is handed on, each in an RCU read section and for a socket that it has just found in its tables. So
//! neither is called for a socket that has been closed, but for a grace period; and what `T` says
//! the first time need not be what it says the second time.
//!
//! Kernel sockets only: we never take these hooks off, as UDP counts who has them, until it closes the
//! socket. Between that and the end of the socket's namespace, and so of the module, there is a grace
//! period. Datagrams that wait still are finished by UDP without us, and have no socket to go to.

use super::{
    gro,
    net_namespace::Net,
    skbuff::{
        DropReason,
        Skb, //
    },
    sock::{
        Sock,
        SockGuard, //
    }, //
};
use crate::{
    abstractions::sync::{
        bottom_half,
        rcu,
        rcu_section, //
    },
    bindings, //
};
use core::{
    ffi::c_void,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// What became of a datagram.
pub enum Verdict {
    /// It is dealt with.
    Consumed,
    /// It goes to the socket's receive queue, like any other datagram.
    PassUp(Skb),
}

/// What a tunnel does with its UDP socket.
pub trait Encap: 'static {
    /// The number that `getsockopt(UDP_ENCAP)` reports.
    const TYPE: u8;

    /// A datagram has come; `skb` begins after its UDP header, which has been verified. Softirq.
    fn receive(
        net: &Net,
        sk: &Sock,
        skb: Skb,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Verdict;

    /// How long headers are before frames that are merged, in ascending order.
    const HEADER_LENS: &'static [usize];

    /// How long the header of a message in a datagram is, if this may be merged with others whose
    /// header is the same, and an Ethernet frame follows. Shown is at least as much as the longest of
    /// [`Encap::HEADER_LENS`], or all of it. Softirq; asked for kernel sockets only.
    fn mergeable(net: &Net, sk: &Sock, message: &[u8]) -> Option<usize>;

    /// The socket is being closed. Process context, socket lock not held; may not wait for the
    /// tunnel's own work. The state that `T` has for `net` may be going away at the same time, as
    /// that of a module that is being unloaded does: take a reference under RCU.
    fn destroy(net: &Net, sk: &Sock);
}

const UDP_HLEN: usize = size_of::<bindings::udphdr>();

/// # Safety
///
/// For UDP only, with a packet whose UDP header is linear, for a socket that is open.
unsafe extern "C" fn encap_rcv<T: Encap>(
    sk: *mut bindings::sock,
    skb: *mut bindings::sk_buff,
) -> i32 {
    let Some(ptr) = NonNull::new(skb) else {
        return 0;
    };
    // SAFETY: UDP gives us a valid packet, and a socket that is in its tables: so the socket is
    // alive for the RCU read section we are in, and its namespace has not come to its exit
    // methods, before which all sockets are closed.
    let (mut skb, sk) = unsafe { (Skb::from_raw(ptr), Sock::from_raw(sk)) };
    // SAFETY: As above.
    let net = unsafe { sk.net() };
    if skb.pull(UDP_HLEN).is_none() {
        // UDP has looked at its header, so this cannot be.
        return 0;
    }
    // SAFETY: IP delivers packets to UDP within an RCU read section, with bottom halves off.
    let (guard, bh) = unsafe { (rcu_section::assume(), bottom_half::Guard::assume()) };
    match T::receive(net, sk, skb, guard, bh) {
        Verdict::Consumed => 0,
        // Nobody reads a socket of the kernel's.
        Verdict::PassUp(skb) if sk.is_kernel() => {
            skb.discard(DropReason::NO_SOCKET);
            0
        }
        Verdict::PassUp(mut skb) => {
            // What was pulled above can be put back, as nobody else has the packet.
            if skb.unpull(UDP_HLEN).is_none() {
                return 0;
            }
            // UDP still owns the packet if the answer is positive.
            skb.into_raw();
            1
        }
    }
}

/// # Safety
///
/// For UDP only, with an open socket, a packet that has more than a UDP header, which GRO has come to
/// the end of, and the list of those that wait.
unsafe extern "C" fn gro_receive<T: Encap>(
    sk: *mut bindings::sock,
    held: *mut bindings::list_head,
    skb: *mut bindings::sk_buff,
) -> *mut bindings::sk_buff {
    // SAFETY: As in `encap_rcv`.
    let sk = unsafe { Sock::from_raw(sk) };
    // SAFETY: As in `encap_rcv`.
    let net = unsafe { sk.net() };
    // SAFETY: By the safety requirement.
    unsafe {
        gro::receive_ethernet(held, skb, T::HEADER_LENS, |message| {
            T::mergeable(net, sk, message)
        })
    }
}

/// # Safety
///
/// For UDP only, with an open socket, and a packet with a datagram for it whose data is at `at`.
unsafe extern "C" fn gro_complete<T: Encap>(
    sk: *mut bindings::sock,
    skb: *mut bindings::sk_buff,
    at: i32,
) -> i32 {
    // SAFETY: As in `encap_rcv`.
    let sk = unsafe { Sock::from_raw(sk) };
    // SAFETY: As in `encap_rcv`.
    let net = unsafe { sk.net() };
    // SAFETY: By the safety requirement.
    unsafe { gro::complete_ethernet(skb, at, |message| T::mergeable(net, sk, message)) }
}

/// # Safety
///
/// For UDP only, with a socket that is being closed.
unsafe extern "C" fn encap_destroy<T: Encap>(sk: *mut bindings::sock) {
    CLOSING.add(1i32, Relaxed);
    // SAFETY: The socket is being closed, but is still there.
    let sk = unsafe { Sock::from_raw(sk) };
    // SAFETY: The namespace lives, as a socket that a process closes has kept it.
    T::destroy(unsafe { sk.net() }, sk);
    // Whoever sees this must see what `destroy` has done.
    CLOSING.fetch_sub(1i32, Release);
}

/// How many tasks are in [`encap_destroy`].
static CLOSING: Atomic<i32> = Atomic::new(0);

/// Whether there was a socket that a process could close.
static MANAGED: Atomic<bool> = Atomic::new(false);

/// Waits, on drop, until nobody is in a [`Encap::destroy`]: closing a socket keeps no module. To be
/// dropped when no socket has an [`Encap`] any more. Sleeps.
pub struct Drain;

impl Drop for Drain {
    fn drop(&mut self) {
        if !MANAGED.load(Relaxed) {
            return;
        }
        // A task may have read the pointer but not have come to count itself; and it may have
        // counted itself out but not have returned. In neither place does it sleep.
        // SAFETY: Called by a task that may sleep.
        unsafe { bindings::synchronize_rcu_tasks() };
        while CLOSING.load(Acquire) != 0 {
            fsleep(Delta::from_millis(1));
        }
        // SAFETY: As above.
        unsafe { bindings::synchronize_rcu_tasks() };
    }
}

/// Reports each ICMP error to the socket, hard or soft, with `IP_RECVERR` or without: a daemon
/// notices at once that its peer is gone. With it, the error is queued, too.
///
/// # Safety
///
/// For UDP only, with an open socket and the packet that quotes one of its own.
unsafe extern "C" fn encap_err_rcv(
    sk: *mut bindings::sock,
    skb: *mut bindings::sk_buff,
    err: i32,
    port: bindings::__be16,
    info: u32,
    payload: *mut u8,
) {
    // SAFETY: UDP calls this with a valid socket, and the packet that the ICMP message quotes.
    unsafe {
        (&raw mut (*sk).sk_err).write_volatile(err);
        bindings::sk_error_report(sk);
        if bindings::skb_quotes_ipv4(skb) {
            if bindings::inet_recverr(sk) {
                bindings::ip_icmp_error(sk, skb, err, port, info, payload);
            }
        } else if bindings::inet6_recverr(sk) {
            bindings::ipv6_icmp_error(sk, skb, err, port, info, payload);
        }
    }
}

type EncapRcv = unsafe extern "C" fn(*mut bindings::sock, *mut bindings::sk_buff) -> i32;
type EncapDestroy = unsafe extern "C" fn(*mut bindings::sock);
type ErrRcv = unsafe extern "C" fn(
    *mut bindings::sock,
    *mut bindings::sk_buff,
    i32,
    bindings::__be16,
    u32,
    *mut u8,
);

/// For `struct udp_sock`: no packet that an ICMP message quotes was sent by a tunnel on this socket.
extern "C" fn of_nobody(_sk: *mut bindings::sock, _skb: *mut bindings::sk_buff) -> i32 {
    kernel::error::code::ENOENT.to_errno()
}

impl SockGuard<'_> {
    /// Makes this UDP socket a tunnel endpoint: from now on its datagrams go to `T`.
    ///
    /// If `merges`, its datagrams are merged as far as `T` says, unless the socket is that of a process.
    /// UDP counts the sockets whose datagrams are merged, by the hook that it finds when one is closed.
    /// So that must stay until then. A kernel socket is closed by its tunnel, before the module goes.
    /// Others may outlive the module, or be given to another kind of tunnel, which overwrites the hook:
    /// it would go on being counted, and then called.
    pub fn set_encap<T: Encap>(&self, net: &Net, merges: bool) {
        let mut cfg = bindings::udp_tunnel_sock_cfg {
            sk_user_data: ptr::null_mut(),
            encap_type: T::TYPE,
            encap_rcv: Some(encap_rcv::<T>),
            encap_err_rcv: Some(encap_err_rcv),
            encap_destroy: Some(encap_destroy::<T>),
            ..Default::default()
        };
        if !self.sock().is_udp() {
            return;
        }
        if !self.sock().is_kernel() {
            MANAGED.store(true, Relaxed);
        } else if merges {
            cfg.gro_receive = Some(gro_receive::<T>);
            cfg.gro_complete = Some(gro_complete::<T>);
        }
        // SAFETY: A UDP socket, locked; the configuration is copied.
        unsafe { bindings::setup_udp_tunnel_sock(net.as_ptr(), self.sock().as_ptr(), &mut cfg) }
    }

    /// Takes the error hook from a socket that [`Sock::clear_encap`] was called for, unless it has
    /// become a tunnel endpoint again, or nobody can make it one any more. May sleep.
    ///
    /// UDP tests the hook and then reads it again to call it, if the socket has a type of
    /// encapsulation. Whoever owns the socket can give it one, by `setsockopt(UDP_ENCAP)`. So before
    /// that nobody is let come so far, for a grace period.
    ///
    /// The socket stays locked all the time. Otherwise it could become an endpoint and an ordinary
    /// socket again meanwhile, and have another call of this in its first wait: nothing on the socket
    /// tells the two apart, and the one that is done first would take the hook too early for the other.
    pub fn clear_encap_errors(&self) {
        if !self.sock().is_udp() || self.sock().is_dead() {
            return;
        }
        let up = self.sock().as_ptr().cast::<bindings::udp_sock>();
        // SAFETY: A UDP socket, locked, as those who write these fields have it. UDP reads the
        // second hook once.
        unsafe {
            let hook = (&raw const (*up).encap_err_rcv).read_volatile();
            if !hook.is_some_and(|hook| ptr::fn_addr_eq(hook, encap_err_rcv as ErrRcv))
                || (&raw const (*up).encap_destroy).read_volatile().is_some()
            {
                // That of another kind of tunnel, or ours.
                return;
            }
            (&raw mut (*up).encap_err_lookup).write_volatile(Some(of_nobody));
            rcu::synchronize_rcu();
            (&raw mut (*up).encap_err_rcv).write_volatile(None);
            // Nor may anybody be let in again who still sees the hook.
            rcu::synchronize_rcu();
            (&raw mut (*up).encap_err_lookup).write_volatile(None);
        }
    }
}

impl Sock {
    /// Makes this UDP socket, which was a tunnel endpoint for `T`, an ordinary one again. Datagrams
    /// that are in flight may still go to the tunnel until a grace period has passed; then call
    /// [`SockGuard::clear_encap_errors`].
    ///
    /// Takes no lock: whoever owns the socket may be stopped while he holds it. He may also have made
    /// it the endpoint of another kind of tunnel in the meantime, after `setsockopt(UDP_ENCAP, 0)`,
    /// or be doing so right now; what is not `T`'s is left alone. The caller must see to it that the
    /// socket is not made an endpoint for `T` at the same time.
    pub fn clear_encap<T: Encap>(&self) {
        if !self.is_udp() {
            return;
        }
        let up = self.as_ptr().cast::<bindings::udp_sock>();
        let destroy: EncapDestroy = encap_destroy::<T>;
        let receive: EncapRcv = encap_rcv::<T>;
        // SAFETY: A UDP socket; `Option`s of functions are as large as pointers, null for `None`.
        // UDP and other kinds of tunnels read and write each of these fields in one go.
        unsafe {
            let field = Atomic::from_ptr((&raw mut (*up).encap_destroy).cast::<*const c_void>());
            let _ = field.cmpxchg(destroy as *const c_void, ptr::null(), Relaxed);
            let field = Atomic::from_ptr((&raw mut (*up).encap_rcv).cast::<*const c_void>());
            let _ = field.cmpxchg(receive as *const c_void, ptr::null(), Relaxed);
            // Without hooks the type says nothing to UDP. So it goes last: before that, nobody takes
            // the socket for free.
            // CAST: The same bits.
            let field = Atomic::from_ptr((&raw mut (*up).encap_type).cast::<i8>());
            let _ = field.cmpxchg(T::TYPE as i8, 0, Release);
        }
    }
}
