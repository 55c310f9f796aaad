// SPDX-License-Identifier: GPL-2.0

//! Sending datagrams over IPv6.
//!
//! C headers: [`include/net/ipv6.h`](srctree/include/net/ipv6.h),
//! [`include/net/transp_v6.h`](srctree/include/net/transp_v6.h)

use super::{
    datagram::Message,
    net_namespace::Net,
    proto::{
        Proto,
        Socket, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::error::{
    from_err_ptr,
    to_result, //
};

/// Where a datagram is sent to.
pub struct Destination {
    /// The address.
    pub addr: [u8; 16],
    /// Traffic class and flow label, as on the wire. Only heeded if the user asked to choose them.
    pub flow: [u8; 4],
    /// The device that a link-local address belongs to, or 0.
    pub scope: u32,
}

/// What of the flow information the user may choose.
const FLOWINFO_MASK: u32 = 0x0fff_ffff_u32.to_be();
/// The flow label in it.
const FLOWLABEL_MASK: u32 = 0x000f_ffff_u32.to_be();

/// A flow label that somebody has reserved, in use.
struct FlowLabel(NonNull<bindings::ip6_flowlabel>);

impl FlowLabel {
    /// The reservation of `label`, if labels have to be reserved.
    fn find(sk: *mut bindings::sock, label: u32) -> Result<Option<Self>> {
        // SAFETY: The caller has a valid socket.
        let label = unsafe { bindings::fl6_sock_lookup(sk, label) };
        from_err_ptr(label)
            .map(|label| NonNull::new(label).map(Self))
            .map_err(|_| EINVAL)
    }
}

impl Drop for FlowLabel {
    fn drop(&mut self) {
        // SAFETY: `find` has counted the use.
        unsafe { bindings::fl6_sock_release(self.0.as_ptr()) }
    }
}

/// The options of a socket, counted.
struct Options(*mut bindings::ipv6_txoptions);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: Counted by `txopt_get`; may be null.
        unsafe { bindings::txopt_put(self.0) }
    }
}

/// A route, counted.
struct Route(NonNull<bindings::dst_entry>);

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: The lookup has counted it.
        unsafe { bindings::dst_release(self.0.as_ptr()) }
    }
}

impl<P: Proto> Socket<P> {
    /// Sends a datagram of `header_len` zero bytes and `len` bytes of data over IPv6, to `to`, or to
    /// whom the socket is connected to; or only the data, if this goes on with a message that was
    /// sent with `MSG_MORE`, and it is not sent before all of it is there. The options of the socket
    /// and those in the message's ancillary data apply. Takes the socket lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EDESTADDRREQ`, `EINVAL` for bad ancillary data or a foreign flow label, what routing says,
    /// `EMSGSIZE`, `EFAULT`, `ENOBUFS`, `EAGAIN`.
    pub fn send_v6(
        &self,
        net: &Net,
        to: Option<&Destination>,
        header_len: u8,
        message: &mut Message,
        len: usize,
    ) -> Result {
        let np = self.as_inet6();
        if np.is_null() {
            return Err(EAFNOSUPPORT);
        }
        let total = len.checked_add(header_len.into()).ok_or(EMSGSIZE)?;
        let (sk, msg) = (self.as_ptr(), message.as_ptr());

        let mut fl6 = bindings::flowi6::default();
        let mut label = None;
        // SAFETY: The socket is valid, and an IPv6 one. Like C, this reads its fields without the
        // lock.
        unsafe {
            fl6.__fl_common.flowic_mark = (&raw const (*sk).sk_mark).read_volatile();
            fl6.__fl_common.flowic_uid = (&raw const (*sk).sk_uid).read_volatile();
            // CAST: Protocol numbers of packets are 8 bits wide.
            fl6.__fl_common.flowic_proto = self.protocol() as u8;
        }
        let (_, peer) = self.filter_v6();
        let addr = match to {
            Some(to) => {
                // SAFETY: The socket is valid.
                if unsafe { bindings::inet6_sndflow(sk) } {
                    fl6.flowlabel = u32::from_ne_bytes(to.flow) & FLOWINFO_MASK;
                    if fl6.flowlabel & FLOWLABEL_MASK != 0 {
                        label = FlowLabel::find(sk, fl6.flowlabel)?;
                    }
                }
                // CAST: Numbers that are too large are no device's.
                fl6.__fl_common.flowic_oif = to.scope as i32;
                to.addr
            }
            None => {
                if !self.is_connected() {
                    return Err(EDESTADDRREQ);
                }
                // SAFETY: As above.
                fl6.flowlabel = unsafe { (&raw const (*np).flow_label).read_volatile() };
                peer
            }
        };
        if fl6.__fl_common.flowic_oif == 0 {
            // CAST: Interface indices fit in an `int`.
            fl6.__fl_common.flowic_oif = self.bound_device() as i32;
        }

        let mut cookie = bindings::ipcm6_cookie::default();
        let mut space = bindings::ipv6_txoptions::default();
        let space = &raw mut space;
        let mut opt: *mut bindings::ipv6_txoptions = ptr::null_mut();
        // SAFETY: Socket and message are valid, and the rest is ours. Options of the message lie in
        // user space's ancillary data, which was copied into the kernel and outlives this call.
        unsafe {
            bindings::ipcm6_init_sk(&mut cookie, sk);
            if (*msg).msg_controllen != 0 {
                // CAST: The size of a structure.
                (*space).tot_len = size_of::<bindings::ipv6_txoptions>() as i32;
                cookie.opt = space;
                to_result(bindings::ip6_datagram_send_ctl(
                    net.as_ptr(),
                    sk,
                    msg,
                    &mut fl6,
                    &mut cookie,
                ))?;
                if fl6.flowlabel & FLOWLABEL_MASK != 0 && label.is_none() {
                    label = FlowLabel::find(sk, fl6.flowlabel)?;
                }
                if (*space).opt_nflen | (*space).opt_flen != 0 {
                    opt = space;
                }
            }
        }
        // SAFETY: As above. Options of the socket are counted while they are used.
        let _options = unsafe {
            let mut counted = Options(ptr::null_mut());
            if opt.is_null() {
                counted.0 = bindings::txopt_get(np);
                opt = counted.0;
            }
            if let Some(label) = &label {
                opt = bindings::fl6_merge_options(space, label.0.as_ptr(), opt);
            }
            opt = bindings::ipv6_fixup_options(space, opt);
            cookie.opt = opt;
            counted
        };

        fl6.daddr.in6_u.u6_addr8 = if addr == [0; 16] {
            // As BSD has it.
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        } else {
            addr
        };
        let [first, ..] = addr;
        let mut last = bindings::in6_addr::default();
        // SAFETY: As above. All views of an address are integers.
        let route = unsafe {
            if fl6.saddr.in6_u.u6_addr8 == [0; 16] {
                fl6.saddr.in6_u.u6_addr8 = self.source_v6();
            }
            let last = bindings::fl6_update_dst(&mut fl6, opt, &mut last);
            if fl6.__fl_common.flowic_oif == 0 {
                let oif = if first == 0xff {
                    &raw const (*np).mcast_oif
                } else {
                    &raw const (*np).ucast_oif
                };
                fl6.__fl_common.flowic_oif = oif.read_volatile();
            }
            bindings::security_sk_classify_flow(sk, &mut fl6.__fl_common);
            // CAST: Traffic classes are 8 bits wide.
            let tclass = u32::from(cookie.tclass as u8);
            fl6.flowlabel |= tclass.wrapping_shl(20).to_be();
            let dst = bindings::ip6_dst_lookup_flow(net.as_ptr(), sk, &mut fl6, last);
            Route(NonNull::new(from_err_ptr(dst)?).ok_or(ENETUNREACH)?)
        };
        let dst = route.0.as_ptr();
        let flags = message.flags();
        // SAFETY: Socket, route and flow are valid.
        unsafe {
            if cookie.hlimit < 0 {
                // CAST: Hop limits are at most 255.
                cookie.hlimit = bindings::ip6_sk_dst_hoplimit(sk, &mut fl6, dst) as i16;
            }
            if flags & bindings::MSG_CONFIRM != 0 && flags & bindings::MSG_PROBE != 0 {
                bindings::dst_confirm_neigh(dst, (&raw const fl6.daddr).cast());
                if len == 0 {
                    return Ok(());
                }
            }
        }

        let _lock = self.lock();
        // SAFETY: As above, and the socket is locked. The data are copied from the message before
        // the call returns; the route is counted again if it is kept.
        to_result(unsafe {
            let queue = &raw mut (*sk).sk_write_queue;
            let going_on = !bindings::skb_peek(queue).is_null();
            let ret = bindings::ip6_append_data(
                sk,
                Some(bindings::ip_generic_getfrag),
                msg.cast(),
                if going_on { len } else { total },
                header_len.into(),
                &mut cookie,
                &mut fl6,
                dst.cast(),
                flags,
            );
            if ret != 0 {
                bindings::ip6_flush_pending_frames(sk);
                ret
            } else if flags & bindings::MSG_MORE != 0 {
                0
            } else {
                let skb = bindings::skb_peek(queue);
                if skb.is_null() {
                    0
                } else {
                    // `ip6_append_data` leaves room for the header at the transport header.
                    let header = bindings::skb_transport_header(skb);
                    ptr::write_bytes(header, 0, header_len.into());
                    bindings::ip6_push_pending_frames(sk)
                }
            }
        })
    }
}
