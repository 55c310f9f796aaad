// SPDX-License-Identifier: GPL-2.0

//! Ethernet pseudowires (RFC 4719): a session whose far side is a network device.
//!
//! # Lifetimes
//!
//! A device owns a reference to its session, and to the namespace that the session is registered
//! in. The way back is no reference: the session's [`Port`] has a pointer that is null unless the
//! device is registered. So there is no cycle, and each of the two may go first:
//!
//! - The session is deleted: by a request, with its tunnel, or because its namespace exits. When it
//!   is in no table any more, a worker calls [`close_all`], which unregisters the device wherever
//!   it is by now.
//! - The device is deleted: by `ip link del`, or because its kind goes, when the module is
//!   unloaded. [`Driver::dellink`] deletes the session; the worker then finds the pointer null, as
//!   it takes RTNL to look, and RTNL is held until the device is unregistered.
//!
//! If both happen at once, RTNL decides: the device is unregistered once, and the session leaves
//! the tables once. If the device was moved to another network namespace, and that ends, the device
//! goes to the initial namespace and the session does not notice.
//!
//! A session is registered, then its device, within one RTNL section. Packets may arrive in
//! between, and are dropped. Should the session be deleted in between, [`close_all`] waits for
//! RTNL, and then finds the device. If the device cannot be registered, the session is deleted.
//!
//! # Contexts
//!
//! [`create`] and [`close_all`] take RTNL and sleep. [`Port::deliver`] and [`Driver::start_xmit`]
//! run with bottom halves off and take no lock, but for a session's turns if it numbers what it
//! sends.

use crate::{
    abstractions::{
        net::{
            net_namespace::Net,
            netdevice::{
                self,
                Config,
                DevicePtr,
                Driver,
                Refused,
                TxVerdict,
                Unregistered, //
            },
            rtnetlink,
            skbuff::Skb, //
        },
        sync::bottom_half, //
    },
    discard::{
        discard_of,
        Reason, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    l2tp_core::Namespace,
    netlink::Cause,
    prelude::*,
    pseudowire::Pseudowire,
    session::{
        Session,
        SessionConfig, //
    },
    tunnel::Tunnel,
    uapi::attr, //
};
use kernel::{
    error::code,
    sync::{
        rcu,
        Arc, //
    }, //
};

/// What a device is called if nobody says.
const NAME: &[u8; 16] = b"l2tpeth%d\0\0\0\0\0\0\0";

const NAME_TAKEN: Refusal = Refusal::new(
    code::EEXIST,
    c"a network device with this name exists already",
)
.about(attr::IFNAME);

static LINK: rtnetlink::Link<Interface> = rtnetlink::Link::new(c"l2tpeth");

/// For sessions that have no device.
static NOWHERE: DevicePtr<Interface> = DevicePtr::new();

/// The registration of the link kind. To be held by the module.
pub type Registration = rtnetlink::Registration<Interface>;

/// The end of a session that is a network device.
pub struct Port {
    device: DevicePtr<Interface>,
}

/// What a device knows.
pub struct Interface {
    namespace: Arc<Namespace>,
    session: Arc<Session>,
}

impl Port {
    /// Hands a frame to the device, as if it had received it from a wire. Drops a frame that comes too
    /// early, or too late, or that the device does not take. If not `ordered`, it may be merged with
    /// others of its stream, and others go before it. Softirq.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. The device counts what it drops.
    #[inline]
    pub fn deliver(
        &self,
        session: &Session,
        mut skb: Skb,
        ordered: bool,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Result {
        let Some(device) = self.device.get(guard) else {
            discard_of(session, skb, Reason::NoFarSide);
            return Ok(());
        };
        skb.decapsulate()?;
        if let Err((skb, why)) = device.receive(skb, ordered, guard, bh) {
            discard_of(session, skb, why.into());
        }
        Ok(())
    }

    /// The name that the device has now. [`None`] if there is no device. Takes RTNL.
    #[cfg_attr(
        not(any(
            all(CONFIG_DEBUG_FS, CONFIG_NET_NS),
            all(CONFIG_PROC_FS, CONFIG_L2TP_RUST_PPP)
        )),
        expect(dead_code)
    )]
    pub fn interface(&self) -> Option<[u8; 16]> {
        let rtnl = rtnetlink::lock();
        self.device
            .get_locked(&rtnl)
            .map(|device| device.name(&rtnl))
    }
}

impl From<Refused> for Reason {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Down => Self::NoFarSide,
            Refused::TooShort => Self::TooShort,
            Refused::TooLong => Self::TooLong,
        }
    }
}

impl Driver for Interface {
    const DEVTYPE: &'static CStr = c"l2tpeth";

    fn link() -> &'static rtnetlink::Link<Self> {
        &LINK
    }

    fn pointer(&self) -> &DevicePtr<Self> {
        match self.session.pseudowire() {
            Pseudowire::Eth(port) => &port.device,
            // Not made by `create`.
            Pseudowire::Ppp(_) => &NOWHERE,
        }
    }

    #[inline]
    fn start_xmit(&self, skb: Skb, bh: &bottom_half::Guard) -> TxVerdict {
        match self.session.transmit(skb, bh) {
            Ok(()) => TxVerdict::Sent,
            Err(_) => TxVerdict::Dropped,
        }
    }

    fn counters(&self, mut each: impl FnMut(&'static CStr, u64)) {
        for (name, value) in &self.session.stats().named() {
            each(name, *value);
        }
    }

    fn dellink(&self, _rtnl: &rtnetlink::Guard) {
        self.namespace.delete_session(&self.session, Cause::Other);
    }
}

/// Makes a session of `tunnel`, and its device in the network namespace `net`. When this returns,
/// the device is there and has its name. Takes RTNL and sleeps.
///
/// # Errors
///
/// Those of [`Namespace::register_session`]; `EEXIST` if there is a device of this name, `EINVAL`
/// if it is no name, `ENFILE` if no number is left for a pattern; `ENOMEM`.
pub fn create(
    namespace: &Arc<Namespace>,
    net: &Net,
    tunnel: &Arc<Tunnel>,
    config: &SessionConfig,
    ifname: Option<[u8; 16]>,
) -> Outcome<Arc<Session>> {
    let port = Port {
        device: DevicePtr::new(),
    };
    let session = Session::new(tunnel, config, Pseudowire::Eth(port))?;
    let device = Unregistered::new(
        net,
        &Config {
            name: ifname.as_ref().unwrap_or(NAME),
            name_is_users: ifname.is_some(),
            mtu: mtu(&session),
            min_mtu: 0,
            max_mtu: netdevice::ETH_MAX_MTU,
            needed_headroom: session.headroom().try_into().unwrap_or(u16::MAX),
        },
        Interface {
            namespace: namespace.clone(),
            session: session.clone(),
        },
    )?;

    let mut rtnl = rtnetlink::lock();
    if device.name_is_taken(&rtnl) {
        // Perhaps by a device whose session was deleted a moment ago.
        drop(rtnl);
        namespace.flush();
        rtnl = rtnetlink::lock();
        if device.name_is_taken(&rtnl) {
            return Err(NAME_TAKEN);
        }
    }
    namespace.register_session(&session)?;
    let named = device
        .register(&rtnl)
        .and_then(|device| namespace.name_session(&session, device.name(&rtnl)));
    match named {
        Ok(()) => Ok(session),
        Err(e) => {
            namespace.delete_session(&session, Cause::Unannounced);
            let refusal = Refusal::new(e, c"cannot register the network device");
            Err(if e == EINVAL && ifname.is_some() {
                refusal.about(attr::IFNAME)
            } else {
                refusal
            })
        }
    }
}

/// The MTU of a session's device: what is left of the path's when all headers are paid for. It does
/// not follow later changes of the path. Takes the socket lock.
fn mtu(session: &Session) -> u32 {
    let tunnel = session.tunnel();
    let network = tunnel.sock().ip_overhead();
    if network == 0 {
        return netdevice::ETH_DATA_LEN;
    }
    let link = session
        .header_len()
        .saturating_add(tunnel.udp_header_len())
        .saturating_add(netdevice::ETH_HLEN);
    let overhead = u32::try_from(link)
        .unwrap_or(u32::MAX)
        .saturating_add(network);
    tunnel
        .sock()
        .path_mtu()
        .and_then(|path| path.checked_sub(overhead))
        .filter(|&mtu| mtu <= netdevice::ETH_MAX_MTU)
        .unwrap_or_else(|| netdevice::ETH_DATA_LEN.saturating_sub(overhead))
}

/// Unregisters the devices of all ports that `visit` shows, whose sessions are in no table any more,
/// in one go, and waits until they are gone. Takes RTNL when it is shown one, and sleeps.
pub fn close_all(visit: impl FnOnce(&mut dyn FnMut(&Port))) {
    netdevice::unregister_many(|batch| visit(&mut |port| batch.add(&port.device)));
}
