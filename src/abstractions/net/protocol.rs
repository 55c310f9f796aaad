// SPDX-License-Identifier: GPL-2.0

//! Handlers of IP protocols.
//!
//! C header: [`include/net/protocol.h`](srctree/include/net/protocol.h)
//!
//! # Packets that stand for several
//!
//! A device merges what it receives, and cuts what it sends, also of protocols that it does not know,
//! if there is somebody to ask about their headers: [`Handler::mergeable`]. Devices keep packets that
//! wait to be merged or cut, and nothing of ours; what cannot be finished any more, as the handler has
//! gone, is dropped by IP: with a warning, if several have been merged already. They wait for less than
//! the grace periods that pass before that, unless somebody sets the device's `gro_flush_timeout` to
//! much more than the microseconds that it is for.

use super::{
    domain::Domain,
    gro,
    gso,
    net_namespace::Net,
    skbuff::Skb,
    sock::Sock, //
};
use crate::{
    abstractions::sync::{
        bottom_half,
        rcu_section, //
    },
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
use kernel::{
    sync::rcu, //
};

/// What receives the packets of one IP protocol, in every network namespace.
///
/// All methods are called in softirq context, within an RCU read section, on several CPUs at once.
pub trait Handler: Sized + 'static {
    /// The version of IP.
    const DOMAIN: Domain;

    /// The protocol number.
    const PROTOCOL: u8;

    /// How long headers are before Ethernet frames that are merged, in ascending order.
    const HEADER_LENS: &'static [usize];

    /// How long the header of a packet's data is, if it may be merged with others whose header is the
    /// same, and an Ethernet frame follows. Shown is at least as much as the longest of
    /// [`Handler::HEADER_LENS`], or all of it.
    fn mergeable(net: &Net, message: &[u8]) -> Option<usize>;

    /// A packet has come. Its data begins after the IP header. Raw sockets have had their copy, and
    /// IPsec policy has been enforced.
    fn receive(net: &Net, packet: Packet, guard: &rcu::Guard, bh: &bottom_half::Guard);

    /// How messages may begin that user space sends without this, and is to get back without it when
    /// something is wrong with them.
    const PREFIX: &'static [u8];

    /// An ICMP message says something about a packet of ours. `header` is the IP header of that
    /// packet, as the message quotes it.
    ///
    /// Calls `each` for the sockets that may have sent it. For each of them, the routing table is
    /// told that its packets are too big for their path, or of a better router; and those sockets
    /// that asked for it are told of errors. No more than that: anyone can forge such a message.
    fn senders(net: &Net, header: &[u8], each: impl FnMut(&Sock));
}

/// A packet as its protocol's handler gets it.
///
/// # Invariants
///
/// The network header is within the head of the packet, and the route and the control block are
/// those of the version of IP that has delivered it, which is `domain`.
pub struct Packet {
    skb: Skb,
    domain: Domain,
}

impl Packet {
    /// See [`Skb::pull_head`].
    #[inline]
    pub fn pull_head(&mut self, n: usize) -> Option<&[u8]> {
        self.skb.pull_head(n)
    }

    /// See [`Skb::pull`].
    #[inline]
    pub fn pull(&mut self, n: usize) -> Option<()> {
        self.skb.pull(n)
    }

    /// The device that the packet came in by. For a port of a VRF, that is the VRF.
    #[inline]
    pub fn ingress(&self) -> u32 {
        // SAFETY: The packet is valid. By the type invariants the route and the control block are
        // what this expects.
        let index = unsafe { (self.domain.functions().iif)(self.skb.as_ptr()) };
        // CAST: Interface indices are not negative.
        index as u32
    }

    /// Whether the IPsec policy of a socket lets the packet in; never, if the socket is of the other
    /// family.
    #[inline]
    pub(super) fn allowed_by(&self, sk: &Sock) -> bool {
        if sk.family() != self.domain.family() {
            return false;
        }
        // SAFETY: Packet and socket are valid, and of one family; the packet's headers and control
        // block are those of its version of IP by the type invariants.
        unsafe { (self.domain.functions().policy_check)(sk.as_ptr(), self.skb.as_ptr()) }
    }

    /// The packet without what IP knows about it.
    #[inline]
    pub fn into_skb(self) -> Skb {
        self.skb
    }
}

impl Deref for Packet {
    type Target = Skb;

    #[inline]
    fn deref(&self) -> &Skb {
        &self.skb
    }
}

/// # Safety
///
/// For `struct net_protocol`: IP must own `skb`, have delivered it, and hold the RCU read lock, with
/// bottom halves off.
unsafe extern "C" fn receive<H: Handler>(skb: *mut bindings::sk_buff) -> i32 {
    if let Some(ptr) = NonNull::new(skb) {
        // SAFETY: IP gives us a packet that came from a device, within an RCU read section; the
        // device keeps the memory of its namespace for that long.
        let net = unsafe { Net::from_raw(bindings::skb_dev_net(skb)) };
        // SAFETY: IP gives the packet away.
        let skb = unsafe { Skb::from_raw(ptr) };
        // INVARIANT: IP has delivered the packet just now, and has looked at its header.
        let packet = Packet {
            skb,
            domain: H::DOMAIN,
        };
        // SAFETY: By the safety requirement.
        let (guard, bh) = unsafe { (rcu_section::assume(), bottom_half::Guard::assume()) };
        H::receive(net, packet, guard, bh);
    }
    // Any other value would have IP go on with the packet.
    0
}

/// # Safety
///
/// For `struct net_offload`: for a packet from a device, which GRO has come to the data of, and the
/// list of those that wait; and the RCU read lock must be held.
unsafe extern "C" fn gro_receive<H: Handler>(
    held: *mut bindings::list_head,
    skb: *mut bindings::sk_buff,
) -> *mut bindings::sk_buff {
    // SAFETY: By the safety requirement; as in `receive`.
    unsafe {
        // One tunnel at most, as there is one place to remember where inner headers are.
        if bindings::skb_gro_encap_mark(skb) || bindings::skb_gro_len(skb) == 0 {
            bindings::skb_gro_flush_final(skb, ptr::null_mut(), 1);
            return ptr::null_mut();
        }
        bindings::skb_gro_set_encap_mark(skb);
        let net = Net::from_raw(bindings::skb_dev_net(skb));
        gro::receive_ethernet(held, skb, H::HEADER_LENS, |message| {
            H::mergeable(net, message)
        })
    }
}

/// # Safety
///
/// For `struct net_offload`: for a packet from a device whose data is at `at`; and the RCU read lock
/// must be held.
unsafe extern "C" fn gro_complete<H: Handler>(skb: *mut bindings::sk_buff, at: i32) -> i32 {
    // SAFETY: By the safety requirement; as in `receive`.
    unsafe {
        let net = Net::from_raw(bindings::skb_dev_net(skb));
        gso::mark(skb);
        gro::complete_ethernet(skb, at, |message| H::mergeable(net, message))
    }
}

/// What an ICMP message about a packet of ours says, other than for sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
    None,
    Mtu,
    Redirect,
}

/// What becomes of an ICMP message: `route` tells the routing table, for the way that packets of a
/// socket take, which may depend on its device, mark and owner, and says whether it did; `report`
/// queues an error for a socket that asked for it, given what the message quotes after the IP header,
/// and says whether it did.
///
/// # Safety
///
/// `skb` must be a packet that came from a device, whose data begins with the quoted IP header, of
/// `header_len` bytes; and this must be an RCU read section.
unsafe fn notify<H: Handler>(
    skb: *mut bindings::sk_buff,
    header_len: usize,
    errno: Option<i32>,
    mut route: impl FnMut(&Net, &Sock) -> bool,
    mut report: impl FnMut(&Sock, i32, *mut u8) -> bool,
) {
    // SAFETY: By the safety requirement; the linear part of the packet is initialised.
    let (net, quoted) = unsafe {
        let net = Net::from_raw(bindings::skb_dev_net(skb));
        // CAST: 32 bits fit.
        let linear = (*skb).len.wrapping_sub((*skb).data_len) as usize;
        (net, slice::from_raw_parts((*skb).data, linear))
    };
    let Some(mut payload) = quoted.get(header_len..) else {
        return;
    };
    if let Some(rest) = payload.strip_prefix(H::PREFIX) {
        payload = rest;
    }
    let mut told = None;
    H::senders(net, quoted, |sk| {
        // Once for all sockets of a kind: a peer may have hundreds.
        let kind = (sk.bound_device(), sk.mark(), sk.uid().val);
        if told != Some(kind) && route(net, sk) {
            told = Some(kind);
        }
        let Some(errno) = errno else {
            return;
        };
        if report(sk, errno, payload.as_ptr().cast_mut()) {
            // SAFETY: The socket is valid; it is woken without its lock, as by all protocols.
            unsafe {
                (&raw mut (*sk.as_ptr()).sk_err).write_volatile(errno);
                bindings::sk_error_report(sk.as_ptr());
            }
        }
    });
}

/// # Safety
///
/// For `struct net_protocol`: `skb` must be an ICMP message, its data beginning with the IP header
/// that it quotes; and the RCU read lock be held.
unsafe extern "C" fn error4<H: Handler>(skb: *mut bindings::sk_buff, info: u32) -> i32 {
    // SAFETY: ICMP gives us its packet, with the transport header where its own header is, and with
    // all of the quoted IP header in the linear part.
    let (kind, code, header_len) = unsafe {
        let icmp = bindings::icmp_hdr(skb);
        let [first] = *(*skb).data.cast::<[u8; 1]>();
        let words = usize::from(first & 0xf);
        ((*icmp).type_, (*icmp).code, words.wrapping_mul(4))
    };
    let (errno, advice) = match (kind.into(), code.into()) {
        (bindings::ICMP_DEST_UNREACH, bindings::ICMP_FRAG_NEEDED) => {
            (Some(bindings::EMSGSIZE), Advice::Mtu)
        }
        (bindings::ICMP_DEST_UNREACH, 0..=bindings::NR_ICMP_UNREACH) => {
            // SAFETY: The table has an entry for each code up to this one.
            let errno = unsafe { bindings::icmp_err_convert(code.into()) };
            (u32::try_from(errno).ok(), Advice::None)
        }
        (bindings::ICMP_PARAMETERPROB, _) => (Some(bindings::EPROTO), Advice::None),
        (bindings::ICMP_SOURCE_QUENCH, _) => return 0,
        (bindings::ICMP_REDIRECT, _) => (None, Advice::Redirect),
        _ => (Some(bindings::EHOSTUNREACH), Advice::None),
    };
    let guard = rcu::read_lock();
    // SAFETY: By the safety requirement, here and in the closures, which `notify` calls at once and
    // with a valid IPv4 socket of `H`.
    unsafe {
        notify::<H>(
            skb,
            header_len,
            // CAST: Error numbers are small.
            errno.map(|errno| errno as i32),
            |_, sk| match advice {
                Advice::None => false,
                Advice::Mtu => sk.learn_mtu(info, &guard),
                Advice::Redirect => sk.learn_redirect(skb, &guard),
            },
            |sk, errno, payload| {
                let asked = bindings::inet_recverr(sk.as_ptr());
                if asked {
                    bindings::ip_icmp_error(sk.as_ptr(), skb, errno, 0, info, payload);
                }
                asked
            },
        )
    }
    0
}

/// # Safety
///
/// As for [`error4`], of ICMPv6; the quoted payload begins `offset` bytes after the quoted header.
#[cfg(CONFIG_IPV6)]
unsafe extern "C" fn error6<H: Handler>(
    skb: *mut bindings::sk_buff,
    _opt: *mut bindings::inet6_skb_parm,
    kind: u8,
    code: u8,
    offset: i32,
    info: bindings::__be32,
) -> i32 {
    let advice = match kind.into() {
        bindings::ICMPV6_PKT_TOOBIG => Advice::Mtu,
        bindings::NDISC_REDIRECT => Advice::Redirect,
        _ => Advice::None,
    };
    let mut errno = 0;
    // SAFETY: `errno` is ours.
    unsafe { bindings::icmpv6_err_convert(kind, code, &mut errno) };
    let guard = rcu::read_lock();
    // SAFETY: By the safety requirement, here and in the closures, which `notify` calls at once and
    // with a valid namespace, and a valid IPv6 socket of `H`. The packet came from a device.
    unsafe {
        notify::<H>(
            skb,
            usize::try_from(offset).unwrap_or(usize::MAX),
            (advice != Advice::Redirect).then_some(errno),
            |net, sk| match advice {
                Advice::None => false,
                Advice::Mtu => sk.learn_mtu(u32::from_be(info), &guard),
                // Not by way of the socket's route: this one looks who has sent it.
                Advice::Redirect => {
                    let ingress = bindings::skb_dev_index(skb);
                    bindings::ip6_redirect(skb, net.as_ptr(), ingress, sk.mark(), sk.uid());
                    true
                }
            },
            |sk, errno, payload| {
                let asked = bindings::inet6_recverr(sk.as_ptr());
                if asked {
                    let info = u32::from_be(info);
                    bindings::ipv6_icmp_error(sk.as_ptr(), skb, errno, 0, info, payload);
                }
                asked
            },
        )
    }
    0
}

/// The C objects of a registration.
enum Ops {
    Inet(NonNull<bindings::net_protocol>),
    #[cfg(CONFIG_IPV6)]
    Inet6(NonNull<bindings::inet6_protocol>),
}

impl Ops {
    /// # Safety
    ///
    /// They must be registered for `H`'s protocol, and this be called once.
    unsafe fn remove<H: Handler>(&self) {
        match *self {
            // SAFETY: By the safety requirement.
            Self::Inet(ops) => unsafe { remove::<H, _>(ops, bindings::inet_del_protocol) },
            #[cfg(CONFIG_IPV6)]
            // SAFETY: As above.
            Self::Inet6(ops) => unsafe { remove::<H, _>(ops, bindings::inet6_del_protocol) },
        }
    }
}

/// A registered protocol handler. On drop, unregisters it and waits until it is not running
/// anywhere any more; sleeps.
///
/// # Invariants
///
/// `ops` and `offload` came from a `KBox`, are registered for `H::PROTOCOL`, and are freed by this
/// value.
pub struct Registration<H: Handler> {
    ops: Ops,
    offload: NonNull<bindings::net_offload>,
    _handler: PhantomData<fn() -> H>,
}

// SAFETY: Unregistering may be done by any task.
unsafe impl<H: Handler> Send for Registration<H> {}
// SAFETY: There are no methods.
unsafe impl<H: Handler> Sync for Registration<H> {}

/// Allocates `ops` and registers it with C, for `H`'s protocol.
fn add<H: Handler, T>(
    ops: T,
    add: unsafe extern "C" fn(*const T, u8) -> i32,
) -> Result<NonNull<T>> {
    let ops = KBox::into_raw(KBox::new(ops, GFP_KERNEL)?);
    // SAFETY: `ops` is valid until it is unregistered.
    if unsafe { add(ops, H::PROTOCOL) } != 0 {
        // SAFETY: It was not registered, so it is still ours alone.
        drop(unsafe { KBox::from_raw(ops) });
        return Err(EEXIST);
    }
    NonNull::new(ops).ok_or(ENOMEM)
}

/// Unregisters `ops`, and frees it.
///
/// # Safety
///
/// `ops` must have come from [`add`], with the function that undoes `del`, which waits until no CPU
/// uses it.
unsafe fn remove<H: Handler, T>(ops: NonNull<T>, del: unsafe extern "C" fn(*const T, u8) -> i32) {
    // SAFETY: By the safety requirement.
    unsafe {
        del(ops.as_ptr(), H::PROTOCOL);
        drop(KBox::from_raw(ops.as_ptr()));
    }
}

impl<H: Handler> Registration<H> {
    /// Registers `H`. `EEXIST` if its protocol has a handler already. May sleep.
    ///
    /// Packets come in from now on.
    pub fn register() -> Result<Self> {
        let offload = bindings::net_offload {
            callbacks: bindings::offload_callbacks {
                gso_segment: Some(gso::segment_ethernet),
                gro_receive: Some(gro_receive::<H>),
                gro_complete: Some(gro_complete::<H>),
            },
            ..pin_init::zeroed()
        };
        let (ops, offload) = match H::DOMAIN {
            Domain::Inet => {
                let ops = add::<H, _>(
                    bindings::net_protocol {
                        handler: Some(receive::<H>),
                        err_handler: Some(error4::<H>),
                        ..pin_init::zeroed()
                    },
                    bindings::inet_add_protocol,
                )?;
                (
                    Ops::Inet(ops),
                    add::<H, _>(offload, bindings::inet_add_offload),
                )
            }
            #[cfg(CONFIG_IPV6)]
            Domain::Inet6 => {
                let ops = add::<H, _>(
                    bindings::inet6_protocol {
                        handler: Some(receive::<H>),
                        err_handler: Some(error6::<H>),
                        // A payload, not an extension header: may come in an encapsulation, and is
                        // for us only if we have joined the group that it is addressed to.
                        flags: bindings::INET6_PROTO_FINAL,
                        ..pin_init::zeroed()
                    },
                    bindings::inet6_add_protocol,
                )?;
                (
                    Ops::Inet6(ops),
                    add::<H, _>(offload, bindings::inet6_add_offload),
                )
            }
        };
        match offload {
            // INVARIANT: Just registered.
            Ok(offload) => Ok(Self {
                ops,
                offload,
                _handler: PhantomData,
            }),
            Err(e) => {
                // SAFETY: Just registered.
                unsafe { ops.remove::<H>() };
                Err(e)
            }
        }
    }
}

impl<H: Handler> Drop for Registration<H> {
    fn drop(&mut self) {
        let del = match self.ops {
            Ops::Inet(_) => bindings::inet_del_offload,
            #[cfg(CONFIG_IPV6)]
            Ops::Inet6(_) => bindings::inet6_del_offload,
        };
        // SAFETY: By the type invariants.
        unsafe {
            remove::<H, _>(self.offload, del);
            self.ops.remove::<H>();
        }
    }
}
