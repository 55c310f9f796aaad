// SPDX-License-Identifier: GPL-2.0

//! The generic netlink family `l2tp`: requests, answers, notifications.
//!
//! This room turns attributes into configurations and objects into messages; what it asks for is
//! done by [`crate::l2tp_core`] and the pseudowires. It holds references while it builds a message,
//! never a lock.
//!
//! # Compatibility
//!
//! Clients in use differ in what they send, so that a lot is tolerated: attributes that never did
//! anything, attributes that a command does not know, integers that are too long, anything at all in
//! the request for a dump. The order of checks decides which errno a client sees, and the order of
//! attributes is the one that C has. Attributes that say "unset" are left out, as `ip l2tp` prints
//! those of the message before otherwise.
//!
//! # Errors
//!
//! Each errno comes with a sentence for the extended acknowledgement. `ip` prints that sentence in
//! place of the text of the errno, and scripts look for the texts of `EEXIST` and `ENODEV`; so the
//! sentence begins with these texts: see [`explain`].

use crate::{
    abstractions::net::{
        genetlink::{
            self,
            Body,
            Command,
            Dump,
            Family,
            Flags,
            Kind,
            MulticastGroup,
            Policy,
            Request,
            Slot, //
        },
        net_namespace::Net,
        sock::Endpoints,
        socket::UdpConfig, //
    },
    error::{
        Outcome,
        Refusal, //
    },
    eth,
    l2tp_core::{
        session_order,
        Namespace, //
    },
    ppp,
    prelude::*,
    session::{
        Session,
        SessionConfig, //
    },
    stats::Snapshot,
    tunnel::{
        SocketConfig,
        Tunnel,
        TunnelConfig, //
    },
    uapi::{
        self,
        attr,
        cmd,
        stats, //
    },
    wire::ids::{
        Cookie,
        EncapType,
        L2SpecType,
        PwType,
        SessionId,
        TunnelId,
        Version, //
    }, //
};
use kernel::{
    error::code,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

/// The family.
pub struct L2tpFamily;

/// A registration of the family.
pub type Registration = genetlink::Registration<L2tpFamily>;

/// Opens the family to user space. Requests may come before this returns.
pub fn register(module: &'static ThisModule) -> Result<Registration> {
    Registration::register(module)
}

/// What the policy does not list may have any payload: the two flags, and padding.
static POLICY: Policy<{ attr::PAD as usize + 1 }> = Policy::new(&[
    (attr::PW_TYPE, Kind::U16),
    (attr::ENCAP_TYPE, Kind::U16),
    (attr::OFFSET, Kind::U16),
    (attr::DATA_SEQ, Kind::U8),
    (attr::L2SPEC_TYPE, Kind::U8),
    (attr::L2SPEC_LEN, Kind::U8),
    (attr::PROTO_VERSION, Kind::U8),
    (attr::IFNAME, Kind::NulString(IFNAME_MAX)),
    (attr::CONN_ID, Kind::U32),
    (attr::PEER_CONN_ID, Kind::U32),
    (attr::SESSION_ID, Kind::U32),
    (attr::PEER_SESSION_ID, Kind::U32),
    (attr::UDP_CSUM, Kind::U8),
    (attr::VLAN_ID, Kind::U16),
    (attr::COOKIE, Kind::Binary(8)),
    (attr::PEER_COOKIE, Kind::Binary(8)),
    (attr::DEBUG, Kind::U32),
    (attr::RECV_SEQ, Kind::U8),
    (attr::SEND_SEQ, Kind::U8),
    (attr::LNS_MODE, Kind::U8),
    (attr::USING_IPSEC, Kind::U8),
    (attr::RECV_TIMEOUT, Kind::Msecs),
    (attr::FD, Kind::U32),
    (attr::IP_SADDR, Kind::U32),
    (attr::IP_DADDR, Kind::U32),
    (attr::UDP_SPORT, Kind::U16),
    (attr::UDP_DPORT, Kind::U16),
    (attr::MTU, Kind::U16),
    (attr::MRU, Kind::U16),
    (attr::STATS, Kind::Nested),
    (attr::IP6_SADDR, Kind::Binary(16)),
    (attr::IP6_DADDR, Kind::Binary(16)),
]);

static COMMANDS: [Command<L2tpFamily>; 9] = [
    Command::new(cmd::NOOP),
    Command::new(cmd::TUNNEL_CREATE).net_admin(),
    Command::new(cmd::TUNNEL_DELETE).net_admin(),
    Command::new(cmd::TUNNEL_MODIFY).net_admin(),
    Command::new(cmd::TUNNEL_GET).net_admin().with_dump(),
    Command::new(cmd::SESSION_CREATE).net_admin(),
    Command::new(cmd::SESSION_DELETE).net_admin(),
    Command::new(cmd::SESSION_MODIFY).net_admin(),
    Command::new(cmd::SESSION_GET).net_admin().with_dump(),
];

static GROUPS: [MulticastGroup; 1] = [MulticastGroup::new(c"l2tp")];

/// The place of the group in [`GROUPS`].
const EVENTS: u8 = 0;

static SLOT: Slot<L2tpFamily> =
    Slot::new(c"l2tp", uapi::VERSION, &POLICY, &COMMANDS, &GROUPS).strict_from(STRICT_FROM);

/// Clients set odd flags and versions with the commands that there are.
const STRICT_FROM: u8 = cmd::SESSION_GET + 1;

/// The longest name of a device, without its NUL.
const IFNAME_MAX: u16 = 15;

impl Family for L2tpFamily {
    fn slot() -> &'static Slot<Self> {
        &SLOT
    }

    fn doit(request: &Request<'_>) -> Result {
        let outcome = match request.command() {
            cmd::NOOP => noop(request),
            cmd::TUNNEL_CREATE => tunnel_create(request),
            cmd::TUNNEL_DELETE => tunnel_delete(request),
            cmd::TUNNEL_MODIFY => tunnel_modify(request),
            cmd::TUNNEL_GET => tunnel_get(request),
            cmd::SESSION_CREATE => session_create(request),
            cmd::SESSION_DELETE => session_delete(request),
            cmd::SESSION_MODIFY => session_modify(request),
            cmd::SESSION_GET => session_get(request),
            _ => Err(EOPNOTSUPP.into()),
        };
        outcome.map_err(|refusal| explain(request, &refusal))
    }

    fn dumpit(dump: &mut Dump<'_>) -> Result {
        match dump.command() {
            cmd::TUNNEL_GET => tunnel_dump(dump),
            cmd::SESSION_GET => session_dump(dump),
            _ => Err(EOPNOTSUPP),
        }
    }
}

/// Puts a refusal into the extended acknowledgement.
fn explain(request: &Request<'_>, refusal: &Refusal) -> Error {
    if let Some(why) = refusal.why {
        match refusal.error {
            e if e == EEXIST => request.set_message_pair(c"File exists", why),
            e if e == ENODEV => request.set_message_pair(c"No such device", why),
            _ => request.set_message(why),
        }
    }
    if let Some(attr) = refusal.attr {
        request.set_bad_attribute(attr);
    }
    refusal.error
}

/// What a request lacks.
fn missing(request: &Request<'_>, attr: u16, why: &'static CStr) -> Refusal {
    request.set_missing_attribute(attr);
    Refusal::new(EINVAL, why)
}

/// An errno about an attribute.
const fn bad(error: Error, attr: u16, why: &'static CStr) -> Refusal {
    Refusal::new(error, why).about(attr)
}

// Requests.

fn noop(request: &Request<'_>) -> Outcome {
    Ok(request.reply(cmd::NOOP, Flags::None, |_| Ok(()))?)
}

/// Creates a tunnel.
///
/// # Errors
///
/// `EINVAL` for what is missing or makes no sense, and those of [`Namespace::create_tunnel`].
fn tunnel_create(request: &Request<'_>) -> Outcome {
    let tunnel_id = conn_id(request)?;
    let peer_tunnel_id = request
        .u32(attr::PEER_CONN_ID)
        .ok_or_else(|| missing(request, attr::PEER_CONN_ID, c"PEER_CONN_ID is missing"))?;
    let version = request
        .u8(attr::PROTO_VERSION)
        .ok_or_else(|| missing(request, attr::PROTO_VERSION, c"PROTO_VERSION is missing"))?;
    let encap = request
        .u16(attr::ENCAP_TYPE)
        .ok_or_else(|| missing(request, attr::ENCAP_TYPE, c"ENCAP_TYPE is missing"))?;
    let ends = Ends::of(request)?;

    let encap = EncapType::from_u16(encap).ok_or(bad(
        EINVAL,
        attr::ENCAP_TYPE,
        c"ENCAP_TYPE is neither UDP (0) nor IP (1)",
    ))?;
    let version = Version::from_u8(version).ok_or(bad(
        EINVAL,
        attr::PROTO_VERSION,
        c"PROTO_VERSION is neither 2 nor 3",
    ))?;
    // RFC 2661 has no such thing; what such a tunnel sent, the peer would take for something else.
    if version == Version::V2 && encap == EncapType::Ip {
        return Err(bad(
            EINVAL,
            attr::ENCAP_TYPE,
            c"ENCAP_TYPE of a tunnel of version 2 must be UDP (0)",
        ));
    }
    let config = TunnelConfig {
        version,
        encap,
        tunnel_id,
        peer_tunnel_id: TunnelId::new(peer_tunnel_id),
    };
    let socket = ends.socket(request, encap);
    let namespace = namespace(request.net())?;
    let tunnel = namespace.create_tunnel(request.net(), &config, &socket)?;
    namespace.announce_tunnel(&tunnel, Change::Created, Cause::Request(request));
    Ok(())
}

fn tunnel_delete(request: &Request<'_>) -> Outcome {
    let (namespace, tunnel) = find_tunnel(request)?;
    namespace.delete_tunnel(&tunnel, Cause::Request(request));
    Ok(())
}

/// Changes nothing, as there is nothing that could be changed, and says so to everybody.
fn tunnel_modify(request: &Request<'_>) -> Outcome {
    let (namespace, tunnel) = find_tunnel(request)?;
    #[cfg(CONFIG_L2TP_RUST_MISTAKES)]
    if let Some(mistake) = request.u32(attr::DEBUG) {
        crate::abstractions::mistakes::make(mistake)?;
    }
    namespace.announce_tunnel(&tunnel, Change::Modified, Cause::Request(request));
    Ok(())
}

fn tunnel_get(request: &Request<'_>) -> Outcome {
    let (_, tunnel) = find_tunnel(request)?;
    Ok(request.reply(cmd::TUNNEL_GET, Flags::Ack, |body| {
        put_tunnel(body, &tunnel)
    })?)
}

/// Creates a session.
///
/// # Errors
///
/// `EINVAL` for what is missing or makes no sense, `ENODEV` if the tunnel does not exist,
/// `EPROTONOSUPPORT` for pseudowires that there are not, `ERANGE` for a time that is too long, and
/// those of the pseudowire.
fn session_create(request: &Request<'_>) -> Outcome {
    let (namespace, tunnel) = find_tunnel(request)?;
    let session_id = request
        .u32(attr::SESSION_ID)
        .map(SessionId::new)
        .ok_or_else(|| missing(request, attr::SESSION_ID, c"SESSION_ID is missing"))?;
    let peer_session_id = request
        .u32(attr::PEER_SESSION_ID)
        .map(SessionId::new)
        .ok_or_else(|| {
            missing(
                request,
                attr::PEER_SESSION_ID,
                c"PEER_SESSION_ID is missing",
            )
        })?;
    let pw_type = request
        .u16(attr::PW_TYPE)
        .ok_or_else(|| missing(request, attr::PW_TYPE, c"PW_TYPE is missing"))?;
    let pw_type = PwType::from_u16(pw_type).ok_or(bad(
        EINVAL,
        attr::PW_TYPE,
        c"PW_TYPE is no pseudowire type",
    ))?;
    let mut config = SessionConfig {
        session_id,
        peer_session_id,
        pw_type,
        l2spec: L2SpecType::None,
        cookie: Cookie::EMPTY,
        peer_cookie: Cookie::EMPTY,
        send_seq: switch(request, attr::SEND_SEQ).unwrap_or(false),
        recv_seq: switch(request, attr::RECV_SEQ).unwrap_or(false),
        lns_mode: switch(request, attr::LNS_MODE).unwrap_or(false),
        reorder_timeout: 0,
    };
    let mut name = None;
    match tunnel.version() {
        Version::V2 if pw_type != PwType::Ppp => {
            return Err(bad(
                EPROTONOSUPPORT,
                attr::PW_TYPE,
                c"PW_TYPE of a session of version 2 must be PPP",
            ))
        }
        // A session of version 2 has none of these; attributes that say otherwise are ignored.
        Version::V2 => (),
        Version::V3 => {
            config.l2spec = l2spec(request)?;
            config.cookie = cookie(request, attr::COOKIE, c"COOKIE is too long")?;
            config.peer_cookie = cookie(request, attr::PEER_COOKIE, c"PEER_COOKIE is too long")?;
            name = ifname(request);
        }
    }
    config.reorder_timeout = reorder_timeout(request)?.unwrap_or(0);

    let session = match pw_type {
        PwType::Eth => eth::create(&namespace.into(), request.net(), &tunnel, &config, name),
        PwType::Ppp => ppp::create(&namespace, &tunnel, &config),
        // In C, a module `net-l2tp-type-<n>` might bring the type. Nothing can bring it here, so
        // that nothing is loaded.
        _ => Err(bad(
            EPROTONOSUPPORT,
            attr::PW_TYPE,
            c"PW_TYPE is not supported",
        )),
    }?;
    namespace.announce_session(&session, Change::Created, Cause::Request(request));
    Ok(())
}

fn session_delete(request: &Request<'_>) -> Outcome {
    let (namespace, session) = find_session(request)?;
    namespace.delete_session(&session, Cause::Request(request));
    Ok(())
}

fn session_modify(request: &Request<'_>) -> Outcome {
    let (namespace, session) = find_session(request)?;
    // What can be refused comes first, so that a refusal has changed nothing.
    let reorder_timeout = reorder_timeout(request)?;
    if let Some(on) = switch(request, attr::RECV_SEQ) {
        session.set_recv_seq(on);
    }
    if let Some(on) = switch(request, attr::SEND_SEQ) {
        session.set_send_seq(on);
    }
    if let Some(on) = switch(request, attr::LNS_MODE) {
        session.set_lns_mode(on);
    }
    if let Some(ms) = reorder_timeout {
        session.set_reorder_timeout_ms(ms);
    }
    namespace.announce_session(&session, Change::Modified, Cause::Request(request));
    Ok(())
}

fn session_get(request: &Request<'_>) -> Outcome {
    let (_, session) = find_session(request)?;
    Ok(request.reply(cmd::SESSION_GET, Flags::None, |body| {
        put_session(body, &session)
    })?)
}

// Dumps. The cursor is the lowest tunnel id, and of that tunnel the lowest session id, that has not
// been dumped. 64 bits have room for what comes after the highest one.

fn tunnel_dump(dump: &mut Dump<'_>) -> Result {
    let Some(namespace) = Namespace::of(dump.net()) else {
        return Ok(());
    };
    let [mut at, _] = dump.cursor();
    while let Some(tunnel) = next_tunnel(namespace, at) {
        dump.entry(cmd::TUNNEL_GET, |body| put_tunnel(body, &tunnel))?;
        at = u64::from(tunnel.tunnel_id().get()).saturating_add(1);
        dump.set_cursor([at, 0]);
    }
    Ok(())
}

fn session_dump(dump: &mut Dump<'_>) -> Result {
    let Some(namespace) = Namespace::of(dump.net()) else {
        return Ok(());
    };
    let [mut at, mut session_at] = dump.cursor();
    while let Some(tunnel) = next_tunnel(namespace, at) {
        let tunnel_id = u64::from(tunnel.tunnel_id().get());
        if tunnel_id != at {
            // The tunnel that the cursor was in has gone.
            session_at = 0;
        }
        while let Some(session) = next_session(namespace, &tunnel, session_at) {
            if !session.is_hidden() {
                dump.entry(cmd::SESSION_GET, |body| put_session(body, &session))?;
            }
            session_at = u64::from(session_order(&tunnel, session.session_id())).saturating_add(1);
            dump.set_cursor([tunnel_id, session_at]);
        }
        at = tunnel_id.saturating_add(1);
        session_at = 0;
        dump.set_cursor([at, session_at]);
    }
    Ok(())
}

fn next_tunnel(namespace: ArcBorrow<'_, Namespace>, at: u64) -> Option<Arc<Tunnel>> {
    namespace.next_tunnel(TunnelId::new(u32::try_from(at).ok()?))
}

fn next_session(
    namespace: ArcBorrow<'_, Namespace>,
    tunnel: &Tunnel,
    at: u64,
) -> Option<Arc<Session>> {
    namespace.next_session(tunnel, SessionId::new(u32::try_from(at).ok()?))
}

// What a request is about.

fn namespace(net: &Net) -> Outcome<ArcBorrow<'_, Namespace>> {
    Namespace::of(net).ok_or(Refusal::new(
        ENODEV,
        c"the network namespace is being deleted",
    ))
}

fn conn_id(request: &Request<'_>) -> Outcome<TunnelId> {
    request
        .u32(attr::CONN_ID)
        .map(TunnelId::new)
        .ok_or_else(|| missing(request, attr::CONN_ID, c"CONN_ID is missing"))
}

/// The tunnel that a request names. `EINVAL` if it names none, `ENODEV` if there is none.
fn find_tunnel<'a>(request: &Request<'a>) -> Outcome<(ArcBorrow<'a, Namespace>, Arc<Tunnel>)> {
    let id = conn_id(request)?;
    let namespace = namespace(request.net())?;
    let tunnel = namespace.tunnel(id).ok_or(NO_TUNNEL)?;
    Ok((namespace, tunnel))
}

const NO_TUNNEL: Refusal = bad(code::ENODEV, attr::CONN_ID, c"no tunnel has this CONN_ID");

/// The session that a request names, always `ENODEV` if there is none. The name of the device
/// decides alone if it is given: other attributes may contradict it.
fn find_session<'a>(request: &Request<'a>) -> Outcome<(ArcBorrow<'a, Namespace>, Arc<Session>)> {
    const NO_NAME: Refusal = bad(
        code::ENODEV,
        attr::IFNAME,
        c"no session was made with this IFNAME",
    );
    const NO_SESSION: Refusal = bad(
        code::ENODEV,
        attr::SESSION_ID,
        c"the tunnel has no session with this SESSION_ID",
    );

    let namespace = namespace(request.net())?;
    if request.has(attr::IFNAME) {
        // A session without a device has no name, and the empty name is not its name.
        let session = ifname(request)
            .filter(|name| *name != [0; 16])
            .and_then(|name| namespace.session_by_ifname(&name))
            .ok_or(NO_NAME)?;
        return Ok((namespace, session));
    }
    let (Some(tunnel_id), Some(session_id)) =
        (request.u32(attr::CONN_ID), request.u32(attr::SESSION_ID))
    else {
        return Err(Refusal::new(
            ENODEV,
            c"IFNAME, or CONN_ID and SESSION_ID, are needed",
        ));
    };
    let tunnel = namespace
        .tunnel(TunnelId::new(tunnel_id))
        .ok_or(NO_TUNNEL)?;
    let session = namespace
        .session(&tunnel, SessionId::new(session_id))
        .ok_or(NO_SESSION)?;
    Ok((namespace, session))
}

// Attributes of requests.

/// Where a tunnel goes, as its creator says.
enum Ends {
    Fd(i32),
    V4 { local: [u8; 4], peer: [u8; 4] },
    V6 { local: [u8; 16], peer: [u8; 16] },
}

impl Ends {
    /// A file descriptor decides alone, unless it is negative. Then IPv6 comes first.
    fn of(request: &Request<'_>) -> Outcome<Self> {
        // CAST: User space puts an int there.
        if let Some(fd) = request.u32(attr::FD).map(|fd| fd as i32) {
            if fd >= 0 {
                return Ok(Self::Fd(fd));
            }
        }
        if cfg!(CONFIG_IPV6) && request.has(attr::IP6_SADDR) && request.has(attr::IP6_DADDR) {
            // The policy has seen to it that they are not longer.
            let address = |number, why| request.array(number).ok_or(bad(EINVAL, number, why));
            return Ok(Self::V6 {
                local: address(attr::IP6_SADDR, c"IP6_SADDR is not an IPv6 address")?,
                peer: address(attr::IP6_DADDR, c"IP6_DADDR is not an IPv6 address")?,
            });
        }
        match (request.array(attr::IP_SADDR), request.array(attr::IP_DADDR)) {
            (Some(local), Some(peer)) => Ok(Self::V4 { local, peer }),
            _ => Err(Refusal::new(
                EINVAL,
                c"FD, or the addresses of both ends in one family, are needed",
            )),
        }
    }

    /// Adds what belongs to the encapsulation.
    fn socket(&self, request: &Request<'_>, encap: EncapType) -> SocketConfig {
        let addresses = match (self, encap) {
            (&Self::Fd(fd), _) => return SocketConfig::Fd(fd),
            (&Self::V4 { local, peer }, EncapType::Ip) => {
                return SocketConfig::Ip4 { local, peer };
            }
            (&Self::V6 { local, peer }, EncapType::Ip) => {
                return SocketConfig::Ip6 { local, peer };
            }
            (&Self::V4 { local, peer }, EncapType::Udp) => UdpConfig::V4 {
                local,
                peer,
                // Whatever its value.
                checksums: request.has(attr::UDP_CSUM),
            },
            (&Self::V6 { local, peer }, EncapType::Udp) => UdpConfig::V6 {
                local,
                peer,
                tx_checksums: !request.has(attr::UDP_ZERO_CSUM6_TX),
                rx_checksums: !request.has(attr::UDP_ZERO_CSUM6_RX),
            },
        };
        SocketConfig::Udp {
            addresses,
            sport: request.u16(attr::UDP_SPORT).unwrap_or(0),
            dport: request.u16(attr::UDP_DPORT).unwrap_or(0),
        }
    }
}

/// Something that is on or off; the lowest bit counts.
fn switch(request: &Request<'_>, number: u16) -> Option<bool> {
    request.u8(number).map(|value| value & 1 != 0)
}

/// The name of a device, up to the first NUL, padded with NULs.
fn ifname(request: &Request<'_>) -> Option<[u8; 16]> {
    let bytes = request.bytes(attr::IFNAME)?;
    let mut name = [0; 16];
    for (to, from) in name
        .iter_mut()
        .take(usize::from(IFNAME_MAX))
        .zip(bytes.iter().take_while(|byte| **byte != 0))
    {
        *to = *from;
    }
    Some(name)
}

fn l2spec(request: &Request<'_>) -> Outcome<L2SpecType> {
    match request.u8(attr::L2SPEC_TYPE) {
        None => Ok(L2SpecType::Default),
        Some(value) => L2SpecType::from_u8(value).ok_or(bad(
            EINVAL,
            attr::L2SPEC_TYPE,
            c"L2SPEC_TYPE is neither none (0) nor default (1)",
        )),
    }
}

fn cookie(request: &Request<'_>, number: u16, why: &'static CStr) -> Outcome<Cookie> {
    let bytes = request.bytes(number).unwrap_or_default();
    // The policy refuses it, too, with ERANGE.
    Cookie::from_slice(bytes).ok_or(bad(EINVAL, number, why))
}

/// For how many milliseconds to wait for missing frames.
///
/// C takes 32 bits of the 64 and has a negative time when they are large. Times that it keeps are
/// taken, up to 24 days; those that it does not keep are `ERANGE`.
fn reorder_timeout(request: &Request<'_>) -> Outcome<Option<u32>> {
    match request.u64(attr::RECV_TIMEOUT) {
        None => Ok(None),
        Some(ms) => match i32::try_from(ms) {
            Ok(ms) => Ok(Some(ms.unsigned_abs())),
            Err(_) => Err(bad(
                ERANGE,
                attr::RECV_TIMEOUT,
                c"RECV_TIMEOUT is longer than 2^31 - 1 ms",
            )),
        },
    }
}

// Messages.

/// Who has changed something, as far as the members of the group are told.
#[derive(Clone, Copy)]
pub enum Cause<'a> {
    /// A request. The event has its port and number, by which its sender knows it.
    Request(&'a Request<'a>),
    /// Anything else: a socket that was closed, a device that was deleted, a call on a PPP socket,
    /// or the end of the tunnel that a session was in.
    Other,
    /// It does not matter, as what has changed was never announced: it could not be made.
    Unannounced,
}

/// What has happened.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Change {
    Created,
    Modified,
    Deleted,
}

/// Tells the members of the group. Called with the registry locked, so that what they are told last
/// of something is that it was deleted. May sleep.
///
/// That it fails, because memory or the room in a member's queue has run out, does not undo the
/// change. Nothing is told of what happens in a namespace that is ending, or when the module leaves.
pub fn tell_tunnel(cause: Cause<'_>, change: Change, tunnel: &Tunnel) {
    let command = match change {
        Change::Created => cmd::TUNNEL_CREATE,
        Change::Modified => cmd::TUNNEL_MODIFY,
        Change::Deleted => cmd::TUNNEL_DELETE,
    };
    tell(cause, command, tunnel, |body| put_tunnel(body, tunnel));
}

/// As [`tell_tunnel`].
pub fn tell_session(cause: Cause<'_>, change: Change, session: &Session) {
    let command = match change {
        Change::Created => cmd::SESSION_CREATE,
        Change::Modified => cmd::SESSION_MODIFY,
        Change::Deleted => cmd::SESSION_DELETE,
    };
    if !session.is_management() {
        tell(cause, command, session.tunnel(), |body| {
            put_session(body, session)
        });
    }
}

fn tell(
    cause: Cause<'_>,
    command: u8,
    tunnel: &Tunnel,
    fill: impl FnOnce(&mut Body<'_>) -> Result,
) {
    let request = match cause {
        Cause::Request(request) => Some(request),
        Cause::Other => None,
        Cause::Unannounced => return,
    };
    if let Some(net) = tunnel.sock().net_ref() {
        let _ = SLOT.notify(&net, request, EVENTS, command, Flags::Ack, fill);
    }
}

fn put_tunnel(body: &mut Body<'_>, tunnel: &Tunnel) -> Result {
    body.put_u8(attr::PROTO_VERSION, tunnel.version().get())?;
    body.put_u32(attr::CONN_ID, tunnel.tunnel_id().get())?;
    body.put_u32(attr::PEER_CONN_ID, tunnel.peer_tunnel_id().get())?;
    body.put_u32(attr::DEBUG, 0)?;
    body.put_u16(attr::ENCAP_TYPE, tunnel.encap().get())?;
    put_stats(body, &tunnel.stats())?;
    put_ends(body, tunnel)
}

/// The addresses and ports as they are now: the owner of a socket may connect it again.
fn put_ends(body: &mut Body<'_>, tunnel: &Tunnel) -> Result {
    let sock = tunnel.sock();
    let v6 = sock.is_inet6();
    if tunnel.encap() == EncapType::Udp {
        if !v6 {
            body.put_u8(attr::UDP_CSUM, (!sock.no_check_tx()).into())?;
        } else {
            if sock.no_check6_tx() {
                body.put_flag(attr::UDP_ZERO_CSUM6_TX)?;
            }
            if sock.no_check6_rx() {
                body.put_flag(attr::UDP_ZERO_CSUM6_RX)?;
            }
        }
        let (sport, dport) = sock.ports();
        body.put_u16(attr::UDP_SPORT, sport)?;
        body.put_u16(attr::UDP_DPORT, dport)?;
    }
    if v6 {
        // Mapped addresses, too, if these are what the socket is connected to.
        let (saddr, daddr) = sock.endpoints_v6();
        body.put_bytes(attr::IP6_SADDR, &saddr)?;
        body.put_bytes(attr::IP6_DADDR, &daddr)?;
    } else if let Endpoints::V4 { saddr, daddr } = sock.endpoints() {
        body.put_bytes(attr::IP_SADDR, &saddr)?;
        body.put_bytes(attr::IP_DADDR, &daddr)?;
    }
    Ok(())
}

fn put_session(body: &mut Body<'_>, session: &Session) -> Result {
    let tunnel = session.tunnel();
    body.put_u32(attr::CONN_ID, tunnel.tunnel_id().get())?;
    body.put_u32(attr::SESSION_ID, session.session_id().get())?;
    body.put_u32(attr::PEER_CONN_ID, tunnel.peer_tunnel_id().get())?;
    body.put_u32(attr::PEER_SESSION_ID, session.peer_session_id().get())?;
    body.put_u32(attr::DEBUG, 0)?;
    body.put_u16(attr::PW_TYPE, session.pw_type().get())?;
    if let Some(name) = session.ifname() {
        if let Ok(name) = CStr::from_bytes_until_nul(&name) {
            body.put_string(attr::IFNAME, name)?;
        }
    }
    if !session.cookie().is_empty() {
        body.put_bytes(attr::COOKIE, session.cookie().as_slice())?;
    }
    if !session.peer_cookie().is_empty() {
        body.put_bytes(attr::PEER_COOKIE, session.peer_cookie().as_slice())?;
    }
    body.put_u8(attr::RECV_SEQ, session.recv_seq().into())?;
    body.put_u8(attr::SEND_SEQ, session.send_seq().into())?;
    body.put_u8(attr::LNS_MODE, session.lns_mode().into())?;
    if tunnel.sock().has_xfrm_policy() {
        body.put_u8(attr::USING_IPSEC, 1)?;
    }
    let reorder_timeout = session.reorder_timeout_ms();
    if reorder_timeout != 0 {
        body.put_u64(attr::RECV_TIMEOUT, reorder_timeout, attr::PAD)?;
    }
    put_stats(body, &session.stats())
}

fn put_stats(body: &mut Body<'_>, snapshot: &Snapshot) -> Result {
    let counters = [
        (stats::TX_PACKETS, snapshot.tx_packets),
        (stats::TX_BYTES, snapshot.tx_bytes),
        (stats::TX_ERRORS, snapshot.tx_errors),
        (stats::RX_PACKETS, snapshot.rx_packets),
        (stats::RX_BYTES, snapshot.rx_bytes),
        (stats::RX_SEQ_DISCARDS, snapshot.rx_seq_discards),
        (stats::RX_COOKIE_DISCARDS, snapshot.rx_cookie_discards),
        (stats::RX_OOS_PACKETS, snapshot.rx_oos_packets),
        (stats::RX_ERRORS, snapshot.rx_errors),
        (stats::RX_INVALID, snapshot.rx_invalid),
    ];
    body.put_nest(attr::STATS, |nest| {
        for (number, value) in counters {
            nest.put_u64(number, value, stats::STATS_PAD)?;
        }
        Ok(())
    })
}
