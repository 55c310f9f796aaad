// SPDX-License-Identifier: GPL-2.0

//! Ethernet devices that exist in software only.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/etherdevice.h`](srctree/include/linux/etherdevice.h)
//!
//! # The life of a device
//!
//! 1. [`Unregistered::new`] allocates it, with the driver's data inside. Nobody else knows it;
//!    dropping it frees it.
//! 2. [`Unregistered::register`], with RTNL held, gives it to the networking core, and makes the
//!    driver's [`DevicePtr`] point to it. From now on it may be configured, and frames may be sent
//!    through it.
//! 3. It is unregistered with RTNL held: through [`unregister_many`], or by anyone else who may
//!    (`ip link del`, the end of its network namespace, the end of its kind). The core takes it
//!    down and waits until no transmission is under way. Then it calls `ndo_uninit`, which clears
//!    the [`DevicePtr`], and waits for a grace period, so that those who have found the device
//!    through that pointer are done with it, too.
//!
//!    Between taking it down and `ndo_uninit` the core waits for a grace period as well. So when that
//!    drops the frames that wait to be merged, nobody adds any: who comes now sees that the device is
//!    down. What was handed on may have references to the device, which are waited for next.
//! 4. Whoever releases RTNL then waits until nobody holds a reference, and calls the destructor,
//!    which drops the driver's data. Then the device is freed.
//!
//! # Why a device may count on the module it belongs to
//!
//! A registered device holds a reference to its driver's module: there is code in the module that
//! it calls. The destructor drops that reference, and it is code of the module as well. What keeps
//! that code in memory until it has returned is [`rtnetlink::Registration`], which the module holds
//! while it has devices. Unloading drops it; `rtnl_link_unregister` then waits until no device in
//! the system is between its unregistration and the return of its destructor (`dev_unreg_count` in
//! `net/core/dev.c`). A device whose kind is not registered cannot be.

use super::{
    gro,
    net_namespace::Net,
    rtnetlink,
    skbuff::Skb, //
};
use crate::{
    abstractions::sync::{
        bottom_half,
        read_once, //
    },
    bindings, //
    prelude::*,
};
use core::{
    cell::Cell,
    marker::PhantomPinned,
    mem::{
        offset_of,
        ManuallyDrop, //
    },
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    error::to_result,
    ffi,
    sync::{
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        rcu, //
    },
    types::Opaque, //
};

/// Bytes of an Ethernet header.
pub const ETH_HLEN: usize = bindings::ETH_HLEN as usize;

/// The usual MTU of Ethernet.
pub const ETH_DATA_LEN: u32 = bindings::ETH_DATA_LEN;

/// The largest MTU there can be.
pub const ETH_MAX_MTU: u32 = bindings::ETH_MAX_MTU;

/// What is left to be done to frames that are sent, if nobody switches it off: to fill in checksums,
/// to gather them from pieces, to cut them into segments. Not to frames in a tunnel that is within
/// this one: they come complete; nor to lists of frames, which have room for headers in front of the
/// first of them only.
const OFFLOADS: bindings::netdev_features_t = bindings::NETIF_F_SG
    | bindings::NETIF_F_FRAGLIST
    | bindings::NETIF_F_HW_CSUM
    | bindings::NETIF_F_GSO_SOFTWARE & !bindings::NETIF_F_GSO_FRAGLIST;

/// What has become of a frame to be sent. The device counts it by that.
pub enum TxVerdict {
    /// It is on its way.
    Sent,
    /// It was dropped.
    Dropped,
}

/// A driver, that is the data each of its devices has.
///
/// The data may be dropped in two contexts, both in a process: with RTNL held, if registering the
/// device fails; and without.
pub trait Driver: Sized + Send + Sync + 'static {
    /// What `DEVTYPE` says in uevents.
    const DEVTYPE: &'static CStr;

    /// The kind of link. Return a `static`.
    fn link() -> &'static rtnetlink::Link<Self>;

    /// What is to point to the device while it is registered. Asked for once, at registration.
    fn pointer(&self) -> &DevicePtr<Self>;

    /// A frame is to be sent.
    ///
    /// On several CPUs at once: there is no transmit lock. This may come back to the same device
    /// before it returns, if what it sends is routed to it; but not without end, see [`Nesting`].
    fn start_xmit(&self, skb: Skb, bh: &bottom_half::Guard) -> TxVerdict;

    /// What `ethtool -S` shows beside the counters of any device. Always as many, under the same names
    /// of at most 31 bytes, in the same order. May sleep.
    fn counters(&self, each: impl FnMut(&'static CStr, u64));

    /// The device is going to be unregistered by `ip link del`, or because its kind or its network
    /// namespace ends. Not called if the driver unregisters it. May sleep.
    fn dellink(&self, rtnl: &rtnetlink::Guard);
}

/// A registered device.
///
/// # Invariants
///
/// `dev` was made by [`Unregistered::new`] for `T`, and is or was registered; its destructor is not
/// called while a reference to this exists, so that `private.data` is there.
#[repr(C)]
pub struct Device<T: Driver> {
    dev: Opaque<bindings::net_device>,
    private: Private<T>,
}

/// What is in the private area of a device. Written only while nobody else knows the device.
struct Private<T: Driver> {
    data: Option<T>,
    /// In `data`, which does not move, and is borrowed for as long as it is there.
    pointer: Option<NonNull<DevicePtr<T>>>,
    /// The module a reference to which is held, or null.
    module: *mut bindings::module,
    /// The network namespace that the device was made in: frames come from there. Only compared.
    home: *const bindings::net,
    /// Where frames wait that may be merged. Has its own locks.
    cells: gro::Cells,
    _pin: PhantomPinned,
}

// SAFETY: Devices are not tied to a thread, and `T` is `Send`.
unsafe impl<T: Driver> Send for Device<T> {}
// SAFETY: `private` is not written while there are references; `T` is `Sync`. The methods call C
// functions that do their own locking, or touch only what belongs to this CPU.
unsafe impl<T: Driver> Sync for Device<T> {}

/// How a device is to be.
pub struct Config<'a> {
    /// Its name, NUL-padded. A `%d` in it is replaced by the lowest number that is free.
    pub name: &'a [u8; 16],
    /// Whether the name was chosen by a user.
    pub name_is_users: bool,
    /// Its MTU.
    pub mtu: u32,
    /// The lowest MTU it can be given.
    pub min_mtu: u32,
    /// The highest MTU it can be given.
    pub max_mtu: u32,
    /// Bytes that will be put in front of a frame.
    pub needed_headroom: u16,
}

/// A device that is not registered. Dropping it frees it.
///
/// # Invariants
///
/// `dev` was made by `alloc_netdev_mqs` and not freed, is not registered, and its private area is
/// initialised.
pub struct Unregistered<T: Driver> {
    dev: NonNull<Device<T>>,
}

impl<T: Driver> Unregistered<T> {
    /// Allocates a device in the network namespace `net`, with a random address. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the name is too long.
    pub fn new(net: &Net, config: &Config<'_>, data: T) -> Result<Self> {
        const {
            assert!(offset_of!(Device<T>, private) == bindings::NETDEV_PRIV_OFFSET);
            assert!(align_of::<Private<T>>() <= 8);
        }
        let private_len = size_of::<Device<T>>().wrapping_sub(bindings::NETDEV_PRIV_OFFSET);
        let private_len = i32::try_from(private_len).map_err(|_| EINVAL)?;
        if !config.name.contains(&0) {
            return Err(EINVAL);
        }
        let assign_type = if config.name_is_users {
            bindings::NET_NAME_USER
        } else {
            bindings::NET_NAME_ENUM
        };
        // SAFETY: The name is terminated. `setup` gets a device of the size that is asked for.
        let dev = unsafe {
            bindings::alloc_netdev_mqs(
                private_len,
                config.name.as_ptr().cast(),
                // CAST: A small number.
                assign_type as u8,
                Some(Self::setup),
                1,
                1,
            )
        };
        let dev = NonNull::new(dev).ok_or(ENOMEM)?;
        let this = dev.cast::<Device<T>>();
        // SAFETY: The device is ours, and zeroed from `private` on; the offset was checked above.
        unsafe {
            (&raw mut (*this.as_ptr()).private).write(Private {
                data: Some(data),
                pointer: None,
                module: ptr::null_mut(),
                home: net.as_ptr(),
                cells: gro::Cells::new(),
                _pin: PhantomPinned,
            });
            let dev = dev.as_ptr();
            bindings::dev_net_set(dev, net.as_ptr());
            bindings::eth_hw_addr_random(dev);
            (*dev).mtu = config.mtu;
            (*dev).min_mtu = config.min_mtu;
            (*dev).max_mtu = config.max_mtu;
            (*dev).needed_headroom = config.needed_headroom;
            // `start_xmit` is never busy, so that a queue would stay empty; and if what is sent comes
            // back, a queue would feed itself for ever, while a call within a call has its limit.
            let flags = &raw mut (*dev).__bindgen_anon_1.__bindgen_anon_1;
            // CAST: 32 bits fit.
            let no_queue = bindings::netdev_priv_flags_IFF_NO_QUEUE as ffi::c_ulong;
            (*flags).set_priv_flags((*flags).priv_flags() | no_queue);
        }
        // INVARIANT: It was just made.
        Ok(Self { dev: this })
    }

    const OPS: bindings::net_device_ops = {
        let mut ops: bindings::net_device_ops = pin_init::zeroed();
        ops.ndo_init = Some(Self::init);
        ops.ndo_uninit = Some(Self::uninit);
        ops.ndo_start_xmit = Some(Self::start_xmit);
        ops.ndo_set_mac_address = Some(bindings::eth_mac_addr);
        ops
    };

    const ETHTOOL: bindings::ethtool_ops = {
        let mut ops: bindings::ethtool_ops = pin_init::zeroed();
        ops.get_link = Some(bindings::ethtool_op_get_link);
        ops.get_sset_count = Some(Self::get_sset_count);
        ops.get_strings = Some(Self::get_strings);
        ops.get_ethtool_stats = Some(Self::get_ethtool_stats);
        ops
    };

    const TYPE: bindings::device_type = {
        let mut devtype: bindings::device_type = pin_init::zeroed();
        devtype.name = T::DEVTYPE.to_bytes_with_nul().as_ptr();
        devtype
    };

    /// # Safety
    ///
    /// `dev` must be a device that nobody else knows, with room for a `Device<T>`.
    unsafe extern "C" fn setup(dev: *mut bindings::net_device) {
        // SAFETY: By the safety requirement: `alloc_netdev_mqs` calls this before it returns.
        unsafe {
            bindings::ether_setup(dev);
            (*dev).netdev_ops = &Self::OPS;
            (*dev).ethtool_ops = &Self::ETHTOOL;
            (*dev).dev.type_ = &Self::TYPE;
            // The headers are written into the packet, so that one cannot be sent several times.
            let flags = &raw mut (*dev).__bindgen_anon_1.__bindgen_anon_1;
            // CAST: 32 bits fit.
            let sharing = bindings::netdev_priv_flags_IFF_TX_SKB_SHARING as ffi::c_ulong;
            (*flags).set_priv_flags((*flags).priv_flags() & !sharing);
            (*flags).set_lltx(1);
            (*dev).set_pcpu_stat_type(bindings::netdev_stat_type_NETDEV_PCPU_STAT_DSTATS);
            (*dev).features |= OFFLOADS;
            (*dev).hw_features |= OFFLOADS;
            (*dev).vlan_features |= OFFLOADS;
            (*dev).needs_free_netdev = true;
            (*dev).priv_destructor = Some(Self::destructor);
        }
    }

    /// # Safety
    ///
    /// `dev` must be a `Device<T>` that is being registered.
    unsafe extern "C" fn init(dev: *mut bindings::net_device) -> ffi::c_int {
        // SAFETY: By the safety requirement. If this succeeds, the core calls `uninit` sooner or
        // later.
        let ready = unsafe {
            bindings::netdev_lockdep_set_classes(dev);
            Device::<T>::from_raw(dev).private.cells.init(dev)
        };
        match ready {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `dev` must be a `Device<T>` whose destructor has not been called, and that has been down for a
    /// grace period, or was never up; RTNL must be held.
    unsafe extern "C" fn uninit(dev: *mut bindings::net_device) {
        // SAFETY: By the safety requirement: the core calls this before the destructor.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: Who is in `receive` sees that the device is down, and does not come to the cells.
        unsafe { dev.private.cells.destroy() };
        if let Some(pointer) = dev.private.pointer {
            // SAFETY: `pointer` points into `data`, which is dropped by the destructor.
            unsafe { pointer.as_ref() }.clear(dev);
        }
    }

    /// # Safety
    ///
    /// `dev` must be a registered `Device<T>` whose destructor is not called before this returns;
    /// `skb` must be a valid packet, a reference to which is given away; bottom halves must be off.
    unsafe extern "C" fn start_xmit(
        skb: *mut bindings::sk_buff,
        dev: *mut bindings::net_device,
    ) -> bindings::netdev_tx_t {
        // SAFETY: By the safety requirement: the core unregisters a device only when no
        // transmission is under way, or, for the packet generator, waits for its reference.
        let this = unsafe { Device::<T>::from_raw(dev) };
        let Some(ptr) = NonNull::new(skb) else {
            return bindings::netdev_tx_NETDEV_TX_OK;
        };
        // SAFETY: The core gives us a valid packet. Others may hold references: see below.
        let (skb, len) = unsafe { (Skb::from_raw(ptr), (*skb).len) };
        let verdict = match (Nesting::enter(), &this.private.data) {
            // The packet generator keeps a reference to what it sends, unless told otherwise.
            (Some(_nesting), Some(data)) => match skb.unshare() {
                // SAFETY: By the safety requirement.
                Some(skb) => data.start_xmit(skb, unsafe { bottom_half::Guard::assume() }),
                None => TxVerdict::Dropped,
            },
            _ => {
                // SAFETY: The device is valid.
                unsafe { bindings::warn_dead_loop(dev) };
                TxVerdict::Dropped
            }
        };
        match verdict {
            // SAFETY: Bottom halves are off; a registered device has its counters.
            TxVerdict::Sent => unsafe { bindings::dev_dstats_tx_add(dev, len) },
            // SAFETY: As above.
            TxVerdict::Dropped => unsafe { bindings::dev_dstats_tx_dropped(dev) },
        }
        bindings::netdev_tx_NETDEV_TX_OK
    }

    /// The counters of a device that `ethtool -S` asks for.
    ///
    /// # Safety
    ///
    /// `dev` must be a `Device<T>` whose destructor is not called before this returns.
    unsafe fn counters(dev: *mut bindings::net_device, each: impl FnMut(&'static CStr, u64)) {
        // SAFETY: By the safety requirement.
        if let Some(data) = unsafe { &Device::<T>::from_raw(dev).private.data } {
            data.counters(each);
        }
    }

    /// # Safety
    ///
    /// `dev` must be a registered `Device<T>`; RTNL must be held.
    unsafe extern "C" fn get_sset_count(
        dev: *mut bindings::net_device,
        sset: ffi::c_int,
    ) -> ffi::c_int {
        if sset != bindings::ethtool_stringset_ETH_SS_STATS as ffi::c_int {
            return EOPNOTSUPP.to_errno();
        }
        let mut count: ffi::c_int = 0;
        // SAFETY: By the safety requirement.
        unsafe { Self::counters(dev, |_, _| count = count.wrapping_add(1)) };
        count
    }

    /// # Safety
    ///
    /// As `get_sset_count`; at `data` there must be room for as many strings as that returned.
    unsafe extern "C" fn get_strings(dev: *mut bindings::net_device, sset: u32, data: *mut u8) {
        const LEN: usize = bindings::ETH_GSTRING_LEN as usize;
        if sset != bindings::ethtool_stringset_ETH_SS_STATS {
            return;
        }
        let mut place = data.cast::<[u8; LEN]>();
        let write = |name: &'static CStr, _| {
            let mut string = [0; LEN];
            for (to, from) in string.iter_mut().zip(name.to_bytes_with_nul()) {
                *to = *from;
            }
            // SAFETY: By the safety requirement, as there are as many as were counted.
            unsafe {
                place.write(string);
                place = place.add(1);
            }
        };
        // SAFETY: By the safety requirement.
        unsafe { Self::counters(dev, write) };
    }

    /// # Safety
    ///
    /// As `get_sset_count`; at `data` there must be room for as many values as that returned.
    unsafe extern "C" fn get_ethtool_stats(
        dev: *mut bindings::net_device,
        _stats: *mut bindings::ethtool_stats,
        data: *mut u64,
    ) {
        let mut place = data;
        let write = |_: &'static CStr, value| {
            // SAFETY: By the safety requirement, as there are as many as were counted.
            unsafe {
                place.write(value);
                place = place.add(1);
            }
        };
        // SAFETY: By the safety requirement.
        unsafe { Self::counters(dev, write) };
    }

    /// # Safety
    ///
    /// `dev` must be a `Device<T>` that nobody uses any more.
    unsafe extern "C" fn destructor(dev: *mut bindings::net_device) {
        // SAFETY: By the safety requirement: the core has waited for all references.
        unsafe { Self::clear(dev.cast()) };
    }

    /// Drops what is in the private area. If there was a module reference, the code of the module
    /// may go away as soon as the caller has returned: see the module documentation.
    ///
    /// # Safety
    ///
    /// The private area must be initialised, and nobody else may use the device.
    unsafe fn clear(dev: *mut Device<T>) {
        // SAFETY: By the safety requirement.
        let private = unsafe { &mut (*dev).private };
        private.pointer = None;
        drop(private.data.take());
        let module = core::mem::replace(&mut private.module, ptr::null_mut());
        // SAFETY: If `module` is not null, there is a reference, which was ours.
        unsafe { bindings::module_put(module) };
    }

    fn as_raw(&self) -> *mut bindings::net_device {
        self.dev.as_ptr().cast()
    }

    /// Whether there is a device of this name already. A pattern names none.
    pub fn name_is_taken(&self, _rtnl: &rtnetlink::Guard) -> bool {
        let dev = self.as_raw();
        // SAFETY: The device is valid, and in a namespace; its name is terminated.
        unsafe {
            bindings::netdev_name_in_use(bindings::dev_net(dev), (&raw const (*dev).name).cast())
        }
    }

    /// Registers the device. May sleep.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken, `EINVAL` if it is none, `ENFILE` if a pattern has no free
    /// number left; `EBUSY` if the driver's pointer points to a device; `ENODEV` if the kind is not
    /// registered; `ENOMEM`.
    pub fn register(mut self, rtnl: &rtnetlink::Guard) -> Result<&Device<T>> {
        let dev = self.as_raw();
        let link = T::link();
        let module = link.module(rtnl);
        // SAFETY: A registered kind's module is valid while RTNL is held: unloading it takes RTNL
        // to unregister the kind.
        if module.is_null() || !unsafe { bindings::try_module_get(module) } {
            return Err(ENODEV);
        }
        {
            // SAFETY: The device is ours, and nobody else knows it.
            let private = unsafe { &mut self.dev.as_mut().private };
            private.module = module;
            let pointer = private.data.as_ref().ok_or(EINVAL)?.pointer();
            if !pointer.load().is_null() {
                return Err(EBUSY);
            }
            private.pointer = Some(NonNull::from(pointer));
        }
        // SAFETY: The device is complete and not registered; RTNL is held. What `link` has for it
        // is static.
        unsafe {
            (*dev).rtnl_link_ops = link.ops();
            to_result(bindings::register_netdevice(dev))?;
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: The device is registered. If it is unregistered again while RTNL is held, its
        // destructor is called after RTNL was released.
        let dev = unsafe { this.dev.as_ref() };
        if let Some(pointer) = dev.private.pointer {
            // SAFETY: `pointer` points into `data`, which is dropped by the destructor.
            unsafe { pointer.as_ref() }.set(dev);
        }
        Ok(dev)
    }
}

impl<T: Driver> Drop for Unregistered<T> {
    fn drop(&mut self) {
        let dev = self.as_raw();
        // SAFETY: The device is valid.
        let reg_state = u32::from(unsafe { (*dev).reg_state });
        if reg_state != bindings::netdev_reg_state_NETREG_UNREGISTERING {
            // SAFETY: The device is ours, as it could not be registered, or was never tried to be.
            // If the core has called the destructor, this does nothing.
            unsafe { Self::clear(dev.cast()) };
        }
        // Otherwise `register` has failed very late, and the device has been unregistered again.
        // RTNL is held; the core will call the destructor when it is released, and free the device,
        // as the following call makes it.
        // SAFETY: The device is valid, and not registered.
        unsafe { bindings::free_netdev(dev) };
    }
}

impl<T: Driver> Device<T> {
    /// Borrows a device from C.
    ///
    /// # Safety
    ///
    /// `dev` must be a device as the type invariants say, for all of `'a`.
    pub(super) unsafe fn from_raw<'a>(dev: *mut bindings::net_device) -> &'a Self {
        // SAFETY: By the safety requirement.
        unsafe { &*dev.cast() }
    }

    fn as_raw(&self) -> *mut bindings::net_device {
        self.dev.get()
    }

    /// The driver's data.
    pub fn data(&self) -> Option<&T> {
        self.private.data.as_ref()
    }

    /// The name, NUL-padded.
    pub fn name(&self, _rtnl: &rtnetlink::Guard) -> [u8; 16] {
        // SAFETY: The device is valid. Names change with RTNL held.
        unsafe { (&raw const (*self.as_raw()).name).cast::<[u8; 16]>().read() }
    }

    /// Takes in a frame, which begins with its Ethernet header, as if it had come in on a wire.
    /// Forgets what is known of it but its checksum.
    ///
    /// If too many frames wait, it is dropped, and counted as an error. Segments of a TCP stream may
    /// be merged, and other frames go before them, unless `ordered`.
    ///
    /// # Errors
    ///
    /// The frame, and why it is not taken, which is counted as dropped and as an error. Not counted
    /// is a frame without a whole Ethernet header.
    #[inline]
    pub fn receive(
        &self,
        mut skb: Skb,
        ordered: bool,
        _guard: &rcu::Guard,
        _bh: &bottom_half::Guard,
    ) -> Result<(), (Skb, Refused)> {
        let len = skb.len();
        let dev = self.as_raw();
        if skb
            .pull_head(len.clamp(ETH_HLEN, gro::PROTOCOL_END))
            .is_none()
        {
            return Err((skb, Refused::TooShort));
        }
        let fits = skb.orphan_frags().is_ok()
            // SAFETY: The packet and the device are valid.
            && unsafe { bindings::is_skb_forwardable(dev, skb.as_ptr()) };
        if !fits {
            let why = self.why_refused();
            return Err((skb, why));
        }
        // SAFETY: The packet is ours, and has a linear Ethernet header; the device is valid. The
        // namespaces are only compared. The device that the packet has come in on, which may be
        // gone if the packet was held back, is not looked at.
        let taken = unsafe {
            let moved = !ptr::eq(bindings::dev_net(dev).cast_const(), self.private.home);
            bindings::skb_scrub_packet(skb.as_ptr(), moved);
            skb.headers().priority = 0;
            let header = skb.head().as_ptr();
            skb.headers().protocol = bindings::eth_type_trans(skb.as_ptr(), dev);
            if skb.headers().ip_summed() != bindings::CHECKSUM_NONE {
                bindings::skb_postpull_rcsum(skb.as_ptr(), header.cast(), bindings::ETH_HLEN);
            }
            // To look for others to merge with costs more than there is to gain where there are none.
            if !ordered && self.is_worth_merging(&mut skb) {
                // The device was up in this RCU read section: see the module documentation.
                self.private.cells.receive(skb)
            } else {
                bindings::netif_rx(skb.into_raw()) == NET_RX_SUCCESS
            }
        };
        // SAFETY: The device is valid, and was registered, so that it has its counters; bottom
        // halves are off.
        unsafe {
            if taken {
                // CAST: Packets are shorter than 2^32.
                bindings::dev_dstats_rx_add(dev, len as u32);
            } else {
                bindings::dev_stats_rx_errors_inc(dev);
            }
        }
        Ok(())
    }

    /// Whether there may be others that belong to the same stream as this frame, which begins after
    /// its Ethernet header. All frames of a stream get the same answer, so that they stay in order.
    #[inline]
    fn is_worth_merging(&self, skb: &mut Skb) -> bool {
        const MORE: bindings::netdev_features_t =
            bindings::NETIF_F_GRO_UDP_FWD | bindings::NETIF_F_GRO_FRAGLIST;

        if gro::tcp_over(skb.headers().protocol, skb.head()).is_some() {
            return true;
        }
        // SAFETY: The device is valid. Features change at any moment.
        let features = unsafe { (&raw const (*self.as_raw()).features).read_volatile() };
        features & MORE != 0
    }

    /// Counts a frame that is dropped. Why it is: a device that is up takes all but those that are
    /// too long.
    #[cold]
    fn why_refused(&self) -> Refused {
        let dev = self.as_raw();
        // SAFETY: The device is valid. Its flags change at any moment; this is for information.
        let flags = unsafe {
            bindings::dev_core_stats_rx_dropped_inc(dev);
            bindings::dev_stats_rx_errors_inc(dev);
            (&raw const (*dev).flags).read_volatile()
        };
        if flags & bindings::net_device_flags_IFF_UP == 0 {
            Refused::Down
        } else {
            Refused::TooLong
        }
    }
}

/// Why a device does not take a frame that was received.
pub enum Refused {
    /// It is down.
    Down,
    /// There is no whole Ethernet header.
    TooShort,
    /// It does not fit in the MTU with a VLAN tag; or, which is rare, there is no memory to copy it
    /// from where user space may change it.
    TooLong,
}

// CAST: Zero.
pub(super) const NET_RX_SUCCESS: i32 = bindings::NET_RX_SUCCESS as i32;

/// Evidence that transmitting is not nested too deeply.
///
/// A tunnel may be routed through itself, or two tunnels through each other. A queueing discipline
/// breaks the recursion: it does not run inside of itself, and leaves the packet for later. But a
/// device need not have one. The core then counts how often it calls a driver inside of a driver,
/// and stops at a depth that is meant for drivers with little to do. Tunnels count themselves as
/// well, and stop sooner, also if they nest through queueing disciplines of different devices.
///
/// # Invariants
///
/// The nesting level of this CPU (or task, where softirqs are preemptible) counts this value.
pub(super) struct Nesting(());

impl Nesting {
    /// Goes one deeper. [`None`] if that is too deep. Bottom halves must be off until the result is
    /// dropped.
    #[inline]
    pub(super) fn enter() -> Option<Self> {
        // SAFETY: Bottom halves are off.
        unsafe {
            if bindings::dev_recursion_level() > bindings::IP_TUNNEL_RECURSION_LIMIT {
                return None;
            }
            bindings::dev_xmit_recursion_inc();
        }
        // INVARIANT: It was just counted.
        Some(Self(()))
    }
}

impl Drop for Nesting {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant; bottom halves are off.
        unsafe { bindings::dev_xmit_recursion_dec() }
    }
}

/// A pointer to a device, which is null unless that is registered.
///
/// It does not keep the device: readers must be in an RCU read section, or hold RTNL. It belongs to
/// the data of the device that it points to ([`Driver::pointer`]), so that it lives at least as
/// long.
///
/// # Invariants
///
/// `dev` is null or points to a device that is registered, or is being unregistered and has not
/// come to `ndo_uninit`. A grace period passes between that and its destructor. It is written with
/// RTNL held.
pub struct DevicePtr<T: Driver> {
    dev: Atomic<*mut Device<T>>,
}

impl<T: Driver> DevicePtr<T> {
    /// A null pointer.
    pub const fn new() -> Self {
        // INVARIANT: Null.
        Self {
            dev: Atomic::new(ptr::null_mut()),
        }
    }

    #[inline]
    fn load(&self) -> *mut Device<T> {
        // What is behind the pointer was written before it was published, and depends on it.
        read_once(&self.dev)
    }

    /// RTNL must be held.
    fn set(&self, dev: &Device<T>) {
        // INVARIANT: The caller has registered the device.
        self.dev.store(ptr::from_ref(dev).cast_mut(), Release);
    }

    /// Forgets `dev`. RTNL must be held.
    fn clear(&self, dev: &Device<T>) {
        if ptr::eq(self.load(), dev) {
            self.dev.store(ptr::null_mut(), Relaxed);
        }
    }

    /// The device. Any context.
    #[inline]
    pub fn get<'a>(&self, _guard: &'a rcu::Guard) -> Option<&'a Device<T>> {
        // SAFETY: By the type invariants, the device and its data stay for this RCU read section.
        NonNull::new(self.load()).map(|dev| unsafe { dev.as_ref() })
    }

    /// The device. It stays while RTNL is held.
    pub fn get_locked<'a>(&self, _rtnl: &'a rtnetlink::Guard) -> Option<&'a Device<T>> {
        // SAFETY: By the type invariants, and as the destructor is called by those who release RTNL.
        NonNull::new(self.load()).map(|dev| unsafe { dev.as_ref() })
    }
}

/// Devices that are going to be unregistered.
///
/// # Invariants
///
/// `list` is an initialised list, which does not move. If there are devices in it, RTNL is held by
/// `rtnl`.
pub struct Batch {
    list: Opaque<bindings::list_head>,
    rtnl: Cell<Option<rtnetlink::Guard>>,
}

impl Batch {
    /// Adds the device that `pointer` points to, if there is one. It may be in a batch already.
    /// Takes RTNL the first time, and sleeps.
    pub fn add<T: Driver>(&self, pointer: &DevicePtr<T>) {
        let rtnl = self.rtnl.take().unwrap_or_else(rtnetlink::lock);
        self.rtnl.set(Some(rtnl));
        let Some(dev) = NonNull::new(pointer.load()) else {
            return;
        };
        let dev = dev.as_ptr().cast::<bindings::net_device>();
        // SAFETY: RTNL is held, so that by the type invariants of `DevicePtr` the device is
        // registered; unless it is being unregistered by a caller further up, who holds RTNL.
        let reg_state = u32::from(unsafe { (*dev).reg_state });
        if reg_state == bindings::netdev_reg_state_NETREG_REGISTERED {
            // SAFETY: As above; the list is initialised.
            unsafe { bindings::unregister_netdevice_queue(dev, self.list.get()) };
        }
    }
}

/// Unregisters the devices that `fill` adds to a batch, all in one go, and waits until they are
/// gone. Takes RTNL when there is something to do; sleeps.
pub fn unregister_many(fill: impl FnOnce(&Batch)) {
    let batch = Batch {
        list: Opaque::uninit(),
        rtnl: Cell::new(None),
    };
    let list = batch.list.get();
    // SAFETY: `list` is valid for writes.
    // INVARIANT: The list is empty. `batch` does not leave this function except by shared
    // reference, so that it does not move, and nobody can take its place.
    unsafe {
        (*list).next = list;
        (*list).prev = list;
    }
    fill(&batch);
    if let Some(rtnl) = batch.rtnl.take() {
        // SAFETY: RTNL is held; the list has registered devices only.
        unsafe { bindings::unregister_netdevice_many(list) };
        // This is what waits.
        drop(rtnl);
    }
}
