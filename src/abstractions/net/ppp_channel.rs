// SPDX-License-Identifier: GPL-2.0

//! Channels: what generic PPP sends and receives frames through.
//!
//! C header: [`include/linux/ppp_channel.h`](srctree/include/linux/ppp_channel.h)
//!
//! A frame begins with its protocol field; address and control field are the channel's business.

use super::{
    net_namespace::Net,
    netdevice::Nesting,
    skbuff::Skb, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    array,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::to_result,
    ffi,
    sync::rcu,
    types::Opaque, //
};

/// Something that has a [`Channel`].
pub trait Carrier: Sized + Sync + 'static {
    /// Generic PPP sends a frame, which may lie in several pieces of memory, and may be charged to a
    /// socket. Bottom halves are off, and a spinlock of the channel's is held, so that there is one
    /// at a time. Whatever becomes of the frame, it is not asked for again: there is no flow control
    /// but what sockets do for what is charged to them.
    fn start_xmit(&self, skb: Skb);

    /// A frame was dropped instead, as tunnels in tunnels were too deep for it.
    fn dropped(&self);
}

/// How a channel is to be.
pub struct Config {
    /// The longest frame, without its protocol field, that should be sent.
    pub mtu: u32,
    /// Bytes that will be put in front of a frame. Devices that use the channel reserve them.
    pub headroom: usize,
}

/// A channel. Zeroed memory is one that is not registered.
///
/// # Invariants
///
/// If it is registered, its private pointer is a carrier that lives at least until a grace period
/// after the channel was unregistered.
#[repr(transparent)]
pub struct Channel(Opaque<bindings::ppp_channel>);

impl Channel {
    /// Borrows a channel from C.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a channel as the type invariants say, which lives for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::ppp_channel) -> &'a Self {
        // SAFETY: `Channel` is transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Registers the channel in `net`, which from then on it keeps. Devices that it is connected to
    /// have no queue: they send directly, and frames in several pieces, too. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The channel must not be registered, nor be registered by somebody else at the moment. It must
    /// be unregistered, by `ppp_unregister_channel`, before `carrier` or the channel goes, and both
    /// must stay for a grace period after that.
    pub(super) unsafe fn register<T: Carrier>(
        &self,
        net: &Net,
        carrier: &T,
        config: &Config,
    ) -> Result {
        let chan = self.0.get();
        // SAFETY: By the safety requirement, nobody else uses the channel.
        unsafe {
            (*chan).private = ptr::from_ref(carrier).cast_mut().cast();
            (*chan).ops = const { &ops::<T>() };
            (*chan).mtu = i32::try_from(config.mtu).unwrap_or(i32::MAX);
            (*chan).hdrlen = i32::try_from(config.headroom)?;
            (*chan).direct_xmit = true;
        }
        // SAFETY: The channel is complete.
        // INVARIANT: The carrier stays, by the safety requirement.
        to_result(unsafe { bindings::ppp_register_net_channel(net.as_ptr(), chan) })
    }

    /// Hands a frame that was received to generic PPP, or to the channel that this one is bridged
    /// to. It is dropped if the channel is not registered any more. Bottom halves must be off.
    #[inline]
    pub fn input(&self, skb: Skb, _guard: &rcu::Guard) {
        // SAFETY: The channel is valid; the packet is given away. If the channel is unregistered
        // meanwhile, what belongs to it is freed a grace period later.
        unsafe { bindings::ppp_input(self.0.get(), skb.into_raw()) }
    }

    /// The `name` of the device that the channel is connected to, which stays for this RCU read
    /// section.
    #[inline]
    fn name(&self, _guard: &rcu::Guard) -> Option<NonNull<[u8; 16]>> {
        // SAFETY: The channel is valid, and we are in an RCU read section.
        NonNull::new(unsafe { bindings::ppp_dev_name(self.0.get()) }.cast())
    }

    /// The device that the channel is connected to, valid for this RCU read section, or null.
    #[inline]
    fn device(&self, guard: &rcu::Guard) -> *mut bindings::net_device {
        match self.name(guard) {
            // SAFETY: It is the name of a device, and not of a copy.
            Some(name) => unsafe {
                kernel::container_of!(
                    name.as_ptr().cast::<[ffi::c_char; 16]>(),
                    bindings::net_device,
                    name
                )
            },
            None => ptr::null_mut(),
        }
    }

    /// The name of the device that the channel is connected to, NUL-padded.
    pub fn device_name(&self, guard: &rcu::Guard) -> Option<[u8; 16]> {
        let name = self.name(guard)?;
        let mut at = name.as_ptr().cast::<u8>();
        Some(array::from_fn(|_| {
            // SAFETY: One of the 16 bytes of the name, which stays for this RCU read section. It may be
            // changing, as for others who read it.
            unsafe {
                let byte = at.read_volatile();
                at = at.add(1);
                byte
            }
        }))
    }
}

const fn ops<T: Carrier>() -> bindings::ppp_channel_ops {
    bindings::ppp_channel_ops {
        start_xmit: Some(start_xmit::<T>),
        ioctl: None,
        fill_forward_path: None,
    }
}

/// # Safety
///
/// For `struct ppp_channel_ops`: `chan` must be a registered channel of a `T`, and `skb` a packet,
/// which is given away. Bottom halves must be off.
unsafe extern "C" fn start_xmit<T: Carrier>(
    chan: *mut bindings::ppp_channel,
    skb: *mut bindings::sk_buff,
) -> ffi::c_int {
    if let Some(skb) = NonNull::new(skb) {
        // SAFETY: By the safety requirement.
        let (mut skb, carrier, chan) = unsafe {
            (
                Skb::from_raw(skb),
                &*(*chan).private.cast_const().cast::<T>(),
                Channel::from_raw(chan),
            )
        };
        // By the device a loop is told, see `Route::is_loop_for`. Frames that PPP makes itself, such
        // as the pieces of multilink, have none yet. One from a channel that this one is bridged to
        // has that which it came in by, and may well leave by it: that is no loop.
        let guard = rcu::read_lock();
        // SAFETY: The device stays for this RCU read section. Who keeps the packet for longer has set
        // another device, as queues and the network layer do.
        unsafe { skb.set_device(chan.device(&guard)) };
        // A tunnel may be routed through itself. Generic PPP notices when it comes back to the same
        // device; but it may go through other ones first, more than the stack has room for.
        match Nesting::enter() {
            Some(_nesting) => carrier.start_xmit(skb),
            None => carrier.dropped(),
        }
    }
    // The frame was taken.
    1
}
