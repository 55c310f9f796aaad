// SPDX-License-Identifier: GPL-2.0

//! Datagram sockets of an IP protocol of one's own.
//!
//! A type that implements [`Proto`] says how its sockets behave; [`Registration`] lets user space
//! open them. What all datagram sockets do alike is left to the C functions that all of them use.
//!
//! # Lifetimes
//!
//! The C object of a socket is allocated with the protocol's own data in it, [`Proto::Data`], and
//! freed one grace period after its last reference is gone, so that sockets may be looked up under
//! RCU (see [`super::sock_table`]). Each socket, of user space or of the kernel, holds two references
//! to the module: as a socket and as a `struct sock`. So a registration outlives its sockets.
//!
//! # Locks
//!
//! Calls of user space come in without the socket lock; [`Socket::lock`] takes it. Received packets
//! are queued without it, see [`Socket::queue`].
//!
//! C headers: [`include/net/sock.h`](srctree/include/net/sock.h),
//! [`include/linux/net.h`](srctree/include/linux/net.h)

use super::{
    datagram::Message,
    domain::Domain,
    net_namespace::Net,
    protocol::Packet,
    sock::{
        write_address,
        Sock,
        SockGuard, //
    },
    sock_table::{
        Link,
        LINKS, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    mem::{
        needs_drop,
        offset_of,
        MaybeUninit, //
    },
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    types::Opaque, //
};

/// The request number of the `ioctl` for how many bytes were sent, but have not left yet.
pub const SIOCOUTQ: u32 = bindings::SIOCOUTQ;

/// The request number of the `ioctl` for the length of the next datagram.
pub const SIOCINQ: u32 = bindings::SIOCINQ;

/// A protocol and its sockets.
///
/// The methods are called in process context, by tasks that use a socket at the same time as others
/// do, unless they take its lock. `net` is the socket's namespace. Errors go to the caller of the
/// system call.
pub trait Proto: Sized + 'static {
    /// The address family.
    const DOMAIN: Domain;

    /// The name in `/proc/net/protocols`, at most 31 bytes.
    const NAME: &'static CStr;

    /// The protocol number, which stands for the port that such sockets do not have, too.
    const PROTOCOL: u8;

    /// What a socket has besides what each internet socket has. Without destructor.
    type Data: Default + Send + Sync + 'static;

    /// What [`Proto::name`] returns: the bytes of an address.
    type Name: AsRef<[u8]>;

    /// `bind`.
    fn bind(net: &Net, sk: &Socket<Self>, address: &[u8]) -> Result;

    /// `connect` to an address whose family is not `AF_UNSPEC`, or is cut off.
    fn connect(net: &Net, sk: &Socket<Self>, address: &[u8]) -> Result;

    /// `connect` to an address of family `AF_UNSPEC`.
    fn disconnect(net: &Net, sk: &Socket<Self>) -> Result;

    /// `getsockname`, or `getpeername` if `peer`.
    fn name(sk: &Socket<Self>, peer: bool) -> Result<Self::Name>;

    /// `ioctl`s that yield a number. `ENOIOCTLCMD` leaves a request to the family.
    fn ioctl(sk: &Socket<Self>, request: u32) -> Result<i32>;

    /// `sendmsg` of `len` bytes.
    fn send(net: &Net, sk: &Socket<Self>, message: &mut Message, len: usize) -> Result;

    /// `recvmsg` into `len` bytes. Returns how many bytes there are.
    fn receive(sk: &Socket<Self>, message: &mut Message, len: usize, flags: u32) -> Result<usize>;

    /// The last user has closed the socket; packets may still come in.
    fn close(net: &Net, sk: &Socket<Self>);
}

/// The C object of a socket.
#[repr(C)]
struct Memory<P: Proto> {
    inet: bindings::inet_sock,
    links: [Link; LINKS],
    data: P::Data,
    /// Not used by IPv4, but a part of each object, so that references to it are true.
    #[cfg(CONFIG_IPV6)]
    inet6: bindings::ipv6_pinfo,
}

/// A socket of protocol `P`.
///
/// # Invariants
///
/// The object is a [`Memory<P>`] that [`init`] has been called for, and is freed no sooner than a
/// grace period after its last reference is gone.
#[repr(transparent)]
pub struct Socket<P: Proto>(Opaque<Memory<P>>);

// SAFETY: Sockets are shared by all contexts, and `P::Data` may be.
unsafe impl<P: Proto> Send for Socket<P> {}
// SAFETY: As for `Sock`; `P::Data` is `Sync`.
unsafe impl<P: Proto> Sync for Socket<P> {}

impl<P: Proto> Deref for Socket<P> {
    type Target = Sock;

    #[inline]
    fn deref(&self) -> &Sock {
        // SAFETY: By the type invariants; `inet` is the first field, and `sk` is the first of that.
        unsafe { Sock::from_raw(self.0.get().cast()) }
    }
}

impl<P: Proto> Socket<P> {
    /// Borrows a socket from C.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a socket as the type invariants say, which is not freed during `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::sock) -> &'a Self {
        // SAFETY: `Socket` is transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Borrows the socket that has `link` as number `i`.
    ///
    /// # Safety
    ///
    /// There must be such a socket, which is not freed during `'a`.
    #[inline]
    pub(super) unsafe fn from_link<'a>(link: *mut Link, i: usize) -> &'a Self {
        // SAFETY: By the safety requirement.
        unsafe {
            let links = link.sub(i).cast::<[Link; LINKS]>();
            Self::from_raw(kernel::container_of!(links, Memory<P>, links).cast())
        }
    }

    /// The link for table number `I`.
    #[inline]
    pub(super) fn link<const I: usize>(&self) -> &Link {
        const { assert!(I < LINKS) };
        // SAFETY: Valid by the type invariants, and initialised by `init`. `I` was just checked.
        unsafe { &*(&raw const (*self.0.get()).links).cast::<Link>().add(I) }
    }

    /// The protocol's own data.
    #[inline]
    pub fn data(&self) -> &P::Data {
        // SAFETY: Valid by the type invariants, and initialised by `init`.
        unsafe { &(*self.0.get()).data }
    }

    /// The IPv4 address that packets are sent from; all zero if routing decides.
    pub fn source_v4(&self) -> [u8; 4] {
        // SAFETY: Valid by the type invariants.
        unsafe { (&raw const (*self.as_inet()).inet_saddr).read_volatile() }.to_ne_bytes()
    }

    /// The same for IPv6.
    #[cfg(CONFIG_IPV6)]
    pub fn source_v6(&self) -> [u8; 16] {
        self.endpoints_v6().0
    }

    /// The flow label that is sent if the user asked to choose it himself; as on the wire.
    #[cfg(CONFIG_IPV6)]
    pub fn flow_label(&self) -> Option<[u8; 4]> {
        let np = self.as_inet6();
        // SAFETY: Valid by the type invariants.
        unsafe {
            if np.is_null() || !bindings::inet6_sndflow(self.as_ptr()) {
                return None;
            }
            Some((&raw const (*np).flow_label).read_volatile().to_ne_bytes())
        }
    }

    /// Takes the socket lock. May sleep.
    pub fn lock(&self) -> Locked<'_, P> {
        Locked {
            sk: self,
            _guard: Sock::lock(self),
        }
    }

    /// Queues a packet of the same family for whoever reads the socket, if the socket's IPsec
    /// policy, its filter and its buffer size allow. Without the socket lock, like raw sockets:
    /// the queue has a lock of its own.
    pub fn queue(&self, net: &Net, packet: Packet) {
        if !packet.allowed_by(self) {
            return;
        }
        let skb = packet.into_skb();
        // SAFETY: The packet is ours, and the socket takes it over if it likes.
        let reason = unsafe { bindings::sock_queue_rcv_skb_reason(self.as_ptr(), skb.as_ptr()) };
        match reason {
            bindings::skb_drop_reason_SKB_NOT_DROPPED_YET => {
                // The queue owns it.
                skb.into_raw();
            }
            bindings::skb_drop_reason_SKB_DROP_REASON_SOCKET_FILTER => (),
            // SAFETY: `net` is valid.
            _ => unsafe { bindings::inc_ip_in_discards(net.as_ptr()) },
        }
    }

    /// Bytes that were sent, but have not left yet.
    pub fn unsent(&self) -> i32 {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::sk_wmem_alloc_get(self.as_ptr()) }
    }

    /// The length of the next datagram to be read, or 0.
    pub fn next_len(&self) -> u32 {
        // SAFETY: Valid by the type invariants; the lock keeps the packet in the queue.
        unsafe {
            let queue = &raw mut (*self.as_ptr()).sk_receive_queue;
            bindings::spin_lock_bh(&raw mut (*queue).lock);
            let skb = bindings::skb_peek(queue);
            let len = if skb.is_null() { 0 } else { (*skb).len };
            bindings::spin_unlock_bh(&raw mut (*queue).lock);
            len
        }
    }
}

/// A socket with its lock held.
pub struct Locked<'a, P: Proto> {
    sk: &'a Socket<P>,
    _guard: SockGuard<'a>,
}

impl<P: Proto> Deref for Locked<'_, P> {
    type Target = Socket<P>;

    fn deref(&self) -> &Socket<P> {
        self.sk
    }
}

impl<P: Proto> Locked<'_, P> {
    /// Whether [`Locked::set_bound`] was called.
    pub fn is_bound(&self) -> bool {
        // SAFETY: The socket is valid.
        !unsafe { bindings::sock_flag(self.as_ptr(), bindings::sock_flags_SOCK_ZAPPED) }
    }

    /// Whether the socket is not connected.
    pub fn is_closed(&self) -> bool {
        // SAFETY: The socket is valid.
        let state = unsafe { (&raw const (*self.common()).skc_state).read_volatile() };
        u32::from(state) == bindings::TCP_CLOSE
    }

    /// Remembers that the socket is bound.
    pub fn set_bound(&self) {
        // SAFETY: The socket is valid, and locked.
        unsafe {
            bindings::sk_dst_reset(self.as_ptr());
            bindings::sock_reset_flag(self.as_ptr(), bindings::sock_flags_SOCK_ZAPPED);
        }
    }

    /// Sets the address that packets must be sent to to be received, and the one that they are sent
    /// from; each all zero for any.
    pub fn set_local_v4(&self, receive: [u8; 4], source: [u8; 4]) {
        // SAFETY: The socket is valid, and locked. Readers without the lock read single words.
        unsafe {
            let addresses = &raw mut (*self.common()).__bindgen_anon_1.__bindgen_anon_1;
            (&raw mut (*addresses).skc_rcv_saddr).write_volatile(u32::from_ne_bytes(receive));
            (&raw mut (*self.as_inet()).inet_saddr).write_volatile(u32::from_ne_bytes(source));
        }
    }

    /// Sets the IPv6 address that packets are received and sent with, all zero for any, and the
    /// device, 0 for any.
    #[cfg(CONFIG_IPV6)]
    pub fn set_local_v6(&self, address: [u8; 16], device: u32) {
        let np = self.as_inet6();
        // SAFETY: The socket is valid, and locked.
        unsafe {
            write_address(&raw mut (*self.common()).skc_v6_rcv_saddr, address);
            if !np.is_null() {
                write_address(&raw mut (*np).saddr, address);
            }
            // CAST: Interface indices fit in an `int`.
            (&raw mut (*self.common()).skc_bound_dev_if).write_volatile(device as i32);
        }
    }

    /// Connects the socket to an address in the form of its family: routes, sets the addresses and
    /// the state. An `AF_INET6` socket may be connected to a mapped IPv4 address.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EAFNOSUPPORT`, what routing says, `EACCES` for a broadcast address.
    pub fn connect(&self, address: &[u8]) -> Result {
        #[repr(C, align(8))]
        struct Storage([u8; 128]);
        let mut storage = Storage([0; 128]);
        let room = storage.0.get_mut(..address.len()).ok_or(EINVAL)?;
        for (to, from) in room.iter_mut().zip(address) {
            *to = *from;
        }
        // CAST: At most 128.
        let len = address.len() as i32;
        let storage = storage.0.as_mut_ptr().cast();
        // SAFETY: The socket is valid, of this family, and locked; the address is ours.
        to_result(unsafe { (P::DOMAIN.functions().connect)(self.as_ptr(), storage, len) })
    }

    /// Undoes [`Locked::connect`], and forgets the local address and the device, too.
    pub fn disconnect(&self) -> Result {
        // SAFETY: The socket is valid, of a datagram protocol, and locked. C does not forget an IPv6
        // peer; the field is there in each socket.
        unsafe {
            #[cfg(CONFIG_IPV6)]
            write_address(&raw mut (*self.common()).skc_v6_daddr, [0; 16]);
            to_result(bindings::__udp_disconnect(self.as_ptr(), 0))
        }
    }
}

/// What sort of address an IPv4 address is, for the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// An address of this host.
    Local,
    /// Broadcast or multicast.
    Group,
    /// Somebody else's, or nobody's.
    Other,
}

impl Net {
    /// What sort of address `address` is. Process context.
    pub fn address_type_v4(&self, address: [u8; 4]) -> AddressType {
        // SAFETY: The namespace is valid.
        match unsafe { bindings::inet_addr_type(self.as_ptr(), u32::from_ne_bytes(address)) } {
            bindings::RTN_LOCAL => AddressType::Local,
            bindings::RTN_BROADCAST | bindings::RTN_MULTICAST => AddressType::Group,
            _ => AddressType::Other,
        }
    }

    /// Whether `address` is one of this host, of device number `device` unless that is 0. `ENODEV`
    /// if there is no such device.
    #[cfg(CONFIG_IPV6)]
    pub fn has_address_v6(&self, address: [u8; 16], device: u32) -> Result<bool> {
        let mut addr = bindings::in6_addr::default();
        addr.in6_u.u6_addr8 = address;
        // CAST: Numbers that are too large are no device's, as negative ones are not.
        let device = device as i32;
        let _guard = kernel::sync::rcu::read_lock();
        // SAFETY: The namespace is valid; the RCU read lock is held.
        unsafe {
            if device != 0 && !bindings::dev_exists(self.as_ptr(), device) {
                return Err(ENODEV);
            }
            Ok(bindings::ipv6_chk_addr_on(self.as_ptr(), &addr, device))
        }
    }
}

/// Calls `method` with the socket that C calls a slot of `proto` with, and its namespace.
///
/// # Safety
///
/// `sk` must be an open socket of `P`: neither is it freed, nor does its namespace exit, during the
/// call.
unsafe fn call<P: Proto>(
    sk: *mut bindings::sock,
    method: impl FnOnce(&Net, &Socket<P>) -> Result<i32>,
) -> i32 {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let (net, sk) = unsafe {
            let sk = Socket::<P>::from_raw(sk);
            (sk.net(), sk)
        };
        method(net, sk)
    })
}

/// The bytes of an address.
///
/// # Safety
///
/// `address` must point to `len` initialised bytes that nobody changes during `'a`.
unsafe fn bytes<'a>(address: *mut bindings::sockaddr_unsized, len: i32) -> &'a [u8] {
    match usize::try_from(len) {
        // SAFETY: By the safety requirement.
        Ok(len) if !address.is_null() => unsafe { slice::from_raw_parts(address.cast(), len) },
        _ => &[],
    }
}

/// # Safety
///
/// For `struct proto`: `sk` must be a new socket, in the memory of a [`Memory<P>`], zero where it is
/// ours.
unsafe extern "C" fn init<P: Proto>(sk: *mut bindings::sock) -> i32 {
    let memory = sk.cast::<Memory<P>>();
    // SAFETY: `inet_create` and `inet6_create` call this for a socket just made, which nobody else
    // knows. The part of it that is ours is zero.
    unsafe {
        for i in 0..LINKS {
            Link::init((&raw mut (*memory).links).cast::<Link>().add(i));
        }
        (&raw mut (*memory).data).write(P::Data::default());
        // A socket without a port would be given one.
        let common = &raw mut (*sk).__sk_common;
        (*common).__bindgen_anon_3.__bindgen_anon_1.skc_num = P::PROTOCOL.into();
        // INVARIANT: This defers the free.
        bindings::sock_set_flag(sk, bindings::sock_flags_SOCK_RCU_FREE);
    }
    0
}

/// # Safety
///
/// For `struct proto`: `sk` must be a socket of `P` whose last user has gone.
unsafe extern "C" fn close<P: Proto>(sk: *mut bindings::sock, _timeout: isize) {
    // SAFETY: Called once, when the socket's last user has gone; nobody else has the reference that
    // `sk_common_release` gives up.
    unsafe {
        call::<P>(sk, |net, sk| {
            P::close(net, sk);
            Ok(0)
        });
        bindings::sk_common_release(sk);
    }
}

/// # Safety
///
/// For `struct proto`: `sk` must be a socket of `P` without user, as `sk_common_release` calls it.
unsafe extern "C" fn destroy<P: Proto>(sk: *mut bindings::sock) {
    // SAFETY: By the safety requirement.
    unsafe { (P::DOMAIN.functions().flush)(sk) }
}

/// # Safety
///
/// For `struct proto`: `sk` must be an open socket of `P`, and `address` have `len` bytes.
unsafe extern "C" fn bind<P: Proto>(
    sk: *mut bindings::sock,
    address: *mut bindings::sockaddr_unsized,
    len: i32,
) -> i32 {
    // SAFETY: By the safety requirement; the address was copied into the kernel.
    unsafe {
        let address = bytes(address, len);
        call::<P>(sk, |net, sk| P::bind(net, sk, address).map(|()| 0))
    }
}

/// # Safety
///
/// As for [`bind`].
unsafe extern "C" fn connect<P: Proto>(
    sk: *mut bindings::sock,
    address: *mut bindings::sockaddr_unsized,
    len: i32,
) -> i32 {
    // SAFETY: As for `bind`.
    unsafe {
        let address = bytes(address, len);
        call::<P>(sk, |net, sk| P::connect(net, sk, address).map(|()| 0))
    }
}

/// # Safety
///
/// For `struct proto`: `sk` must be an open socket of `P`.
unsafe extern "C" fn disconnect<P: Proto>(sk: *mut bindings::sock, _flags: i32) -> i32 {
    // SAFETY: By the safety requirement.
    unsafe { call::<P>(sk, |net, sk| P::disconnect(net, sk).map(|()| 0)) }
}

/// # Safety
///
/// For `struct proto`: `sk` must be an open socket of `P`, and `arg` be valid for writes.
unsafe extern "C" fn ioctl<P: Proto>(sk: *mut bindings::sock, request: i32, arg: *mut i32) -> i32 {
    // SAFETY: By the safety requirement; `arg` is the caller's variable.
    unsafe {
        call::<P>(sk, |_, sk| {
            // CAST: The number of a request is a bit pattern.
            *arg = P::ioctl(sk, request as u32)?;
            Ok(0)
        })
    }
}

/// # Safety
///
/// For `struct proto`: `sk` must be an open socket of `P`, and `msg` a message with `len` bytes.
unsafe extern "C" fn sendmsg<P: Proto>(
    sk: *mut bindings::sock,
    msg: *mut bindings::msghdr,
    len: usize,
) -> i32 {
    // SAFETY: By the safety requirement.
    unsafe {
        let message = Message::from_raw(msg);
        call::<P>(sk, |net, sk| {
            P::send(net, sk, message, len)?;
            Ok(i32::try_from(len)?)
        })
    }
}

/// # Safety
///
/// For `struct proto`: `sk` must be an open socket of `P`, and `msg` a message with room for `len`
/// bytes, and for an address if it has a name.
unsafe extern "C" fn recvmsg<P: Proto>(
    sk: *mut bindings::sock,
    msg: *mut bindings::msghdr,
    len: usize,
    flags: i32,
) -> i32 {
    // SAFETY: By the safety requirement.
    unsafe {
        let message = Message::from_raw(msg);
        call::<P>(sk, |_, sk| {
            // CAST: Flags are a bit pattern.
            let len = P::receive(sk, message, len, flags as u32)?;
            Ok(i32::try_from(len)?)
        })
    }
}

/// # Safety
///
/// For `struct proto_ops`: `socket` must be an open socket of `P`, and `address` have room for the
/// longest of addresses.
unsafe extern "C" fn getname<P: Proto>(
    socket: *mut bindings::socket,
    address: *mut bindings::sockaddr,
    peer: i32,
) -> i32 {
    // SAFETY: By the safety requirement.
    unsafe {
        call::<P>((*socket).sk, |_, sk| {
            let name = P::name(sk, peer != 0)?;
            let name = name.as_ref();
            let len = name
                .len()
                .min(size_of::<bindings::__kernel_sockaddr_storage>());
            ptr::copy_nonoverlapping(name.as_ptr(), address.cast(), len);
            // CAST: At most 128.
            Ok(len as i32)
        })
    }
}

/// Not used: sockets are in tables of the protocol's own.
extern "C" fn hash(_sk: *mut bindings::sock) -> i32 {
    0
}

/// As `hash`.
extern "C" fn unhash(_sk: *mut bindings::sock) {}

/// The C objects of a registration, which point at each other.
struct Objects {
    proto: bindings::proto,
    ops: bindings::proto_ops,
    protosw: bindings::inet_protosw,
}

impl Objects {
    fn proto<P: Proto>(module: *mut bindings::module) -> bindings::proto {
        const { assert!(!needs_drop::<P::Data>()) };
        // SAFETY: Zero means none for each of the pointers and numbers it consists of.
        let mut proto: bindings::proto = unsafe { MaybeUninit::zeroed().assume_init() };
        proto.owner = module;
        proto.init = Some(init::<P>);
        proto.close = Some(close::<P>);
        proto.destroy = Some(destroy::<P>);
        proto.bind = Some(bind::<P>);
        proto.connect = Some(connect::<P>);
        proto.disconnect = Some(disconnect::<P>);
        proto.ioctl = Some(ioctl::<P>);
        proto.sendmsg = Some(sendmsg::<P>);
        proto.recvmsg = Some(recvmsg::<P>);
        proto.hash = Some(hash);
        proto.unhash = Some(unhash);
        proto.setsockopt = Some(P::DOMAIN.functions().setsockopt);
        proto.getsockopt = Some(P::DOMAIN.functions().getsockopt);
        // CAST: Sizes of C structures fit, here and below.
        proto.obj_size = size_of::<Memory<P>>() as u32;
        #[cfg(CONFIG_IPV6)]
        if P::DOMAIN == Domain::Inet6 {
            proto.ipv6_pinfo_offset = offset_of!(Memory<P>, inet6) as u32;
        }
        let (_, room) = proto.name.split_last_mut().unwrap_or((&mut 0, &mut []));
        for (to, from) in room.iter_mut().zip(P::NAME.to_bytes()) {
            *to = *from;
        }
        proto
    }

    fn ops<P: Proto>(module: *mut bindings::module) -> bindings::proto_ops {
        let functions = P::DOMAIN.functions();
        bindings::proto_ops {
            family: P::DOMAIN.family().into(),
            owner: module,
            release: Some(functions.release),
            bind: Some(functions.bind),
            connect: Some(bindings::inet_dgram_connect),
            socketpair: Some(bindings::sock_no_socketpair),
            accept: Some(bindings::sock_no_accept),
            getname: Some(getname::<P>),
            poll: Some(bindings::datagram_poll),
            ioctl: Some(functions.ioctl),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: functions.compat_ioctl,
            gettstamp: Some(bindings::sock_gettstamp),
            listen: Some(bindings::sock_no_listen),
            shutdown: Some(bindings::inet_shutdown),
            setsockopt: Some(bindings::sock_common_setsockopt),
            getsockopt: Some(bindings::sock_common_getsockopt),
            sendmsg: Some(bindings::inet_sendmsg),
            recvmsg: Some(bindings::sock_common_recvmsg),
            mmap: Some(bindings::sock_no_mmap),
            ..pin_init::zeroed()
        }
    }
}

/// A registered protocol. Unregisters on drop; sleeps.
///
/// # Invariants
///
/// `objects` came from a `KBox`, and is freed by this value. Its `proto` is registered; so is its
/// `protosw`, if `open`.
pub struct Registration<P: Proto> {
    objects: NonNull<Objects>,
    open: bool,
    _proto: PhantomData<fn() -> P>,
}

// SAFETY: Unregistering may be done by any task.
unsafe impl<P: Proto> Send for Registration<P> {}
// SAFETY: There are no methods.
unsafe impl<P: Proto> Sync for Registration<P> {}

impl<P: Proto> Registration<P> {
    /// Registers `P`, of which sockets can be opened after [`Registration::open`]. May sleep.
    ///
    /// They keep `module`, which must be the one that `P` is in, and which must keep this value as
    /// long as it is loaded.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOBUFS`.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let owner: *mut bindings::module = module.as_ptr().cast();
        let objects = KBox::new(
            Objects {
                proto: Objects::proto::<P>(owner),
                ops: Objects::ops::<P>(owner),
                protosw: bindings::inet_protosw {
                    // CAST: Socket types are small.
                    type_: bindings::sock_type_SOCK_DGRAM as u16,
                    protocol: P::PROTOCOL.into(),
                    ..pin_init::zeroed()
                },
            },
            GFP_KERNEL,
        )?;
        let objects = KBox::into_raw(objects);
        // SAFETY: `objects` is valid; from here on it is used through pointers only.
        let proto = unsafe {
            (*objects).protosw.prot = &raw mut (*objects).proto;
            (*objects).protosw.ops = &raw const (*objects).ops;
            &raw mut (*objects).proto
        };
        // SAFETY: `proto` is complete, and stays where it is until it is unregistered.
        if let Err(e) = to_result(unsafe { bindings::proto_register(proto, 1) }) {
            // SAFETY: It was not registered, so it is still ours alone.
            drop(unsafe { KBox::from_raw(objects) });
            return Err(e);
        }
        // INVARIANT: Just registered.
        Ok(Self {
            objects: NonNull::new(objects).ok_or(ENOMEM)?,
            open: false,
            _proto: PhantomData,
        })
    }

    /// Lets sockets be opened, by anybody. Once that is so, the module's initialisation must not
    /// fail any more: a module that fails to initialise is freed, even if sockets keep it. So this
    /// cannot fail, either: were the number that of a protocol which the kernel does not give up,
    /// there would be no sockets, and a line in the log.
    pub fn open(&mut self) {
        if self.open {
            return;
        }
        // SAFETY: By the type invariants the entry is complete, and stays where it is until it is
        // unregistered.
        let protosw = unsafe { &raw mut (*self.objects.as_ptr()).protosw };
        // SAFETY: As above.
        let registered = to_result(unsafe { (P::DOMAIN.functions().register)(protosw) });
        if registered.is_err() {
            pr_err!(
                "the kernel has a protocol of its own in place of {}\n",
                P::NAME
            );
        }
        // INVARIANT: It was just registered.
        self.open = registered.is_ok();
    }
}

impl<P: Proto> Drop for Registration<P> {
    fn drop(&mut self) {
        let objects = self.objects.as_ptr();
        if self.open {
            // SAFETY: By the type invariants. This waits for a grace period, so that nobody looks at
            // the entry any more.
            unsafe {
                (P::DOMAIN.functions().unregister)(&raw mut (*objects).protosw);
            }
        }
        // SAFETY: By the type invariants. There are no sockets: none was opened, or the module's
        // initialisation has succeeded, and each one kept the module.
        unsafe {
            bindings::proto_unregister(&raw mut (*objects).proto);
            drop(KBox::from_raw(objects));
        }
    }
}
