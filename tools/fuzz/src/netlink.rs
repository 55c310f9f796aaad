// SPDX-License-Identifier: GPL-2.0

//! Netlink messages, and the `l2tp` family.

use crate::sys;

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ROUTE: i32 = 0;
const GENERIC: i32 = 16;

// Commands.
pub(crate) const TUNNEL_CREATE: u8 = 1;
pub(crate) const TUNNEL_DELETE: u8 = 2;
pub(crate) const TUNNEL_GET: u8 = 4;
pub(crate) const SESSION_CREATE: u8 = 5;
pub(crate) const SESSION_DELETE: u8 = 6;
pub(crate) const SESSION_MODIFY: u8 = 7;
pub(crate) const SESSION_GET: u8 = 8;

// Attributes.
pub(crate) const PW_TYPE: u16 = 1;
pub(crate) const ENCAP_TYPE: u16 = 2;
pub(crate) const L2SPEC_TYPE: u16 = 5;
pub(crate) const PROTO_VERSION: u16 = 7;
pub(crate) const IFNAME: u16 = 8;
pub(crate) const CONN_ID: u16 = 9;
pub(crate) const PEER_CONN_ID: u16 = 10;
pub(crate) const SESSION_ID: u16 = 11;
pub(crate) const PEER_SESSION_ID: u16 = 12;
pub(crate) const COOKIE: u16 = 15;
pub(crate) const PEER_COOKIE: u16 = 16;
pub(crate) const SEND_SEQ: u16 = 19;
pub(crate) const LNS_MODE: u16 = 20;
pub(crate) const RECV_TIMEOUT: u16 = 22;
pub(crate) const FD: u16 = 23;
pub(crate) const IP_SADDR: u16 = 24;
pub(crate) const IP_DADDR: u16 = 25;
pub(crate) const UDP_SPORT: u16 = 26;
pub(crate) const UDP_DPORT: u16 = 27;
pub(crate) const STATS: u16 = 30;
pub(crate) const IP6_SADDR: u16 = 31;
pub(crate) const IP6_DADDR: u16 = 32;

/// Attributes, one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Attrs(pub(crate) Vec<u8>);

impl Attrs {
    pub(crate) fn raw(mut self, kind: u16, payload: &[u8]) -> Self {
        self.0.extend(((payload.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn u8(self, kind: u16, value: u8) -> Self {
        self.raw(kind, &[value])
    }

    pub(crate) fn u16(self, kind: u16, value: u16) -> Self {
        self.raw(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u64(self, kind: u16, value: u64) -> Self {
        self.raw(kind, &value.to_ne_bytes())
    }

    pub(crate) fn name(self, kind: u16, name: &str) -> Self {
        self.raw(kind, format!("{name}\0").as_bytes())
    }
}

/// What came in answer to a request.
#[derive(Default)]
pub(crate) struct Answer {
    /// Of each acknowledgement; 0 is success.
    pub(crate) errors: Vec<i32>,
    /// Family headers and attributes.
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Answer {
    /// The error that was reported, if any.
    pub(crate) fn error(&self) -> i32 {
        self.errors
            .iter()
            .copied()
            .find(|error| *error != 0)
            .unwrap_or(0)
    }

    /// Takes messages apart, which must be whole.
    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let head = |at, len| data.get(at..at + len).expect("a message header");
            let len = u32::from_ne_bytes(head(0, 4).try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(head(4, 2).try_into().unwrap());
            let payload = data
                .get(16..len)
                .expect("a message as long as its header says");
            match kind {
                ERROR | DONE => {
                    let error = payload[..4].try_into().unwrap();
                    self.errors.push(-i32::from_ne_bytes(error));
                }
                _ => {
                    attribute(payload.get(4..).expect("a family header"), u16::MAX);
                    self.messages.push(payload.to_vec());
                }
            }
            data = data.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// The payload of an attribute; all of them must be whole.
pub(crate) fn attribute(mut attrs: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut found = None;
    while !attrs.is_empty() {
        let len = u16::from_ne_bytes(attrs[..2].try_into().unwrap()) as usize;
        let kind = u16::from_ne_bytes(attrs[2..4].try_into().unwrap());
        assert!(
            len >= 4 && len <= attrs.len(),
            "attribute {kind} of {len} in {} bytes",
            attrs.len()
        );
        if kind == wanted {
            found = Some(&attrs[4..len]);
        }
        attrs = attrs.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// A number that an attribute of a message holds.
pub(crate) fn number(message: &[u8], kind: u16) -> Option<u32> {
    let payload = attribute(&message[4..], kind)?;
    Some(u32::from_ne_bytes(payload.try_into().expect("an u32")))
}

/// One netlink message.
pub(crate) fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = ((payload.len() + 16) as u32).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend([0; 8]);
    out.extend(payload);
    out
}

/// A socket in the namespace of the thread that makes it.
pub(crate) struct Netlink {
    pub(crate) fd: i32,
    pub(crate) family: u16,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

impl Netlink {
    fn new(protocol: i32) -> Self {
        let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol).expect("netlink");
        Self { fd, family: 0 }
    }

    /// rtnetlink.
    pub(crate) fn route() -> Self {
        Self::new(ROUTE)
    }

    /// The family.
    pub(crate) fn l2tp() -> Self {
        const CTRL: u16 = 16;
        const GETFAMILY: u8 = 3;
        const FAMILY_ID: u16 = 1;
        const FAMILY_NAME: u16 = 2;

        let mut new = Self::new(GENERIC);
        new.family = CTRL;
        let answer = new.ask(GETFAMILY, 0, &Attrs::default().name(FAMILY_NAME, "l2tp"));
        let message = answer.messages.first().expect("the family l2tp");
        let id = attribute(&message[4..], FAMILY_ID).expect("its number");
        new.family = u16::from_ne_bytes(id.try_into().unwrap());
        new
    }

    /// Everything there is to read, to the end of a dump.
    pub(crate) fn read(&self) -> Answer {
        let mut answer = Answer::default();
        let mut buffer = [0; 32768];
        while let Ok(len) = sys::receive(self.fd, &mut buffer, 0) {
            answer.take(&buffer[..len as usize]);
        }
        answer
    }

    pub(crate) fn ask(&self, command: u8, flags: u16, attrs: &Attrs) -> Answer {
        let mut payload = vec![command, 1, 0, 0];
        payload.extend(&attrs.0);
        let _ = sys::send(
            self.fd,
            &message(self.family, REQUEST | ACK | flags, &payload),
            0,
            &[],
        );
        self.read()
    }

    /// The same, and what it must come to.
    pub(crate) fn must(&self, command: u8, attrs: &Attrs) {
        let error = self.ask(command, 0, attrs).error();
        assert!(error == 0, "command {command}: error {error}");
    }

    pub(crate) fn delete_tunnel(&self, id: u32) -> i32 {
        self.ask(TUNNEL_DELETE, 0, &Attrs::default().u32(CONN_ID, id))
            .error()
    }

    pub(crate) fn delete_session(&self, tunnel: u32, id: u32) -> i32 {
        let attrs = Attrs::default().u32(CONN_ID, tunnel).u32(SESSION_ID, id);
        self.ask(SESSION_DELETE, 0, &attrs).error()
    }

    pub(crate) fn tunnels(&self) -> Vec<u32> {
        let dump = self.ask(TUNNEL_GET, DUMP, &Attrs::default());
        dump.messages
            .iter()
            .filter_map(|message| number(message, CONN_ID))
            .collect()
    }

    /// Deletes all tunnels, and waits until nothing is left of them.
    pub(crate) fn delete_all(&self, but: &[&str]) {
        let _ = self.read();
        for id in self.tunnels() {
            self.delete_tunnel(id);
        }
        crate::eventually("no tunnel, session or device", || {
            let sessions = self.ask(SESSION_GET, DUMP, &Attrs::default());
            sessions.error() == 0
                && sessions.messages.is_empty()
                && self.tunnels().is_empty()
                && sys::links()
                    .iter()
                    .all(|link| link == "lo" || but.contains(&link.as_str()))
        });
    }

    /// RTM_DELLINK.
    pub(crate) fn delete_link(&self, index: i32) -> i32 {
        self.link(17, index, 0, 0, &Attrs::default())
    }

    /// RTM_NEWLINK on a device that exists: flags, name.
    pub(crate) fn link(&self, kind: u16, index: i32, flags: u32, mask: u32, attrs: &Attrs) -> i32 {
        let mut payload = vec![0; 4];
        payload.extend(index.to_ne_bytes());
        payload.extend(flags.to_ne_bytes());
        payload.extend(mask.to_ne_bytes());
        payload.extend(&attrs.0);
        let _ = sys::send(self.fd, &message(kind, REQUEST | ACK, &payload), 0, &[]);
        self.read().error()
    }
}

/// Attributes of a TUNNEL_CREATE; the addresses are added to it, or a file.
pub(crate) fn tunnel(id: u32, version: u8, encap: u16) -> Attrs {
    Attrs::default()
        .u32(CONN_ID, id)
        .u32(PEER_CONN_ID, id)
        .u8(PROTO_VERSION, version)
        .u16(ENCAP_TYPE, encap)
}

/// Attributes of a SESSION_CREATE.
pub(crate) fn session(tunnel: u32, id: u32, kind: u16) -> Attrs {
    Attrs::default()
        .u32(CONN_ID, tunnel)
        .u32(SESSION_ID, id)
        .u32(PEER_SESSION_ID, id)
        .u16(PW_TYPE, kind)
}
