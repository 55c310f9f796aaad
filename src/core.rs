// SPDX-License-Identifier: GPL-2.0

//! The tunnels and sessions of each network namespace, and where received packets enter.
//!
//! # Tables
//!
//! Packets find their session in hash tables that are read under RCU, without a lock or a reference
//! count. One mutex for each namespace, `registry`, serialises everything that changes a table, and
//! keeps tunnels and sessions in the order of their ids for those who list them.
//!
//! | table | key | finds |
//! | --- | --- | --- |
//! | `tunnels` | tunnel id | requests |
//! | `sockets` | address of the socket | datagrams of a shared session id; a socket that closes |
//! | `v2` | 16 bits of tunnel id and of session id | v2 data messages |
//! | `v3` | session id | v3 data messages, unless the id is shared |
//! | `v3_shared` | tunnel id and session id | v3 data messages with a shared session id |
//! | `v3_flows` | hash of addresses, ports and session id | the same, on some other socket |
//! | `names` | device name at creation | requests |
//!
//! `names` has the first session of a name. There can be others, as a device may be renamed and its
//! name given to the next; their entries wait in the registry, and one moves up when the first is
//! deleted.
//!
//! RFC 3931 wants session ids to be unique on a node, but there are clients that give the same id to
//! a session in each of their UDP tunnels. So an id may be shared by UDP tunnels, and then the socket
//! that received the datagram tells which tunnel it belongs to.
//!
//! Otherwise the socket is not looked at, nor are the ports: a peer behind a NAT may come from another
//! port than yesterday, and then meets another of our sockets. But the addresses must be those that
//! the tunnel's socket is bound and connected to, unless `net.l2tp.check_peer` is 0; if the datagram
//! came to that very socket, UDP has seen to it. And a session of a UDP tunnel takes no IP packets,
//! nor the other way round: a firewall that lets one of them in says nothing about the other.
//!
//! Sockets may have addresses and ports in common, all of them. UDP then picks one, for control and
//! data of all their tunnels alike; so what finds the session is the ids in the message, as far as
//! they can. A shared session id that the tunnel of the socket does not have is looked for in the
//! tunnels that have the addresses and ports which the datagram came with: those that were connected
//! when their session was made. If there are several of these, nothing in the message tells them
//! apart, and any of them is taken; give such sessions ids of their own. Few are looked at, so that
//! no message takes long: whoever makes more of the same kind has sessions that only their own socket
//! finds.
//!
//! # Lifetimes
//!
//! A table entry is a reference. It is dropped one grace period after it was taken out, so that what
//! a reader finds is good for the rest of its RCU read section, and may be counted there.
//!
//! A tunnel leaves the tables in one go, with its sessions, whichever of its four ends comes first: a
//! request, its socket closing, its namespace exiting, or the module leaving, which makes every
//! namespace exit. Whoever removes its registry entry is the one who carries this through; the
//! others find nothing to do. When that is done, the ids and the socket may be used again. What takes
//! RTNL, or waits for it, is left to the namespace's workqueue: devices are unregistered, then a
//! socket of our own is closed.
//!
//! A namespace flushes its workqueue before it exits. What waits for the owner of a socket is left to
//! another one, of the module's, so that nobody else has to wait for him but who unloads the module;
//! such a socket keeps its namespace. The tables are dropped by a task that may sleep: others hold
//! references to a [`Namespace`] only while it has not exited.
//!
//! # Sockets that close unheard
//!
//! UDP says that a socket closes if this has a type of encapsulation. Its owner can set that to none,
//! or give the socket to another kind of tunnel. Then our tunnel would stay: it counts the socket, and
//! that the namespace, which would not end either. So as long as a namespace has tunnels on UDP sockets
//! of others, it looks every few seconds whether one of these is closed, and deletes its tunnel.
//!
//! A timer, set when such a tunnel is made, has the workqueue look, which sets the timer again if
//! there is one left. Timer and work own a reference to the [`Namespace`], one after the other. When a
//! namespace exits, everything is deleted first, so that nobody sets the timer again; then the timer
//! is stopped, and what it may have queued is waited for. So neither can be left when the module goes,
//! nor drop the tables, whose end waits for the workqueue. A socket that says that it closes while
//! it is looked at is the ordinary case of two who delete the same tunnel.
//!
//! # Locks
//!
//! genetlink's mutex, then RTNL, then `registry`. A socket lock is taken with neither of ours held,
//! to make a tunnel and not to delete one: the socket's owner may hold it for as long as he likes, by
//! sending from memory that he keeps from being there. The workqueue takes RTNL, so that nobody who
//! holds RTNL waits for it.

use crate::{
    abstractions::{
        net::{
            net_namespace::{
                Net,
                PerNet,
                Slot, //
            },
            skbuff::Skb,
            sock::{
                Endpoints,
                Sock,
                SockGuard, //
            },
            socket::{
                FileSocket,
                KernelSocket, //
            },
            sysctl::Switch,
            udp_tunnel::{
                Encap,
                Verdict, //
            },
        },
        rhashtable::{
            Entry,
            RcuHashLists,
            RcuHashTable, //
        },
        sync::bottom_half,
        time,
        timer::{
            Expire,
            Timer, //
        },
        workqueue::{
            ModuleQueue,
            OwnedQueue, //
        }, //
    },
    discard::{
        discard,
        discard_of,
        Reason, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    ip,
    netlink::{
        self,
        Cause,
        Change, //
    },
    prelude::*,
    session::Session,
    trace,
    tunnel::{
        self,
        Sessions,
        SocketConfig,
        Tunnel,
        TunnelConfig, //
    },
    uapi::attr,
    wire::{
        self,
        ids::{
            v2_key,
            EncapType,
            SessionId,
            TunnelId,
            Version, //
        },
        v3,
        UdpPeek, //
    }, //
};
use kernel::{
    error::code,
    new_mutex,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        Arc,
        ArcBorrow,
        Mutex,
        SetOnce, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};

/// How often closed sockets are looked for, in ticks.
const SWEEP_PERIOD: u64 = 5 * time::HZ;

/// What a v3 session id stands for.
enum Holder {
    /// One session.
    Sole(Arc<Session>),
    /// This many sessions of different UDP tunnels, which are in `v3_shared`.
    Shared(Atomic<u32>),
}

/// One of the sessions that share an id.
struct Sharer {
    session: Arc<Session>,
    /// Its key in `v3_flows`, if it is there.
    flow: Option<[u8; 8]>,
}

/// A place in the order of tunnels.
enum Place {
    /// The id is taken, the tunnel is being made.
    Reserved,
    /// A tunnel and its sessions.
    Taken(Arc<Tunnel>, Sessions),
}

/// Everything in the order of ids.
struct Registry {
    tunnels: RBTree<u32, Place>,
    /// Entries for the table of names, while an older session is found by the name.
    namesakes: Namesakes,
}

type Namesakes = RBTree<NameOrder, Entry<[u8; 16], Arc<Session>>>;

/// What namesakes are ordered by: name, tunnel id, session id.
type NameOrder = ([u8; 16], u32, u32);

/// The session that a message is for, if there is one.
type Found<'a> = Option<&'a Arc<Session>>;

/// The state of a network namespace.
#[pin_data]
pub struct Namespace {
    #[pin]
    registry: Mutex<Registry>,
    #[pin]
    tunnels: RcuHashTable<[u8; 8], Arc<Tunnel>>,
    #[pin]
    sockets: RcuHashTable<[u8; 8], Arc<Tunnel>>,
    #[pin]
    v2: RcuHashTable<[u8; 8], Arc<Session>>,
    #[pin]
    v3: RcuHashTable<[u8; 8], Holder>,
    #[pin]
    v3_shared: RcuHashTable<[u8; 8], Sharer>,
    #[pin]
    v3_flows: RcuHashLists<Arc<Session>>,
    #[pin]
    names: RcuHashTable<[u8; 16], Arc<Session>>,
    /// Whether messages are refused that come from others than the tunnel's peer.
    #[pin]
    check_peer: Switch,
    /// Made when it is first needed; most namespaces never do.
    queue: SetOnce<OwnedQueue>,
    /// Runs while there are tunnels whose sockets may close unheard.
    #[pin]
    sweep_timer: Timer<Self>,
    #[pin]
    sweep_work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Namespace { self.sweep_work }
}

static SLOT: Slot<Namespace> = Slot::new();

/// For what may have to wait for user space.
pub static SLOW_QUEUE: ModuleQueue = ModuleQueue::new();

impl PerNet for Namespace {
    fn slot() -> &'static Slot<Self> {
        &SLOT
    }

    fn init(_net: &Net) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                registry <- new_mutex!(Registry::new(), "l2tp registry"),
                tunnels <- RcuHashTable::new(),
                sockets <- RcuHashTable::new(),
                v2 <- RcuHashTable::new(),
                v3 <- RcuHashTable::new(),
                v3_shared <- RcuHashTable::new(),
                v3_flows <- RcuHashLists::new(),
                names <- RcuHashTable::new(),
                check_peer <- Switch::new(c"net/l2tp", c"check_peer", true),
                queue: SetOnce::new(),
                sweep_timer <- Timer::new(),
                sweep_work <- new_work!("Namespace::sweep_work"),
            }? Error),
            GFP_KERNEL,
        )
    }

    fn switch(&self) -> Option<&Switch> {
        Some(&self.check_peer)
    }

    fn pre_exit(this: ArcBorrow<'_, Self>) {
        this.delete_all();
        // What comes now finds no tunnel, and does not start it again.
        this.sweep_timer.stop();
        this.flush();
    }

    fn exit(this: Arc<Self>) {
        if !this.registry.lock().tunnels.is_empty() {
            pr_err!("a network namespace exits with tunnels in it\n");
        }
    }
}

fn key64(n: u64) -> [u8; 8] {
    n.to_ne_bytes()
}

fn tunnel_key(id: TunnelId) -> [u8; 8] {
    key64(id.get().into())
}

fn v3_key(id: SessionId) -> [u8; 8] {
    key64(id.get().into())
}

fn shared_key(tunnel: TunnelId, session: SessionId) -> [u8; 8] {
    key64((u64::from(tunnel.get()) << 32) | u64::from(session.get()))
}

fn socket_key(sk: &Sock) -> [u8; 8] {
    // CAST: Addresses are at most 64 bits wide.
    key64(core::ptr::from_ref(sk).addr() as u64)
}

/// The key of a session of a connected socket in `v3_flows`. Whoever finds an entry compares what
/// this is the hash of.
fn flow_key(sk: &Sock, id: SessionId) -> Option<[u8; 8]> {
    if !sk.is_connected() {
        return None;
    }
    let (source, dest) = sk.ports();
    let (saddr, daddr) = match sk.endpoints() {
        Endpoints::V4 { saddr, daddr } => (
            u32::from_ne_bytes(saddr).into(),
            u32::from_ne_bytes(daddr).into(),
        ),
        Endpoints::V6 { saddr, daddr } => (u128::from_ne_bytes(saddr), u128::from_ne_bytes(daddr)),
    };
    let ports = u64::from(source) << 48 | u64::from(dest) << 32;
    let mut hash = ports | u64::from(id.get());
    for word in [saddr, saddr >> 64, daddr, daddr >> 64] {
        // CAST: The lower half is meant.
        hash = (hash.rotate_left(23) ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Some(key64(hash))
}

const TUNNEL_EXISTS: Refusal =
    Refusal::new(code::EEXIST, c"a tunnel with this id exists already").about(attr::CONN_ID);
const SESSION_EXISTS: Refusal =
    Refusal::new(code::EEXIST, c"a session with this id exists already").about(attr::SESSION_ID);
const TUNNEL_CLOSING: Refusal =
    Refusal::new(code::ENODEV, c"the tunnel is being deleted").about(attr::CONN_ID);

impl Namespace {
    /// The state of `net`. Any context.
    #[inline]
    pub fn of(net: &Net) -> Option<ArcBorrow<'_, Self>> {
        SLOT.get(net)
    }

    /// Waits until devices and sockets of what was deleted are gone. Sleeps; RTNL must not be held.
    pub fn flush(&self) {
        if let Some(queue) = self.queue.as_ref() {
            queue.flush();
        }
    }

    fn make_queue(&self) -> Result {
        if self.queue.as_ref().is_none() {
            // If another task was faster, this one is dropped.
            self.queue.populate(OwnedQueue::new(c"l2tp")?);
        }
        // The other may have chosen the place but not filled it yet.
        self.queue.as_ref().ok_or(ENOMEM)?;
        Ok(())
    }

    // Finding.

    /// The tunnel `id`. Any context.
    pub fn tunnel(&self, id: TunnelId) -> Option<Arc<Tunnel>> {
        let guard = rcu::read_lock();
        self.tunnels.find_rcu(&tunnel_key(id), &guard).cloned()
    }

    /// The tunnel with the lowest id that is not below `from`. May sleep.
    pub fn next_tunnel(&self, from: TunnelId) -> Option<Arc<Tunnel>> {
        let registry = self.registry.lock();
        let mut from = from.get();
        loop {
            match registry.tunnels.cursor_lower_bound(&from)?.current() {
                (_, Place::Taken(tunnel, _)) => return Some(tunnel.clone()),
                (id, Place::Reserved) => from = id.checked_add(1)?,
            }
        }
    }

    /// The session `id` of `tunnel`. May sleep.
    pub fn session(&self, tunnel: &Tunnel, id: SessionId) -> Option<Arc<Session>> {
        let registry = self.registry.lock();
        let sessions = registry.sessions(tunnel)?;
        sessions.get(&session_order(tunnel, id)).cloned()
    }

    /// The session of `tunnel` with the lowest id that is not below `from`. May sleep.
    pub fn next_session(&self, tunnel: &Tunnel, from: SessionId) -> Option<Arc<Session>> {
        let registry = self.registry.lock();
        let sessions = registry.sessions(tunnel)?;
        let cursor = sessions.cursor_lower_bound(&from.get())?;
        let (_, session) = cursor.current();
        Some(session.clone())
    }

    /// How many sessions `tunnel` has. May sleep.
    #[cfg_attr(
        not(any(
            all(CONFIG_DEBUG_FS, CONFIG_NET_NS),
            all(CONFIG_PROC_FS, CONFIG_L2TP_RUST_PPP)
        )),
        expect(dead_code)
    )]
    pub fn session_count(&self, tunnel: &Tunnel) -> usize {
        let registry = self.registry.lock();
        registry.sessions(tunnel).map_or(0, |sessions| {
            // Adding up in a way that cannot overflow, which `count` might.
            sessions
                .values()
                .filter(|session| !session.is_hidden())
                .fold(0, |n: usize, _| n.wrapping_add(1))
        })
    }

    /// The session whose device was called `name` when it was made; of several, the oldest, and after
    /// it the one with the lowest ids. Any context.
    pub fn session_by_ifname(&self, name: &[u8; 16]) -> Option<Arc<Session>> {
        let guard = rcu::read_lock();
        self.names.find_rcu(name, &guard).cloned()
    }

    /// The session that a v3 data message over UDP belongs to.
    #[inline]
    fn v3_session<'a>(&'a self, sk: &Sock, id: SessionId, guard: &'a rcu::Guard) -> Found<'a> {
        match self.v3.find_rcu(&v3_key(id), guard)? {
            Holder::Sole(session) => Some(session),
            Holder::Shared(_) => {
                let tunnel = self.sockets.find_rcu(&socket_key(sk), guard)?;
                let key = shared_key(tunnel.tunnel_id(), id);
                match self.v3_shared.find_rcu(&key, guard) {
                    Some(sharer) => Some(&sharer.session),
                    None => self.v3_session_beside(sk, id, guard),
                }
            }
        }
    }

    /// The session with the shared id `id` of a tunnel with the same addresses and ports as `sk`.
    #[cold]
    fn v3_session_beside<'a>(
        &'a self,
        sk: &Sock,
        id: SessionId,
        guard: &'a rcu::Guard,
    ) -> Found<'a> {
        let mut sharers = self.v3_flows.find_rcu(&flow_key(sk, id)?, guard);
        sharers.find(|session| {
            let other = session.tunnel().sock();
            session.session_id() == id
                && other.is_connected()
                && other.endpoints() == sk.endpoints()
                && other.ports() == sk.ports()
                && other.bound_device() == sk.bound_device()
        })
    }

    // Making.

    /// Makes a tunnel. Sleeps; RTNL must not be held.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the id is taken. For a file descriptor: `EBADF`, `ENOTSOCK`, `EINVAL` if it is of
    /// another namespace, `EPROTONOSUPPORT` if it is not of the right kind, `EBUSY` if it is in use.
    /// For a socket of our own, what creating, binding and connecting it give.
    pub fn create_tunnel(
        self: ArcBorrow<'_, Self>,
        net: &Net,
        config: &TunnelConfig,
        socket: &SocketConfig,
    ) -> Outcome<Arc<Tunnel>> {
        self.make_queue()?;
        self.reserve(config.tunnel_id)?;
        // Held until the tunnel is registered: from then on, closing the socket ends it.
        let mut file = None;
        let made = match self.open_tunnel(net, config, socket, &mut file) {
            // A socket of a tunnel that was deleted a moment ago may still be there.
            Err(refusal) if refusal.error == EADDRINUSE => {
                self.flush();
                self.open_tunnel(net, config, socket, &mut file)
            }
            other => other,
        };
        let made = made.and_then(|tunnel| {
            let entry = Entry::new(tunnel_key(config.tunnel_id), tunnel.clone(), GFP_KERNEL);
            match entry
                .map_err(Error::from)
                .and_then(|entry| self.tunnels.insert(entry).map_err(|(e, _)| e))
            {
                Ok(()) => Ok(tunnel),
                Err(e) => {
                    self.release_socket(&tunnel);
                    tunnel.finish();
                    Err(e.into())
                }
            }
        });
        let mut registry = self.registry.lock();
        match made {
            Ok(tunnel) => {
                if let Some(place) = registry.tunnels.get_mut(&config.tunnel_id.get()) {
                    *place = Place::Taken(tunnel.clone(), RBTree::new());
                }
                trace::register_tunnel(&tunnel);
                drop(registry);
                if tunnel.is_on_udp_of_others() {
                    Arc::from(self).sweep_later();
                }
                Ok(tunnel)
            }
            Err(refusal) => {
                let place = registry.tunnels.remove_node(&config.tunnel_id.get());
                drop(registry);
                drop(place);
                Err(refusal)
            }
        }
    }

    fn reserve(&self, id: TunnelId) -> Outcome {
        let node = RBTreeNode::new(id.get(), Place::Reserved, GFP_KERNEL)?;
        let mut registry = self.registry.lock();
        if registry.tunnels.get(&id.get()).is_some() {
            return Err(TUNNEL_EXISTS);
        }
        registry.tunnels.insert(node);
        Ok(())
    }

    fn open_tunnel(
        &self,
        net: &Net,
        config: &TunnelConfig,
        socket: &SocketConfig,
        file: &mut Option<FileSocket>,
    ) -> Outcome<Arc<Tunnel>> {
        match *socket {
            SocketConfig::Fd(fd) => {
                let file = file.insert(FileSocket::from_fd(fd).map_err(|e| {
                    Refusal::new(e, c"the file descriptor is not an open socket").about(attr::FD)
                })?);
                if !file.is_in(net) {
                    return Err(Refusal::new(
                        EINVAL,
                        c"the socket belongs to another network namespace",
                    )
                    .about(attr::FD));
                }
                let sk = file.inet_datagram().ok_or(
                    Refusal::new(
                        EPROTONOSUPPORT,
                        c"the socket is not an internet datagram socket",
                    )
                    .about(attr::FD),
                )?;
                self.attach(net, config, sk, None, fd)
            }
            SocketConfig::Udp {
                ref addresses,
                sport,
                dport,
            } => {
                let socket = KernelSocket::new_udp(net, addresses, sport, dport)
                    .map_err(|e| Refusal::new(e, c"cannot open, bind or connect a UDP socket"))?;
                let sk = socket.hold();
                self.attach(net, config, &sk, Some(socket), -1)
            }
            SocketConfig::Ip4 { local, peer } => {
                let socket = ip::kernel_socket4(net, config, local, peer)?;
                let sk = socket.hold();
                self.attach(net, config, &sk, Some(socket), -1)
            }
            SocketConfig::Ip6 { local, peer } => {
                let socket = ip::kernel_socket6(net, config, local, peer)?;
                let sk = socket.hold();
                self.attach(net, config, &sk, Some(socket), -1)
            }
        }
    }

    /// Puts a tunnel on a socket.
    fn attach(
        &self,
        net: &Net,
        config: &TunnelConfig,
        sk: &Sock,
        socket: Option<KernelSocket>,
        fd: i32,
    ) -> Outcome<Arc<Tunnel>> {
        let protocol = match config.encap {
            EncapType::Udp => 17,
            EncapType::Ip => ip::PROTOCOL,
        };
        if sk.protocol() != protocol {
            return Err(Refusal::new(
                EPROTONOSUPPORT,
                c"the socket is not of the encapsulation's protocol",
            )
            .about(attr::FD));
        }
        let tunnel = Tunnel::new(config, ARef::from(sk), socket, fd)?;
        let entry = Entry::new(socket_key(sk), tunnel.clone(), GFP_KERNEL)?;
        let lock = sk.lock();
        // Only Ethernet frames are merged, which version 2 does not carry.
        let merges = config.version == Version::V3;
        let attached = self.attach_locked(net, &lock, entry, merges);
        drop(lock);
        match attached {
            Ok(()) => Ok(tunnel),
            Err(refusal) => {
                // Closes the socket if it is ours.
                tunnel.finish();
                Err(refusal)
            }
        }
    }

    fn attach_locked(
        &self,
        net: &Net,
        lock: &SockGuard<'_>,
        entry: Entry<[u8; 8], Arc<Tunnel>>,
        merges: bool,
    ) -> Outcome {
        const BUSY: Refusal =
            Refusal::new(code::EBUSY, c"the socket is in use by another tunnel").about(attr::FD);

        if lock.sock().is_udp() && lock.has_user_data() {
            return Err(BUSY);
        }
        self.sockets.insert(entry).map_err(|(e, _)| match e {
            e if e == EEXIST => BUSY,
            e => e.into(),
        })?;
        lock.set_encap::<Self>(net, merges);
        lock.set_atomic_allocation();
        Ok(())
    }

    /// Makes a tunnel's socket an ordinary one again.
    fn release_socket(&self, tunnel: &Arc<Tunnel>) {
        // In this order: while it is in the table, nobody else attaches to it.
        tunnel.sock().clear_encap::<Self>();
        self.sockets.remove(&socket_key(tunnel.sock()));
        SLOW_QUEUE.with(|queue| tunnel.clone().unhook_later(queue));
    }

    /// Lets packets and requests find `session`. May sleep, and be called with RTNL held.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the tunnel is being deleted, `EEXIST` if the id is taken: in the tunnel, or by
    /// any v3 session if one of the two is in an IP tunnel.
    pub fn register_session(&self, session: &Arc<Session>) -> Outcome {
        let tunnel = session.tunnel();
        let order = session_order(tunnel, session.session_id());
        let node = RBTreeNode::new(order, session.clone(), GFP_KERNEL)?;
        let mut registry = self.registry.lock();
        let sessions = registry.sessions_mut(tunnel).ok_or(TUNNEL_CLOSING)?;
        if sessions.get(&order).is_some() {
            return Err(SESSION_EXISTS);
        }
        match tunnel.version() {
            // No message is for it.
            _ if session.is_management() => (),
            Version::V2 => {
                let key = v2_table_key(session);
                let entry = Entry::new(key, session.clone(), GFP_KERNEL)?;
                self.v2.insert(entry).map_err(|(e, _)| in_use(e))?;
            }
            Version::V3 => self.register_v3(session)?,
        }
        sessions.insert(node);
        trace::register_session(session);
        Ok(())
    }

    /// Enters a v3 session. The registry must be locked.
    fn register_v3(&self, session: &Arc<Session>) -> Outcome {
        let key = v3_key(session.session_id());
        let entry = Entry::new(key, Holder::Sole(session.clone()), GFP_KERNEL)?;
        match self.v3.insert(entry) {
            Ok(()) => return Ok(()),
            Err((e, _)) if e != EEXIST => return Err(e.into()),
            Err(_) => (),
        }
        if session.tunnel().encap() == EncapType::Ip {
            return Err(SESSION_EXISTS);
        }
        let Some(first) = self.v3_first(&key) else {
            // Shared already. The registry is locked, so that it stays so.
            self.share(session)?;
            let guard = rcu::read_lock();
            if let Some(Holder::Shared(count)) = self.v3.find_rcu(&key, &guard) {
                count.add(1u32, Relaxed);
            }
            return Ok(());
        };
        if first.tunnel().encap() == EncapType::Ip {
            return Err(SESSION_EXISTS);
        }
        // The new way to find both comes first, then the switch to it.
        let shared = Entry::new(key, Holder::Shared(Atomic::new(2)), GFP_KERNEL)?;
        self.share(&first)?;
        if let Err(refusal) = self.share(session) {
            self.unshare(&first);
            return Err(refusal);
        }
        let _ = self.v3.replace(shared);
        Ok(())
    }

    /// The session that has a v3 id to itself.
    fn v3_first(&self, key: &[u8; 8]) -> Option<Arc<Session>> {
        let guard = rcu::read_lock();
        match self.v3.find_rcu(key, &guard)? {
            Holder::Sole(session) => Some(session.clone()),
            Holder::Shared(_) => None,
        }
    }

    fn share(&self, session: &Arc<Session>) -> Outcome {
        /// At most as many entries have one key.
        const FLOWS: usize = 16;

        // It does without if there is no memory.
        let flow = flow_key(session.tunnel().sock(), session.session_id()).filter(|key| {
            let guard = rcu::read_lock();
            let full = self.v3_flows.find_rcu(key, &guard).nth(FLOWS - 1).is_some();
            drop(guard);
            !full
                && Entry::new(*key, session.clone(), GFP_KERNEL)
                    .is_ok_and(|entry| self.v3_flows.insert(entry).is_ok())
        });
        let sharer = Sharer {
            session: session.clone(),
            flow,
        };
        let shared = Entry::new(v3_shared_key(session), sharer, GFP_KERNEL)
            .map_err(Refusal::from)
            .and_then(|entry| self.v3_shared.insert(entry).map_err(|(e, _)| in_use(e)));
        if let (Err(_), Some(key)) = (&shared, flow) {
            self.leave_flow(session, &key);
        }
        shared
    }

    fn leave_flow(&self, session: &Session, key: &[u8; 8]) {
        self.v3_flows
            .remove(key, |found| core::ptr::eq(&**found, session));
    }

    /// Undoes [`Namespace::share`], if it was done. The registry must be locked.
    fn unshare(&self, session: &Session) {
        let key = v3_shared_key(session);
        let guard = rcu::read_lock();
        let flow = self
            .v3_shared
            .find_rcu(&key, &guard)
            .and_then(|sharer| sharer.flow);
        drop(guard);
        if let Some(flow) = flow {
            self.leave_flow(session, &flow);
        }
        self.v3_shared.remove(&key);
    }

    /// Records the name of the session's device, by which requests may find it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what growing the table gives.
    pub fn name_session(&self, session: &Arc<Session>, name: [u8; 16]) -> Result {
        session.set_ifname(name);
        let entry = Entry::new(name, session.clone(), GFP_KERNEL)?;
        let mut registry = self.registry.lock();
        if !registry.has(session) {
            // It was deleted in the meantime, and nobody would remove the entry.
            return Ok(());
        }
        match self.names.insert(entry) {
            Err((e, entry)) if e == EEXIST => {
                // Allocated with the lock held, which allocates nothing while it reclaims memory.
                registry.namesakes.try_create_and_insert(
                    name_order(session, name),
                    entry,
                    GFP_KERNEL,
                )?;
                Ok(())
            }
            other => other.map_err(|(e, _)| e),
        }
    }

    // Telling.

    /// Tells listeners that `tunnel` was made or modified, unless it has gone again: they would not
    /// hear of its end any more. May sleep.
    pub fn announce_tunnel(&self, tunnel: &Tunnel, change: Change, cause: Cause<'_>) {
        let registry = self.registry.lock();
        if registry.sessions(tunnel).is_some() {
            netlink::tell_tunnel(cause, change, tunnel);
        }
    }

    /// As [`Namespace::announce_tunnel`].
    pub fn announce_session(&self, session: &Arc<Session>, change: Change, cause: Cause<'_>) {
        let registry = self.registry.lock();
        if registry.has(session) {
            netlink::tell_session(cause, change, session);
        }
    }

    // Deleting.

    /// Deletes a session, and says so. When this returns, its id is free. True if it was this call
    /// that did it. May sleep, and be called with RTNL held.
    pub fn delete_session(&self, session: &Arc<Session>, cause: Cause<'_>) -> bool {
        let order = session_order(session.tunnel(), session.session_id());
        let mut registry = self.registry.lock();
        let node = registry
            .sessions_mut(session.tunnel())
            .filter(|sessions| {
                sessions
                    .get(&order)
                    .is_some_and(|found| Arc::ptr_eq(found, session))
            })
            .and_then(|sessions| sessions.remove_node(&order));
        if node.is_none() {
            return false;
        }
        netlink::tell_session(cause, Change::Deleted, session);
        self.unlink_session(session, &mut registry.namesakes);
        drop(registry);
        drop(node);
        if let Some(queue) = self.queue.as_ref() {
            session.clone().finish_later(queue);
        }
        true
    }

    /// Deletes a tunnel with its sessions, and says so. When this returns, their ids are free and the
    /// socket is an ordinary one again. May sleep.
    pub fn delete_tunnel(&self, tunnel: &Arc<Tunnel>, cause: Cause<'_>) {
        if self.unlink_tunnel(tunnel, cause) {
            if let Some(queue) = self.queue.as_ref() {
                tunnel.clone().finish_later(queue);
            }
        }
    }

    /// Takes a tunnel and its sessions out of all tables. True if it was this call that did it.
    fn unlink_tunnel(&self, tunnel: &Arc<Tunnel>, cause: Cause<'_>) -> bool {
        let id = tunnel.tunnel_id();
        let mut registry = self.registry.lock();
        if registry.sessions(tunnel).is_none() {
            return false;
        }
        let Some(place) = registry.tunnels.remove(&id.get()) else {
            return false;
        };
        self.tunnels.remove(&tunnel_key(id));
        if let Place::Taken(_, sessions) = place {
            for session in sessions.values() {
                netlink::tell_session(Cause::Other, Change::Deleted, session);
                self.unlink_session(session, &mut registry.namesakes);
            }
            netlink::tell_tunnel(cause, Change::Deleted, tunnel);
            trace::delete_tunnel(tunnel);
            tunnel.set_closed();
            tunnel.leave(sessions);
        }
        drop(registry);
        self.release_socket(tunnel);
        true
    }

    /// Takes a session out of the hash tables. The registry must be locked.
    fn unlink_session(&self, session: &Arc<Session>, namesakes: &mut Namesakes) {
        trace::delete_session(session);
        session.pseudowire().unlinked();
        match session.tunnel().version() {
            _ if session.is_management() => (),
            Version::V2 => {
                self.v2.remove(&v2_table_key(session));
            }
            Version::V3 => self.unlink_v3(session),
        }
        if let Some(name) = session.ifname() {
            self.unlink_name(session, name, namesakes);
        }
    }

    fn unlink_name(&self, session: &Arc<Session>, name: [u8; 16], namesakes: &mut Namesakes) {
        if namesakes.remove(&name_order(session, name)).is_some() {
            return;
        }
        let guard = rcu::read_lock();
        let ours = self
            .names
            .find_rcu(&name, &guard)
            .is_some_and(|found| Arc::ptr_eq(found, session));
        drop(guard);
        if !ours {
            return;
        }
        let next = namesakes
            .cursor_lower_bound(&(name, 0, 0))
            .map(|cursor| *cursor.current().0)
            .filter(|order| order.0 == name)
            .and_then(|order| namesakes.remove(&order));
        match next {
            // Takes no memory. The registry is locked, so that the name is still there.
            Some(entry) => {
                let _ = self.names.replace(entry);
            }
            None => {
                self.names.remove(&name);
            }
        }
    }

    fn unlink_v3(&self, session: &Arc<Session>) {
        let key = v3_key(session.session_id());
        let guard = rcu::read_lock();
        let last = match self.v3.find_rcu(&key, &guard) {
            Some(Holder::Sole(_)) => true,
            // The last of them goes on being found by its socket.
            Some(Holder::Shared(count)) => count.fetch_sub(1u32, Relaxed) == 1,
            None => false,
        };
        drop(guard);
        if last {
            self.v3.remove(&key);
        }
        self.unshare(session);
    }

    /// Deletes everything, and waits until it is gone. Sleeps.
    fn delete_all(&self) {
        // Not one by one: unregistering a device takes a grace period, whether for one or for many.
        // Nor all at once, as there may be no memory to remember all of them.
        const MANY: usize = 64;

        loop {
            let mut gone = [const { None }; MANY];
            for place in &mut gone {
                let Some(tunnel) = self.next_tunnel(TunnelId::new(0)) else {
                    break;
                };
                if self.unlink_tunnel(&tunnel, Cause::Other) {
                    *place = Some(tunnel);
                }
            }
            if gone.iter().all(Option::is_none) {
                break;
            }
            tunnel::finish_all(gone.iter().flatten().map(|tunnel| &**tunnel));
        }
        self.flush();
    }

    /// Deletes the tunnels whose sockets have closed unheard. True if that may happen to others. May
    /// sleep.
    fn sweep(&self) -> bool {
        let mut others = false;
        let mut from = Some(0);
        while let Some(tunnel) = from.and_then(|id| self.next_tunnel(TunnelId::new(id))) {
            if tunnel.is_on_udp_of_others() {
                if tunnel.sock().is_dead() {
                    self.delete_tunnel(&tunnel, Cause::Other);
                } else {
                    others = true;
                }
            }
            from = tunnel.tunnel_id().get().checked_add(1);
        }
        others
    }

    fn sweep_later(self: Arc<Self>) {
        self.sweep_timer.start(&self, SWEEP_PERIOD);
    }

    /// A socket is being closed. If a tunnel is on it, that ends. May sleep.
    pub fn socket_closed(&self, sk: &Sock) {
        let guard = rcu::read_lock();
        let tunnel = self.sockets.find_rcu(&socket_key(sk), &guard).cloned();
        drop(guard);
        if let Some(tunnel) = tunnel {
            self.delete_tunnel(&tunnel, Cause::Other);
        }
    }

    // Receiving.

    /// Whether a message of `tunnel` may come from where it came from.
    #[inline]
    fn admits(&self, tunnel: &Tunnel, skb: &Skb, guard: &rcu::Guard) -> bool {
        tunnel.is_from_peer(skb.ip_header(), guard) || !self.check_peer.is_on()
    }

    /// A data message over IP has come; `skb` begins with its session id. Softirq.
    #[cfg_attr(not(CONFIG_L2TP_RUST_IP), expect(dead_code))]
    #[inline]
    pub fn receive_ip(&self, skb: Skb, id: SessionId, guard: &rcu::Guard, bh: &bottom_half::Guard) {
        // A shared id belongs to UDP tunnels only.
        let Some(Holder::Sole(session)) = self.v3.find_rcu(&v3_key(id), guard) else {
            discard(skb, Reason::UnknownSession, id.get());
            return;
        };
        let tunnel = session.tunnel();
        if tunnel.encap() != EncapType::Ip {
            tunnel.counters().rx_invalid.count();
            discard_of(session, skb, Reason::WrongEncap);
            return;
        }
        if !self.admits(tunnel, &skb, guard) {
            tunnel.counters().rx_invalid.count();
            discard_of(session, skb, Reason::NotThePeer);
            return;
        }
        if let Err(skb) = Session::receive(session, skb, v3::OPTIONS_AT_IP, guard, bh) {
            discard_of(session, skb, Reason::Truncated);
        }
    }

    /// The length of the header of a data message over IP, if it may be merged with others before it
    /// comes here: see [`Session::merges`]. Where it comes from is asked when it comes.
    #[cfg_attr(not(CONFIG_L2TP_RUST_IP), expect(dead_code))]
    pub fn mergeable_ip(&self, message: &[u8], id: SessionId) -> Option<usize> {
        let guard = rcu::read_lock();
        match self.v3.find_rcu(&v3_key(id), &guard)? {
            Holder::Sole(session) if session.tunnel().encap() == EncapType::Ip => {
                session.merges(message, v3::OPTIONS_AT_IP)
            }
            _ => None,
        }
    }

    /// The length of the header of a message in a datagram, if it may be merged with others before it
    /// comes here: see [`Session::merges`].
    fn mergeable_udp(&self, sk: &Sock, message: &[u8]) -> Option<usize> {
        let UdpPeek::V3 {
            session_id,
            version,
        } = wire::peek_udp(message)
        else {
            return None;
        };
        let guard = rcu::read_lock();
        let session = self.v3_session(sk, session_id, &guard)?;
        let tunnel = session.tunnel();
        // The tunnel's own socket, so that UDP has seen to it that it comes from the peer.
        if version != tunnel.version().get() || !core::ptr::eq(sk, tunnel.sock()) {
            return None;
        }
        session.merges(message, v3::OPTIONS_AT_UDP)
    }

    /// A datagram has come.
    #[inline]
    fn receive_udp(
        &self,
        sk: &Sock,
        mut skb: Skb,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Verdict {
        let wanted = skb.len().min(wire::UDP_PEEK_LEN);
        let Some(bytes) = skb.pull_head(wanted) else {
            return Verdict::PassUp(skb);
        };
        let (session, version) = match wire::peek_udp(bytes) {
            UdpPeek::PassUp => return Verdict::PassUp(skb),
            UdpPeek::V2 {
                tunnel_id,
                session_id,
            } => {
                let key = key64(v2_key(tunnel_id, session_id).into());
                (self.v2.find_rcu(&key, guard), 2)
            }
            UdpPeek::V3 {
                session_id,
                version,
            } => (self.v3_session(sk, session_id, guard), version),
        };
        let Some(session) = session else {
            return Verdict::PassUp(skb);
        };
        let tunnel = session.tunnel();
        if version != tunnel.version().get() || tunnel.encap() != EncapType::Udp {
            tunnel.counters().rx_invalid.count();
            return Verdict::PassUp(skb);
        }
        if !core::ptr::eq(sk, tunnel.sock()) && !self.admits(tunnel, &skb, guard) {
            tunnel.counters().rx_invalid.count();
            discard_of(session, skb, Reason::NotThePeer);
            return Verdict::Consumed;
        }
        match Session::receive(session, skb, v3::OPTIONS_AT_UDP, guard, bh) {
            Ok(()) => Verdict::Consumed,
            Err(skb) => {
                tunnel.counters().rx_invalid.count();
                Verdict::PassUp(skb)
            }
        }
    }
}

impl Encap for Namespace {
    /// `UDP_ENCAP_L2TPINUDP`.
    const TYPE: u8 = 3;

    fn receive(
        net: &Net,
        sk: &Sock,
        skb: Skb,
        guard: &rcu::Guard,
        bh: &bottom_half::Guard,
    ) -> Verdict {
        match Self::of(net) {
            Some(namespace) => namespace.receive_udp(sk, skb, guard, bh),
            None => Verdict::PassUp(skb),
        }
    }

    const HEADER_LENS: &'static [usize] = &v3::HDR_LENS_UDP;

    fn mergeable(net: &Net, sk: &Sock, message: &[u8]) -> Option<usize> {
        Self::of(net)?.mergeable_udp(sk, message)
    }

    fn destroy(net: &Net, sk: &Sock) {
        // The module may be leaving at this moment, and take the state of the namespace with it.
        let guard = rcu::read_lock();
        let namespace = Self::of(net).map(Arc::from);
        drop(guard);
        if let Some(namespace) = namespace {
            namespace.socket_closed(sk);
        }
    }
}

impl Expire for Namespace {
    fn expire(this: Arc<Self>) {
        if let Some(queue) = this.queue.as_ref() {
            // If it is queued already, it will look.
            let _ = queue.enqueue(this.clone());
        }
    }
}

impl WorkItem for Namespace {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if this.sweep() {
            this.sweep_later();
        }
    }
}

impl Registry {
    fn new() -> Self {
        Self {
            tunnels: RBTree::new(),
            namesakes: RBTree::new(),
        }
    }

    /// The sessions of `tunnel`, if it is registered.
    fn sessions(&self, tunnel: &Tunnel) -> Option<&Sessions> {
        match self.tunnels.get(&tunnel.tunnel_id().get())? {
            Place::Taken(found, sessions) if core::ptr::eq(&**found, tunnel) => Some(sessions),
            _ => None,
        }
    }

    /// Whether `session` is registered.
    fn has(&self, session: &Arc<Session>) -> bool {
        let order = session_order(session.tunnel(), session.session_id());
        self.sessions(session.tunnel())
            .and_then(|sessions| sessions.get(&order))
            .is_some_and(|found| Arc::ptr_eq(found, session))
    }

    fn sessions_mut(&mut self, tunnel: &Tunnel) -> Option<&mut Sessions> {
        match self.tunnels.get_mut(&tunnel.tunnel_id().get())? {
            Place::Taken(found, sessions) if core::ptr::eq(&**found, tunnel) => Some(sessions),
            _ => None,
        }
    }
}

/// What sessions are ordered by within a tunnel. Of a v2 id, 16 bits count.
pub fn session_order(tunnel: &Tunnel, id: SessionId) -> u32 {
    match tunnel.version() {
        Version::V2 => id.to_v2().into(),
        Version::V3 => id.get(),
    }
}

fn name_order(session: &Session, name: [u8; 16]) -> NameOrder {
    let tunnel = session.tunnel();
    (
        name,
        tunnel.tunnel_id().get(),
        session_order(tunnel, session.session_id()),
    )
}

fn v2_table_key(session: &Session) -> [u8; 8] {
    key64(v2_key(session.tunnel().tunnel_id(), session.session_id()).into())
}

fn v3_shared_key(session: &Session) -> [u8; 8] {
    shared_key(session.tunnel().tunnel_id(), session.session_id())
}

fn in_use(e: Error) -> Refusal {
    if e == EEXIST {
        SESSION_EXISTS
    } else {
        e.into()
    }
}
