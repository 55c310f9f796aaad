// SPDX-License-Identifier: GPL-2.0

//! Messages of user space: what `sendmsg` takes and `recvmsg` returns.
//!
//! C headers: [`include/linux/socket.h`](srctree/include/linux/socket.h),
//! [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/net/ip.h`](srctree/include/net/ip.h)

use super::{
    net_namespace::Net,
    proto::{
        Locked,
        Proto,
        Socket, //
    },
    skbuff::{
        network_header,
        Skb, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    sync::rcu,
    types::Opaque, //
};

/// Flags of `sendmsg` and `recvmsg`.
pub mod flags {
    use crate::bindings;

    /// Out-of-band data.
    pub const OOB: u32 = bindings::MSG_OOB;
    /// What is received: errors instead of data.
    pub const ERRQUEUE: u32 = bindings::MSG_ERRQUEUE;
    /// What is returned: the length of the datagram rather than that of what was copied.
    pub const TRUNC: u32 = bindings::MSG_TRUNC;
}

/// A message in the hands of a system call: addresses, data and ancillary data.
///
/// # Invariants
///
/// The object is a valid `msghdr`, which nobody else uses; its name points to `msg_namelen` bytes
/// if it is being sent, or to room for the longest of addresses if it is being received.
#[repr(transparent)]
pub struct Message(Opaque<bindings::msghdr>);

impl Message {
    /// Borrows a message from C.
    ///
    /// # Safety
    ///
    /// For `'a`, `ptr` must point to a message as the type invariants say.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::msghdr) -> &'a mut Self {
        // SAFETY: `Message` is transparent; the rest is the caller's promise.
        unsafe { &mut *ptr.cast::<Self>() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::msghdr {
        self.0.get()
    }

    /// The address that the message is sent to, if one is given.
    pub fn name(&self) -> Option<&[u8]> {
        // SAFETY: By the type invariants.
        unsafe {
            let name = (*self.as_ptr()).msg_name;
            if name.is_null() {
                return None;
            }
            let len = usize::try_from((*self.as_ptr()).msg_namelen).unwrap_or(0);
            Some(slice::from_raw_parts(name.cast::<u8>(), len))
        }
    }

    /// The flags it is sent with.
    pub fn flags(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).msg_flags }
    }

    /// Fills `out` with data. `EFAULT` if user space has not got as much; then it is initialised in
    /// part.
    pub(super) fn copy_to(&mut self, out: &mut [MaybeUninit<u8>]) -> Result {
        let len = i32::try_from(out.len())?;
        // SAFETY: By the type invariants; there is room for `len` bytes at `out`.
        to_result(unsafe { bindings::memcpy_from_msg(out.as_mut_ptr().cast(), self.as_ptr(), len) })
    }

    /// Tells the receiver where the message came from, if he wants to know.
    pub fn set_name(&mut self, name: &[u8]) {
        let room = size_of::<bindings::__kernel_sockaddr_storage>();
        // SAFETY: By the type invariants there is room for the longest of addresses.
        unsafe {
            let to = (*self.as_ptr()).msg_name;
            if to.is_null() {
                return;
            }
            let len = name.len().min(room);
            ptr::copy_nonoverlapping(name.as_ptr(), to.cast(), len);
            // CAST: At most 128.
            (*self.as_ptr()).msg_namelen = len as i32;
        }
    }
}

/// A datagram that was taken out of a socket's queue, or is looked at there.
///
/// # Invariants
///
/// `skb` is a packet that the queue of `sk` had, of which this value owns a reference. Others may be
/// looking at it, too.
pub struct Received<'a, P: Proto> {
    sk: &'a Socket<P>,
    skb: NonNull<bindings::sk_buff>,
}

impl<P: Proto> Socket<P> {
    /// Takes the next datagram out of the queue, or waits for one; `flags` are those of `recvmsg`.
    /// [`None`] if none comes any more, as the socket was shut down.
    ///
    /// # Errors
    ///
    /// An error that was reported to the socket; `EAGAIN`, `EINTR` or `ERESTARTSYS` if there is
    /// none and it was not to be waited for, or no longer.
    pub fn next_datagram(&self, flags: u32) -> Result<Option<Received<'_, P>>> {
        let mut err = 0;
        // SAFETY: The socket is valid, and `err` is ours.
        let skb = unsafe { bindings::skb_recv_datagram(self.as_ptr(), flags, &mut err) };
        match NonNull::new(skb) {
            // INVARIANT: The queue has given us a reference.
            Some(skb) => Ok(Some(Received { sk: self, skb })),
            None => to_result(err).map(|()| None),
        }
    }

    /// Receives an error with the packet that has caused it, as `MSG_ERRQUEUE` asks. Returns how
    /// many bytes there are.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is none; `EFAULT`.
    pub fn next_error(&self, message: &mut Message, len: usize) -> Result<usize> {
        let len = i32::try_from(len).unwrap_or(i32::MAX);
        // SAFETY: The socket is an internet one, and the message is valid.
        let ret = unsafe { bindings::inet_recv_error(self.as_ptr(), message.as_ptr(), len) };
        to_result(ret)?;
        Ok(usize::try_from(ret)?)
    }
}

impl<P: Proto> Received<'_, P> {
    /// The length of the datagram.
    pub fn len(&self) -> usize {
        // SAFETY: Valid by the type invariants; queued packets do not change.
        // CAST: 32 bits fit.
        unsafe { (*self.skb.as_ptr()).len as usize }
    }

    /// The IP header that the datagram came with, and what follows in the same piece of memory.
    pub fn ip_header(&self) -> &[u8] {
        // SAFETY: Valid by the type invariants; queued packets do not change.
        unsafe { network_header(self.skb.as_ptr()) }
    }

    /// The device that the datagram came in by.
    pub fn ingress(&self) -> u32 {
        // SAFETY: The packet is valid, and was queued by `Socket::queue` with the control block of
        // the socket's family; for IPv4, the route that it came with may be gone, not replaced.
        let index = unsafe { (P::DOMAIN.functions().iif)(self.skb.as_ptr()) };
        // CAST: Interface indices are not negative.
        index as u32
    }

    /// Gives the data to user space, of which `len` bytes are wanted; then the time stamp and what
    /// other ancillary data was asked for. Marks the message if it was cut off. Returns the number
    /// of bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub fn copy_to(&self, message: &mut Message, len: usize) -> Result<usize> {
        let skb = self.skb.as_ptr();
        let msg = message.as_ptr();
        let copied = self.len().min(len);
        // SAFETY: Packet and message are valid.
        // CAST: Packets are far shorter than 2^31 bytes.
        unsafe {
            if copied < self.len() {
                (*msg).msg_flags |= bindings::MSG_TRUNC;
            }
            to_result(bindings::skb_copy_datagram_msg(skb, 0, msg, copied as i32))?;
        }
        Ok(copied)
    }

    /// Gives the ancillary data to user space: the time stamp, and what its options ask for.
    pub fn control_to(&self, message: &mut Message) {
        let (skb, msg, sk) = (self.skb.as_ptr(), message.as_ptr(), self.sk.as_ptr());
        // SAFETY: Packet, message and socket are valid. The packet's headers and control block are
        // those of the socket's family.
        unsafe {
            bindings::sock_recv_timestamp(msg, sk, skb);
            (P::DOMAIN.functions().control_to)(msg, sk, skb);
        }
    }
}

impl<P: Proto> Drop for Received<'_, P> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants we own a reference.
        unsafe { bindings::skb_free_datagram(self.sk.as_ptr(), self.skb.as_ptr()) }
    }
}

/// Bytes to be reserved in front of an IP packet: what `NET_SKB_PAD` and an IPv4 header take.
const HEADROOM: u32 = 128;

impl<P: Proto> Locked<'_, P> {
    /// Whether the socket was closed while the caller was waiting for its lock.
    pub fn is_dead(&self) -> bool {
        // SAFETY: The socket is valid.
        unsafe { bindings::sock_flag(self.as_ptr(), bindings::sock_flags_SOCK_DEAD) }
    }

    /// Makes a packet of `header` and `len` bytes of data, charged to the socket.
    fn packet(&self, header: &[u8], message: &mut Message, len: usize) -> Result<Skb> {
        let total = header.len().checked_add(len).ok_or(EMSGSIZE)?;
        let total = u32::try_from(total)?;
        // CAST: 64 bits hold both.
        let size = total.checked_add(HEADROOM).ok_or(EMSGSIZE)? as usize;
        // SAFETY: The socket is valid, and locked by a task that may sleep.
        let skb = unsafe { bindings::sock_wmalloc(self.as_ptr(), size, 0, bindings::GFP_KERNEL) };
        let ptr = NonNull::new(skb).ok_or(ENOMEM)?;
        // SAFETY: Just made, and ours.
        let skb = unsafe { Skb::from_raw(ptr) };
        // SAFETY: There is room for `size` bytes in the empty packet, whose memory nobody else uses.
        // `header` is not longer than `total`, and `len` is the rest.
        let rest = unsafe {
            bindings::skb_reserve(skb.as_ptr(), HEADROOM as i32);
            bindings::skb_reset_transport_header(skb.as_ptr());
            let data = bindings::skb_put(skb.as_ptr(), total).cast::<u8>();
            ptr::copy_nonoverlapping(header.as_ptr(), data, header.len());
            slice::from_raw_parts_mut(data.add(header.len()).cast::<MaybeUninit<u8>>(), len)
        };
        message.copy_to(rest)?;
        Ok(skb)
    }

    /// Sends `header` and `len` bytes of data over IPv4, to `to`, or to whom the socket is connected
    /// to. The socket's options apply.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if too much was sent and has not left yet, or there is no memory; `EFAULT`;
    /// `EHOSTUNREACH` if there is no route; what IP says, as `EMSGSIZE` if the packet does not fit
    /// and must not be fragmented.
    pub fn send_v4(
        &self,
        net: &Net,
        to: Option<[u8; 4]>,
        header: &[u8],
        message: &mut Message,
        len: usize,
    ) -> Result {
        let skb = self.packet(header, message, len)?;
        let guard = rcu::read_lock();
        let mut fl = bindings::flowi::default();
        match to {
            None => {
                let route = self.route(&guard).map_err(|_| self.no_route_v4(net))?;
                route.attach(&skb);
                let (_, peer) = self.filter_v4();
                fl.u.ip4.saddr = u32::from_ne_bytes(self.source_v4());
                fl.u.ip4.daddr = u32::from_ne_bytes(peer);
            }
            // SAFETY: The socket is an internet one, and the flow is ours. The packet takes over the
            // reference to the route, whose first field is a `dst_entry`.
            Some(to) => unsafe {
                let fl4 = &raw mut fl.u.ip4;
                bindings::inet_sk_init_flowi4(self.as_ptr(), fl4);
                (*fl4).daddr = u32::from_ne_bytes(to);
                let rt = bindings::ip_route_output_flow(net.as_ptr(), fl4, self.as_ptr());
                let rt = from_err_ptr(rt).map_err(|_| self.no_route_v4(net))?;
                bindings::skb_dst_set(skb.as_ptr(), &raw mut (*rt).dst);
            },
        }
        // SAFETY: The socket is valid; the packet is given away, with a route. Of the flow, only
        // the addresses are read.
        let ret = unsafe { bindings::ip_queue_xmit(self.as_ptr(), skb.into_raw(), &mut fl) };
        drop(guard);
        if ret < 0 {
            Err(Error::from_errno(ret))
        } else {
            Ok(())
        }
    }

    fn no_route_v4(&self, net: &Net) -> Error {
        // SAFETY: The namespace is valid.
        unsafe { bindings::inc_ip_out_no_routes(net.as_ptr()) };
        EHOSTUNREACH
    }
}
