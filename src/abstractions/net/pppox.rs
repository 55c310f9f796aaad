// SPDX-License-Identifier: GPL-2.0

//! PPP over something: sockets of family `AF_PPPOX`.
//!
//! Such a socket is connected to a [peer](Proto::Peer), once and for good, and is a channel of
//! generic PPP from then on. As long as nobody has asked for the number of that channel, the owner
//! of the socket reads the frames himself; from then on generic PPP gets them. Frames may be sent
//! both ways at all times.
//!
//! C headers: [`include/linux/if_pppox.h`](srctree/include/linux/if_pppox.h),
//! [`include/linux/net.h`](srctree/include/linux/net.h)
//!
//! # Lifetimes
//!
//! A connected socket owns its peer, until a grace period after the socket's last reference is gone.
//! The way back is no reference: the peer has a [`SocketPtr`], which points to the socket from
//! `connect` on until the socket is closed, or the peer gives it up ([`SocketPtr::close`]). In the
//! latter case the socket stays connected and its channel registered, but frames do not pass any
//! more, and to its owner it seems to have no peer.
//!
//! Closing a socket first clears the pointer, then unregisters the channel, which waits until no
//! frame is being sent. Who has found the socket through the pointer is in an RCU read section, and
//! both the socket and what generic PPP keeps for its channel are freed a grace period later.
//!
//! Each socket holds two references to the module: as a socket and as a `struct sock`. So a
//! registration outlives its sockets.
//!
//! # Locks
//!
//! The socket lock is held by `connect` (for as long as it has a [`Locked`]), by closing and by
//! `ioctl`. Frames pass without it.

use super::{
    datagram::Message,
    net_namespace::Net,
    ppp_channel::{
        Carrier,
        Channel,
        Config, //
    },
    skbuff::{
        DropReason,
        Skb, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
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
    ffi,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        rcu, //
    },
    types::Opaque,
    uaccess::UserPtr, //
};

/// A protocol and its sockets.
///
/// The methods are called in process context, by tasks that use a socket at the same time as others
/// do, and without the socket lock, unless they say otherwise. `net` is the socket's namespace.
/// Errors go to the caller of the system call.
pub trait Proto: Sized + 'static {
    /// The name in `/proc/net/protocols`, at most 31 bytes.
    const NAME: &'static CStr;

    /// The protocol number, `PX_PROTO_*`.
    const PROTOCOL: u32;

    /// The level of the socket options.
    const LEVEL: u32;

    /// What a socket is connected to. May be dropped in a softirq.
    type Peer: Send + Sync + 'static;

    /// What [`Proto::name`] returns: the bytes of an address.
    type Name: AsRef<[u8]>;

    /// Where a registration is kept. Return a `static`.
    fn slot() -> &'static Slot<Self>;

    /// What points from a peer to its socket. Asked for once, when a socket is connected.
    fn pointer(peer: &Self::Peer) -> &SocketPtr<Self>;

    /// `connect`. Ends in [`Locked::connect`] if all is well.
    fn connect(net: &Net, sk: &Socket<Self>, address: &[u8]) -> Result;

    /// The last user has closed a connected socket. The socket lock is held.
    fn closed(net: &Net, peer: &Self::Peer);

    /// `getsockname` and `getpeername`.
    fn name(peer: &Self::Peer) -> Result<Self::Name>;

    /// `sendmsg` of `len` bytes.
    fn send(sk: &Socket<Self>, peer: &Self::Peer, message: &mut Message, len: usize) -> Result;

    /// `setsockopt`.
    fn set_option(net: &Net, peer: &Self::Peer, option: i32, value: i32) -> Result;

    /// `getsockopt`.
    fn option(peer: &Self::Peer, option: i32) -> Result<i32>;

    /// `ioctl`s other than `PPPIOCGCHAN`, of sockets with and without peer. `ENOIOCTLCMD` leaves a
    /// request to others. The socket lock is held.
    fn ioctl(net: &Net, peer: Option<&Self::Peer>, request: u32, arg: UserPtr) -> Result;

    /// Generic PPP sends a frame. See [`Carrier::start_xmit`].
    fn start_xmit(peer: &Self::Peer, skb: Skb);

    /// A frame was dropped instead. See [`Carrier::dropped`].
    fn dropped(peer: &Self::Peer);
}

/// The C object of a socket.
#[repr(C)]
struct Memory<P: Proto> {
    pppox: bindings::pppox_sock,
    /// Whether `peer` is there to stay.
    connected: Atomic<bool>,
    /// Before `connected`, for the one who has the socket lock.
    peer: UnsafeCell<Option<P::Peer>>,
}

/// A socket of protocol `P`.
///
/// # Invariants
///
/// The object is a [`Memory<P>`] that [`create`] has set up, and is freed no sooner than a grace
/// period after its last reference is gone. If it is connected, `peer` is there and does not change
/// until then.
#[repr(transparent)]
pub struct Socket<P: Proto>(Opaque<Memory<P>>);

// SAFETY: Sockets are shared by all contexts, and so may the peer be.
unsafe impl<P: Proto> Send for Socket<P> {}
// SAFETY: The methods take the locks that C takes, or read single words that C reads without a lock
// as well; the peer is `Sync`.
unsafe impl<P: Proto> Sync for Socket<P> {}

impl<P: Proto> Socket<P> {
    /// Borrows a socket from C.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a socket as the type invariants say, which is not freed during `'a`.
    #[inline]
    unsafe fn from_raw<'a>(ptr: *mut bindings::sock) -> &'a Self {
        // SAFETY: `Socket` is transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    #[inline]
    fn as_ptr(&self) -> *mut bindings::sock {
        // By the type invariants; `pppox` is the first field, and `sk` is the first of that.
        self.0.get().cast()
    }

    /// The namespace.
    fn net(&self) -> &Net {
        // SAFETY: Valid by the type invariants. A socket of user space keeps its namespace.
        unsafe { Net::from_raw(bindings::sock_net(self.as_ptr())) }
    }

    /// The state, a set of `PPPOX_*`.
    #[inline]
    pub fn state(&self) -> u8 {
        // SAFETY: Valid by the type invariants.
        unsafe { (&raw const (*self.as_ptr()).__sk_common.skc_state).read_volatile() }
    }

    /// The channel. It is registered if the socket is connected and has one.
    #[inline]
    pub fn channel(&self) -> &Channel {
        // SAFETY: Valid by the type invariants. Registered by `Locked::connect` only.
        unsafe { Channel::from_raw(&raw mut (*self.0.get()).pppox.chan) }
    }

    /// What the socket was connected to.
    #[inline]
    fn connected(&self) -> Option<&P::Peer> {
        let memory = self.0.get();
        // SAFETY: Valid by the type invariants, and initialised by `create`.
        if !unsafe { &(*memory).connected }.load(Acquire) {
            return None;
        }
        // SAFETY: By the type invariants it does not change any more.
        unsafe { (*(*memory).peer.get()).as_ref() }
    }

    /// The peer, unless it has given up the socket.
    #[inline]
    pub fn peer(&self) -> Option<&P::Peer> {
        self.connected().filter(|peer| P::pointer(peer).is(self))
    }

    /// The peer, or the errno that tells whether there was one.
    fn peer_or_errno(&self) -> Result<&P::Peer> {
        let peer = self.connected().ok_or(ENOTCONN)?;
        if P::pointer(peer).is(self) {
            Ok(peer)
        } else {
            Err(EBADF)
        }
    }

    /// Takes the socket lock. May sleep.
    pub fn lock(&self) -> Locked<'_, P> {
        // SAFETY: Valid by the type invariants.
        unsafe { bindings::lock_sock(self.as_ptr()) };
        Locked { sk: self }
    }

    /// Hands a frame that was received to generic PPP, or to whoever reads the socket. Bottom halves
    /// must be off.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if the socket does not take it.
    #[inline]
    pub fn deliver(&self, mut skb: Skb, guard: &rcu::Guard) -> Result {
        skb.orphan();
        if u32::from(self.state()) & bindings::PPPOX_BOUND != 0 {
            self.channel().input(skb, guard);
            return Ok(());
        }
        // SAFETY: The packet is ours, and the socket takes it over if it likes.
        let reason = unsafe { bindings::sock_queue_rcv_skb_reason(self.as_ptr(), skb.as_ptr()) };
        if reason != bindings::skb_drop_reason_SKB_NOT_DROPPED_YET {
            skb.discard(DropReason::from_raw(reason));
            return Err(ENOBUFS);
        }
        // The queue owns it.
        skb.into_raw();
        Ok(())
    }

    /// Makes a packet of `head` and `len` bytes of data, charged to the socket, with `headroom`
    /// bytes before it. May sleep.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `ENOMEM`, also if too much was sent and has not left yet.
    pub fn packet(
        &self,
        headroom: usize,
        head: &[u8],
        message: &mut Message,
        len: usize,
    ) -> Result<Skb> {
        let total = head.len().checked_add(len).ok_or(EMSGSIZE)?;
        let size = total.checked_add(headroom).ok_or(EMSGSIZE)?;
        let (total, headroom) = (u32::try_from(total)?, i32::try_from(headroom)?);
        // SAFETY: The socket is valid; the task may sleep.
        let skb = unsafe { bindings::sock_wmalloc(self.as_ptr(), size, 0, bindings::GFP_KERNEL) };
        let skb = NonNull::new(skb).ok_or(ENOMEM)?;
        // SAFETY: Just made, and ours.
        let skb = unsafe { Skb::from_raw(skb) };
        // SAFETY: There is room for `size` bytes in the empty packet, whose memory nobody else uses.
        // `head` is not longer than `total`, and `len` is the rest.
        let rest = unsafe {
            bindings::skb_reserve(skb.as_ptr(), headroom);
            let data = bindings::skb_put(skb.as_ptr(), total).cast::<u8>();
            ptr::copy_nonoverlapping(head.as_ptr(), data, head.len());
            slice::from_raw_parts_mut(data.add(head.len()).cast::<MaybeUninit<u8>>(), len)
        };
        message.copy_to(rest)?;
        Ok(skb)
    }

    /// Gives the next frame that was received to user space, of which `len` bytes are wanted.
    fn receive(&self, message: &Message, len: usize, flags: u32) -> Result<usize> {
        if u32::from(self.state()) & bindings::PPPOX_BOUND != 0 {
            return Err(EIO);
        }
        let mut err = 0;
        // SAFETY: The socket is valid, and `err` is ours.
        let skb = unsafe { bindings::skb_recv_datagram(self.as_ptr(), flags, &mut err) };
        if skb.is_null() {
            return Err(to_result(err).err().unwrap_or(EAGAIN));
        }
        // SAFETY: Packet and message are valid; queued packets do not change. We own a reference to
        // the packet, which is given up last.
        // CAST: Packets are far shorter than 2^31 bytes.
        unsafe {
            let whole = (*skb).len as usize;
            let copied = whole.min(len);
            let ret = bindings::skb_copy_datagram_msg(skb, 0, message.as_ptr(), copied as i32);
            if copied < whole {
                (*message.as_ptr()).msg_flags |= bindings::MSG_TRUNC;
            }
            bindings::skb_free_datagram(self.as_ptr(), skb);
            to_result(ret).map(|()| copied)
        }
    }
}

impl<P: Proto> Carrier for Socket<P> {
    #[inline]
    fn start_xmit(&self, skb: Skb) {
        if let Some(peer) = self.peer() {
            P::start_xmit(peer, skb);
        }
    }

    fn dropped(&self) {
        if let Some(peer) = self.peer() {
            P::dropped(peer);
        }
    }
}

/// A socket with its lock held.
pub struct Locked<'a, P: Proto> {
    sk: &'a Socket<P>,
}

impl<P: Proto> Deref for Locked<'_, P> {
    type Target = Socket<P>;

    fn deref(&self) -> &Socket<P> {
        self.sk
    }
}

impl<P: Proto> Drop for Locked<'_, P> {
    fn drop(&mut self) {
        // SAFETY: `Socket::lock` has taken it.
        unsafe { bindings::release_sock(self.as_ptr()) }
    }
}

impl<P: Proto> Locked<'_, P> {
    /// Whether the socket is, or was, connected.
    pub fn is_connected(&self) -> bool {
        self.connected().is_some()
    }

    /// Connects the socket to `peer`, and registers its channel if it is to have one. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is connected; `EEXIST` if the peer has, or had, another socket; `ENODEV` if it
    /// wants none any more; `ENOMEM`. Nothing has changed then.
    pub fn connect(&self, peer: P::Peer, channel: Option<&Config>) -> Result {
        if self.is_connected() {
            return Err(EBUSY);
        }
        let memory = self.sk.0.get();
        // SAFETY: The socket is locked, and not connected, so that nobody else uses the cell.
        let cell = unsafe { &mut *(*memory).peer.get() };
        let pointer = P::pointer(cell.insert(peer));
        // Nothing is received until all is well: it would stay in the queue of a socket that might
        // be connected to another peer next.
        pointer.reserve().inspect_err(|_| {
            // SAFETY: As above; the pointer did not change.
            drop(unsafe { (*(*memory).peer.get()).take() });
        })?;
        if let Some(config) = channel {
            // SAFETY: The socket is not connected, and locked, so that the channel is not
            // registered. `release` unregisters it; by the type invariants the socket stays for a
            // grace period after that.
            let registered = unsafe { self.channel().register(self.net(), self.sk, config) };
            registered.inspect_err(|_| {
                pointer.undo();
                // SAFETY: As above.
                drop(unsafe { (*(*memory).peer.get()).take() });
            })?;
        }
        pointer.attach(self.sk);
        // SAFETY: Valid and initialised by the type invariants of `Socket`; its state is written
        // with the lock held.
        // INVARIANT: Nobody changes the peer of a connected socket.
        unsafe {
            (*memory).connected.store(true, Release);
            (&raw mut (*self.as_ptr()).__sk_common.skc_state)
                // CAST: A small number.
                .write_volatile(bindings::PPPOX_CONNECTED as u8);
        }
        Ok(())
    }
}

/// A pointer from a peer to its socket, of which it has one in its life.
///
/// It does not keep the socket: readers must be in an RCU read section. It belongs to the peer of
/// the socket that it points to ([`Proto::pointer`]), so that it lives at least as long.
///
/// # Invariants
///
/// `sk` is [`FREE`], [`RESERVED`], [`USED`] or [`CLOSED`], or points to a socket whose closing has not
/// come to [`SocketPtr::leave`]. A grace period passes between that and its end.
pub struct SocketPtr<P: Proto> {
    sk: Atomic<*mut Socket<P>>,
}

/// There was no socket yet. Addresses, as are the other three, where no socket is.
const FREE: usize = 0;
/// One is being connected.
const RESERVED: usize = 1;
/// There was one.
const USED: usize = 2;
/// There will be none any more.
const CLOSED: usize = 3;

impl<P: Proto> SocketPtr<P> {
    /// A pointer that is free.
    pub const fn new() -> Self {
        // INVARIANT: Free.
        Self {
            sk: Atomic::new(ptr::null_mut()),
        }
    }

    /// A pointer that is closed: nothing can be connected.
    pub const fn closed() -> Self {
        // INVARIANT: Closed.
        Self {
            sk: Atomic::new(ptr::without_provenance_mut(CLOSED)),
        }
    }

    fn special(address: usize) -> *mut Socket<P> {
        ptr::without_provenance_mut(address)
    }

    #[inline]
    fn load(&self) -> *mut Socket<P> {
        self.sk.load(Acquire)
    }

    /// Whether this points to `sk`.
    #[inline]
    pub fn is(&self, sk: &Socket<P>) -> bool {
        ptr::eq(self.sk.load(Relaxed), sk)
    }

    /// The socket. Any context.
    #[inline]
    pub fn get<'a>(&self, _guard: &'a rcu::Guard) -> Option<&'a Socket<P>> {
        let sk = self.load();
        if sk.addr() <= CLOSED {
            return None;
        }
        // SAFETY: By the type invariants, the socket stays for this RCU read section.
        Some(unsafe { &*sk })
    }

    /// Takes the pointer for a socket that is being connected.
    fn reserve(&self) -> Result {
        let new = Self::special(RESERVED);
        match self.sk.cmpxchg(Self::special(FREE), new, Full) {
            Ok(_) => Ok(()),
            Err(other) if other.addr() == CLOSED => Err(ENODEV),
            Err(_) => Err(EEXIST),
        }
    }

    /// Frees the pointer again, after [`SocketPtr::reserve`] and instead of [`SocketPtr::attach`].
    fn undo(&self) {
        let reserved = Self::special(RESERVED);
        let _ = self.sk.cmpxchg(reserved, Self::special(FREE), Full);
    }

    /// Points to `sk`, for which the pointer was reserved, unless it was closed since.
    fn attach(&self, sk: &Socket<P>) {
        let new = ptr::from_ref(sk).cast_mut();
        // INVARIANT: The socket is open, and its closing will come to `leave`.
        let _ = self.sk.cmpxchg(Self::special(RESERVED), new, Full);
    }

    /// Gives up `sk`, if it has not been given up before.
    fn leave(&self, sk: &Socket<P>) {
        let old = ptr::from_ref(sk).cast_mut();
        let _ = self.sk.cmpxchg(old, Self::special(USED), Full);
    }

    /// Gives up the socket if there is one, and refuses others from now on. Any context.
    pub fn close(&self) {
        self.sk.xchg(Self::special(CLOSED), Full);
    }
}

/// The socket behind a C socket.
///
/// # Safety
///
/// `sock` must be an open socket of `P` for `'a`.
#[inline]
unsafe fn open<'a, P: Proto>(sock: *mut bindings::socket) -> &'a Socket<P> {
    // SAFETY: By the safety requirement.
    unsafe { Socket::from_raw((*sock).sk) }
}

/// # Safety
///
/// For `struct pppox_proto`: `sock` must be a new socket of `net`.
unsafe extern "C" fn create<P: Proto>(
    net: *mut bindings::net,
    sock: *mut bindings::socket,
    kern: ffi::c_int,
) -> ffi::c_int {
    let slot = P::slot();
    if !slot.open.load(Acquire) {
        return EPROTONOSUPPORT.to_errno();
    }
    // SAFETY: By the safety requirement. The memory is zeroed, and as large as `obj_size` says;
    // nobody else knows the new object. The slot is filled as long as this may be called.
    unsafe {
        let sk = bindings::sk_alloc(
            net,
            // CAST: A small number, here and below.
            bindings::AF_PPPOX as i32,
            bindings::GFP_KERNEL,
            slot.proto.get(),
            kern,
        );
        if sk.is_null() {
            return ENOMEM.to_errno();
        }
        let memory = sk.cast::<Memory<P>>();
        (&raw mut (*memory).connected).write(Atomic::new(false));
        (&raw mut (*memory).peer).write(UnsafeCell::new(None));
        bindings::sock_init_data(sock, sk);
        // INVARIANT: This defers the free.
        bindings::sock_set_flag(sk, bindings::sock_flags_SOCK_RCU_FREE);
        (*sock).state = bindings::socket_state_SS_UNCONNECTED;
        (*sock).ops = slot.ops.get();
        (*sk).sk_protocol = P::PROTOCOL as u16;
        (*sk).__sk_common.skc_family = bindings::AF_PPPOX as u16;
        (*sk).__sk_common.skc_state = bindings::PPPOX_NONE as u8;
        (*sk).sk_type = bindings::sock_type_SOCK_STREAM as u16;
        (*sk).sk_destruct = Some(destruct::<P>);
    }
    0
}

/// # Safety
///
/// For `struct sock`: `sk` must be a socket of `P` that nobody has a reference to.
unsafe extern "C" fn destruct<P: Proto>(sk: *mut bindings::sock) {
    // SAFETY: By the safety requirement; a grace period has passed since. Each is done once.
    unsafe {
        bindings::__skb_queue_purge(&raw mut (*sk).sk_receive_queue);
        bindings::__skb_queue_purge(&raw mut (*sk).sk_write_queue);
        ptr::drop_in_place(&raw mut (*sk.cast::<Memory<P>>()).peer);
    }
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be a socket of `P` that its last user closes.
unsafe extern "C" fn release<P: Proto>(sock: *mut bindings::socket) -> ffi::c_int {
    // SAFETY: By the safety requirement.
    let sk = unsafe { (*sock).sk };
    if sk.is_null() {
        return 0;
    }
    {
        // SAFETY: `sk` is valid; the reference that the C socket has is given up below.
        let locked = unsafe { Socket::<P>::from_raw(sk) }.lock();
        if let Some(peer) = locked.connected() {
            P::pointer(peer).leave(&locked);
            P::closed(locked.net(), peer);
        }
        // SAFETY: The socket is locked, and has no user any more. This unregisters the channel if
        // there is one; a connected socket without one has a zeroed channel, which is skipped.
        unsafe {
            bindings::pppox_unbind_sock(sk);
            // CAST: A small number.
            (&raw mut (*sk).__sk_common.skc_state).write_volatile(bindings::PPPOX_DEAD as u8);
            bindings::sock_orphan(sk);
            (*sock).sk = ptr::null_mut();
        }
    }
    // SAFETY: The C socket's reference.
    unsafe { bindings::sock_put(sk) };
    0
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`, and `address` have `len` bytes.
unsafe extern "C" fn connect<P: Proto>(
    sock: *mut bindings::socket,
    address: *mut bindings::sockaddr_unsized,
    len: ffi::c_int,
    _flags: ffi::c_int,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement; the address was copied into the kernel.
        let (sk, address) = unsafe {
            let len = usize::try_from(len)?;
            (
                open::<P>(sock),
                slice::from_raw_parts(address.cast::<u8>().cast_const(), len),
            )
        };
        P::connect(sk.net(), sk, address).map(|()| 0)
    })
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`, and `address` have room for the
/// longest of addresses.
unsafe extern "C" fn getname<P: Proto>(
    sock: *mut bindings::socket,
    address: *mut bindings::sockaddr,
    _peer: ffi::c_int,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let sk = unsafe { open::<P>(sock) };
        let name = P::name(sk.peer_or_errno()?)?;
        let name = name.as_ref();
        let room = size_of::<bindings::__kernel_sockaddr_storage>();
        let len = name.len().min(room);
        // SAFETY: The caller has room for the longest of addresses.
        unsafe { ptr::copy_nonoverlapping(name.as_ptr(), address.cast(), len) };
        // CAST: At most 128.
        Ok(len as i32)
    })
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`.
unsafe extern "C" fn setsockopt<P: Proto>(
    sock: *mut bindings::socket,
    level: ffi::c_int,
    option: ffi::c_int,
    value: bindings::sockptr_t,
    len: ffi::c_uint,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let sk = unsafe { open::<P>(sock) };
        let mut number = 0i32;
        // CAST: Levels are small.
        if level != P::LEVEL as i32 || usize::try_from(len)? < size_of_val(&number) {
            return Err(EINVAL);
        }
        // SAFETY: `number` is ours, and as long as said.
        let ret = unsafe {
            bindings::copy_from_sockptr((&raw mut number).cast(), value, size_of_val(&number))
        };
        if ret != 0 {
            return Err(EFAULT);
        }
        P::set_option(sk.net(), sk.peer().ok_or(ENOTCONN)?, option, number).map(|()| 0)
    })
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`, and `opt` valid.
unsafe extern "C" fn getsockopt<P: Proto>(
    sock: *mut bindings::socket,
    level: ffi::c_int,
    option: ffi::c_int,
    opt: *mut bindings::sockopt_t,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let (sk, len) = unsafe { (open::<P>(sock), (*opt).optlen) };
        // CAST: Levels are small.
        if level != P::LEVEL as i32 {
            return Err(EINVAL);
        }
        let len = usize::try_from(len)?.min(size_of::<i32>());
        let number = P::option(sk.peer().ok_or(ENOTCONN)?, option)?;
        // SAFETY: `number` has at least `len` bytes; `opt` is valid.
        let copied = unsafe {
            // CAST: At most 4.
            (*opt).optlen = len as i32;
            bindings::copy_to_iter((&raw const number).cast(), len, &raw mut (*opt).iter_out)
        };
        if copied == len {
            Ok(0)
        } else {
            Err(EFAULT)
        }
    })
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`, and `msg` a message with `len`
/// bytes.
unsafe extern "C" fn sendmsg<P: Proto>(
    sock: *mut bindings::socket,
    msg: *mut bindings::msghdr,
    len: usize,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let (sk, message) = unsafe { (open::<P>(sock), Message::from_raw(msg)) };
        P::send(sk, sk.peer_or_errno()?, message, len)?;
        Ok(i32::try_from(len)?)
    })
}

/// # Safety
///
/// For `struct proto_ops`: `sock` must be an open socket of `P`, and `msg` a message with room for
/// `len` bytes.
unsafe extern "C" fn recvmsg<P: Proto>(
    sock: *mut bindings::socket,
    msg: *mut bindings::msghdr,
    len: usize,
    flags: ffi::c_int,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let (sk, message) = unsafe { (open::<P>(sock), Message::from_raw(msg)) };
        // CAST: Flags are a bit pattern.
        let len = sk.receive(message, len, flags as u32)?;
        Ok(i32::try_from(len)?)
    })
}

/// # Safety
///
/// For `struct pppox_proto`: `sock` must be an open socket of `P`, locked.
unsafe extern "C" fn ioctl<P: Proto>(
    sock: *mut bindings::socket,
    request: ffi::c_uint,
    arg: ffi::c_ulong,
) -> ffi::c_int {
    from_result(|| {
        // SAFETY: By the safety requirement.
        let sk = unsafe { open::<P>(sock) };
        P::ioctl(sk.net(), sk.peer(), request, UserPtr::from_addr(arg)).map(|()| 0)
    })
}

/// What C knows of a protocol.
///
/// # Invariants
///
/// Written by [`Registration::register`] only, while the type is not registered.
pub struct Slot<P: Proto> {
    proto: UnsafeCell<bindings::proto>,
    ops: UnsafeCell<bindings::proto_ops>,
    pppox: UnsafeCell<bindings::pppox_proto>,
    open: Atomic<bool>,
    _proto: PhantomData<fn() -> P>,
}

// SAFETY: By the type invariants there is nothing in it that Rust writes while others use it.
unsafe impl<P: Proto> Sync for Slot<P> {}

impl<P: Proto> Slot<P> {
    /// For a `static`.
    pub const fn new() -> Self {
        Self {
            // SAFETY: Zero means none for each of the pointers and numbers it consists of.
            proto: UnsafeCell::new(unsafe { MaybeUninit::zeroed().assume_init() }),
            ops: UnsafeCell::new(pin_init::zeroed()),
            pppox: UnsafeCell::new(bindings::pppox_proto {
                create: None,
                ioctl: None,
                owner: ptr::null_mut(),
            }),
            open: Atomic::new(false),
            _proto: PhantomData,
        }
    }

    fn proto(module: *mut bindings::module) -> bindings::proto {
        // SAFETY: As in `new`.
        let mut proto: bindings::proto = unsafe { MaybeUninit::zeroed().assume_init() };
        proto.owner = module;
        // CAST: The size of a C structure fits.
        proto.obj_size = size_of::<Memory<P>>() as u32;
        let (_, room) = proto.name.split_last_mut().unwrap_or((&mut 0, &mut []));
        for (to, from) in room.iter_mut().zip(P::NAME.to_bytes()) {
            *to = *from;
        }
        proto
    }

    fn ops(module: *mut bindings::module) -> bindings::proto_ops {
        bindings::proto_ops {
            // CAST: A small number.
            family: bindings::AF_PPPOX as i32,
            owner: module,
            release: Some(release::<P>),
            bind: Some(bindings::sock_no_bind),
            connect: Some(connect::<P>),
            socketpair: Some(bindings::sock_no_socketpair),
            accept: Some(bindings::sock_no_accept),
            getname: Some(getname::<P>),
            poll: Some(bindings::datagram_poll),
            ioctl: Some(bindings::pppox_ioctl),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: Some(bindings::pppox_compat_ioctl),
            listen: Some(bindings::sock_no_listen),
            shutdown: Some(bindings::sock_no_shutdown),
            setsockopt: Some(setsockopt::<P>),
            getsockopt_iter: Some(getsockopt::<P>),
            sendmsg: Some(sendmsg::<P>),
            recvmsg: Some(recvmsg::<P>),
            mmap: Some(bindings::sock_no_mmap),
            ..pin_init::zeroed()
        }
    }
}

/// A registered protocol. Unregisters on drop.
///
/// # Invariants
///
/// The slot of `P` is filled and registered.
pub struct Registration<P: Proto>(PhantomData<fn() -> P>);

impl<P: Proto> Registration<P> {
    /// Registers `P`, of which sockets can be opened after [`Registration::open`]. May sleep.
    ///
    /// They keep `module`, which must be the one that `P` is in, and which must keep this value as
    /// long as it is loaded. To be called once, by the module's initialisation.
    ///
    /// # Errors
    ///
    /// `EALREADY` if somebody else has this protocol number, `EBUSY` if `P` is registered; `ENOMEM`.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let slot = P::slot();
        let owner: *mut bindings::module = module.as_ptr().cast();
        // SAFETY: Module initialisation is one task.
        unsafe {
            if !(*slot.pppox.get()).owner.is_null() {
                return Err(EBUSY);
            }
            *slot.proto.get() = Slot::<P>::proto(owner);
            *slot.ops.get() = Slot::<P>::ops(owner);
            *slot.pppox.get() = bindings::pppox_proto {
                create: Some(create::<P>),
                ioctl: Some(ioctl::<P>),
                owner,
            };
        }
        // SAFETY: `proto` is complete, and static.
        to_result(unsafe { bindings::proto_register(slot.proto.get(), 0) })
            .inspect_err(|_| Self::clear())?;
        // SAFETY: `pppox` is complete, and static.
        // CAST: A small number.
        to_result(unsafe { bindings::register_pppox_proto(P::PROTOCOL as i32, slot.pppox.get()) })
            .inspect_err(|_| {
                // SAFETY: It was just registered, and has no sockets.
                unsafe { bindings::proto_unregister(slot.proto.get()) };
                Self::clear();
            })?;
        // INVARIANT: Just registered.
        Ok(Self(PhantomData))
    }

    /// Lets sockets be opened, by anybody. Once that is so, the module's initialisation must not
    /// fail any more: a module that fails to initialise is freed, even if sockets keep it.
    pub fn open(&self) {
        P::slot().open.store(true, Release);
    }

    /// Nothing may be registered.
    fn clear() {
        // SAFETY: Nobody uses the slot.
        unsafe { (*P::slot().pppox.get()).owner = ptr::null_mut() };
    }
}

impl<P: Proto> Drop for Registration<P> {
    fn drop(&mut self) {
        let slot = P::slot();
        slot.open.store(false, Relaxed);
        // SAFETY: By the type invariants. There are no sockets: none was opened, or the module's
        // initialisation has succeeded, and each one kept the module. Who is about to open one finds
        // that the module is going, or that it may not; he looks at `pppox` without a lock, which
        // is why that stays as it is.
        // CAST: A small number.
        unsafe {
            bindings::unregister_pppox_proto(P::PROTOCOL as i32);
            bindings::proto_unregister(slot.proto.get());
        }
    }
}
