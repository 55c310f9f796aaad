// SPDX-License-Identifier: GPL-2.0

//! Generic netlink families: requests, answers, notifications and dumps.
//!
//! A family is a type that implements [`Family`]. Its tables are `static`s made by the `const`
//! constructors here; [`Registration::register`] offers it to user space. Messages are filled by a
//! closure, between their header and their end: so a message that is sent is complete, is sent
//! once, and is freed or taken back if anything in it fails.
//!
//! C headers: [`include/net/genetlink.h`](srctree/include/net/genetlink.h),
//! [`include/net/netlink.h`](srctree/include/net/netlink.h)

use super::net_namespace::Net;
use crate::{
    abstractions::sync::rcu,
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull,
    slice, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    sync::atomic::{
        ordering::Full,
        Acquire,
        AtomicFlag,
        Release, //
    }, //
};

/// A generic netlink family.
pub trait Family: Sized + 'static {
    /// The tables of this family. Return a `static`.
    fn slot() -> &'static Slot<Self>;

    /// A request has come, and its attributes have passed the policy. Process context; may sleep.
    /// Requests and dumps of a family come one at a time.
    ///
    /// The result is what the sender gets to know; what the request was told about the error (see
    /// [`Request::set_message`]) goes with it.
    fn doit(request: &Request<'_>) -> Result;

    /// Continues a dump where it has stopped. Process context; may sleep.
    ///
    /// Called again and again, until a call has put no message and returns [`Ok`]. If there is no
    /// room for a message, [`Dump::entry`] returns `EMSGSIZE`, to be passed on: what was put before
    /// it is sent, and the next call may try again.
    fn dumpit(dump: &mut Dump<'_>) -> Result;
}

/// What the payload of an attribute must be; see `struct nla_policy`.
///
/// Integers may be longer than said, as far as the core is concerned; it then complains in the log,
/// and the first bytes count.
#[derive(Clone, Copy)]
pub enum Kind {
    /// 8 bits.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// A time in milliseconds, in 64 bits.
    Msecs,
    /// Attributes.
    Nested,
    /// A string with its NUL, of at most so many bytes without it.
    NulString(u16),
    /// At most so many bytes.
    Binary(u16),
}

impl Kind {
    const fn entry(self) -> bindings::nla_policy {
        let (kind, len) = match self {
            Self::U8 => (bindings::NLA_U8, 0),
            Self::U16 => (bindings::NLA_U16, 0),
            Self::U32 => (bindings::NLA_U32, 0),
            Self::Msecs => (bindings::NLA_MSECS, 0),
            Self::Nested => (bindings::NLA_NESTED, 0),
            Self::NulString(len) => (bindings::NLA_NUL_STRING, len),
            Self::Binary(len) => (bindings::NLA_BINARY, len),
        };
        policy_entry(kind, len)
    }
}

const fn policy_entry(kind: u32, len: u16) -> bindings::nla_policy {
    bindings::nla_policy {
        // CAST: There are a few kinds only.
        type_: kind as u8,
        validation_type: 0,
        len,
        __bindgen_anon_1: bindings::nla_policy__bindgen_ty_1 { validate: None },
    }
}

/// What is required of the attributes 0 to `N - 1`.
pub struct Policy<const N: usize>([bindings::nla_policy; N]);

// SAFETY: Never written.
unsafe impl<const N: usize> Sync for Policy<N> {}

impl<const N: usize> Policy<N> {
    /// For a `static`. Attributes that are not listed may have any payload.
    ///
    /// # Panics
    ///
    /// If an attribute is not below `N`: when the `static` is evaluated, that is, in the compiler.
    pub const fn new(attributes: &[(u16, Kind)]) -> Self {
        let mut policy: [bindings::nla_policy; N] = [policy_entry(bindings::NLA_UNSPEC, 0); N];
        let mut i = 0;
        while i < attributes.len() {
            let (number, kind) = attributes[i];
            // CAST: Widening.
            policy[number as usize] = kind.entry();
            i += 1;
        }
        Self(policy)
    }
}

/// A command.
///
/// Attributes are validated liberally, those of dumps not at all, as for all commands that existed
/// before strict validation did.
#[repr(transparent)]
pub struct Command<T: Family>(bindings::genl_small_ops, PhantomData<T>);

// SAFETY: Never written.
unsafe impl<T: Family> Sync for Command<T> {}

impl<T: Family> Command<T> {
    /// A command for everybody, which goes to [`Family::doit`]. For a `static`.
    pub const fn new(number: u8) -> Self {
        let mut ops: bindings::genl_small_ops = pin_init::zeroed();
        ops.cmd = number;
        ops.doit = Some(doit::<T>);
        // CAST: A few bits only.
        ops.validate = (bindings::genl_validate_flags_GENL_DONT_VALIDATE_STRICT
            | bindings::genl_validate_flags_GENL_DONT_VALIDATE_DUMP) as u8;
        Self(ops, PhantomData)
    }

    /// Requires `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    pub const fn net_admin(mut self) -> Self {
        // CAST: A bit.
        self.0.flags |= bindings::GENL_UNS_ADMIN_PERM as u8;
        self
    }

    /// The command can be dumped, too, by [`Family::dumpit`].
    pub const fn with_dump(mut self) -> Self {
        self.0.dumpit = Some(dumpit::<T>);
        self
    }
}

/// A multicast group that everybody may join.
#[repr(transparent)]
pub struct MulticastGroup(bindings::genl_multicast_group);

impl MulticastGroup {
    /// For a `static`.
    ///
    /// # Panics
    ///
    /// If the name is longer than 15 bytes: in the compiler.
    pub const fn new(name: &CStr) -> Self {
        let mut group: bindings::genl_multicast_group = pin_init::zeroed();
        group.name = name_of(name);
        Self(group)
    }
}

const fn name_of(name: &CStr) -> [u8; bindings::GENL_NAMSIZ as usize] {
    let mut out = [0; bindings::GENL_NAMSIZ as usize];
    let bytes = name.to_bytes_with_nul();
    let mut i = 0;
    while i < bytes.len() {
        out[i] = bytes[i];
        i += 1;
    }
    out
}

/// The tables of a family.
pub struct Slot<T: Family> {
    family: UnsafeCell<bindings::genl_family>,
    registered: AtomicFlag,
    /// The core knows the family, and goes on knowing it for the RCU read section in which this was
    /// seen.
    open: AtomicFlag,
    _family: PhantomData<T>,
}

// SAFETY: `Registration`, of which there is one at a time thanks to `registered`, writes `family`
// before it gives it to the core. From then on the core guards it by its own locks; what others read
// of it does not change while it is registered.
unsafe impl<T: Family> Sync for Slot<T> {}

impl<T: Family> Slot<T> {
    /// For a `static`. The policy holds for all commands.
    ///
    /// # Panics
    ///
    /// If a name is longer than 15 bytes, or a table has more than 255 entries: in the compiler.
    pub const fn new<const N: usize>(
        name: &CStr,
        version: u32,
        policy: &'static Policy<N>,
        commands: &'static [Command<T>],
        groups: &'static [MulticastGroup],
    ) -> Self {
        let mut family: bindings::genl_family = pin_init::zeroed();
        family.name = name_of(name);
        family.version = version;
        assert!(N > 0 && commands.len() <= 255 && groups.len() <= 255);
        // CAST: Checked, as far as not obvious. `Command` and `MulticastGroup` are transparent.
        family.maxattr = (N - 1) as u32;
        family.policy = policy.0.as_ptr();
        family.small_ops = commands.as_ptr().cast();
        family.n_small_ops = commands.len() as u8;
        family.mcgrps = groups.as_ptr().cast();
        family.n_mcgrps = groups.len() as u8;
        Self {
            family: UnsafeCell::new(family),
            registered: AtomicFlag::new(false),
            open: AtomicFlag::new(false),
            _family: PhantomData,
        }
    }

    /// Sends a message that `fill` puts attributes into to the members of a multicast group, given by
    /// its place in the family's table, in the namespace `net`. May sleep.
    ///
    /// The message has the port and sequence number of `request`, if a request is what it is about,
    /// whose sender is not left out. Otherwise it has neither.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` or another error of `fill`, `ENOMEM`, `EINVAL` if there is no such group, or
    /// `ENOBUFS` if a member could not get it. That there are no members is no error, and takes no
    /// time; nor is it one that the family is not registered.
    pub fn notify(
        &self,
        net: &Net,
        request: Option<&Request<'_>>,
        group: u8,
        command: u8,
        flags: Flags,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Result {
        let family = self.family.get();
        // While a request is handled, the family is registered.
        let is_open = || request.is_some() || self.open.load(Acquire);
        if !is_open() {
            return Ok(());
        }
        let group = u32::from(group);
        // SAFETY: The family is complete, and the namespace has not come to its exit methods, of
        // which that of generic netlink is a late one.
        if unsafe {
            if group >= u32::from((*family).n_mcgrps) {
                return Err(EINVAL);
            }
            bindings::genl_has_listeners(family, net.as_ptr(), group) == 0
        } {
            return Ok(());
        }
        let origin = request.map_or(Origin::NOBODY, |request| Origin::of(request.info()));
        // SAFETY: The family is registered, or was a moment ago: so it is complete.
        let message = unsafe { Message::new(family, origin, command, flags, fill) }?;

        // From here on to the end of sending, the family stays: see the drop of `Registration`.
        let _guard = rcu::read_lock();
        if !is_open() {
            return Ok(());
        }
        // SAFETY: The message is complete and the group exists; the call frees the message in any
        // case. As above for the namespace.
        let sent = to_result(unsafe {
            bindings::genlmsg_multicast_netns(
                family,
                net.as_ptr(),
                message.into_raw(),
                0,
                group,
                bindings::GFP_ATOMIC,
            )
        });
        match sent {
            Err(e) if e == ESRCH => Ok(()),
            sent => sent,
        }
    }

    /// The commands from this number on are strict about reserved fields and flags of the header.
    pub const fn strict_from(mut self, command: u8) -> Self {
        self.family.get_mut().resv_start_op = command;
        self
    }
}

/// A registered family. Unregisters on drop, which may sleep.
///
/// # Invariants
///
/// The family in `T`'s slot is registered, and `registered` and `open` are set there.
pub struct Registration<T: Family>(PhantomData<T>);

// SAFETY: Unregistering may be done by any task.
unsafe impl<T: Family> Send for Registration<T> {}
// SAFETY: There are no methods.
unsafe impl<T: Family> Sync for Registration<T> {}

impl<T: Family> Registration<T> {
    /// Registers the family in all network namespaces. May sleep. Requests may come before this
    /// returns.
    ///
    /// `EBUSY` if `T` is registered, `EEXIST` if another family has its name.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let slot = T::slot();
        if slot.registered.xchg(true, Full) {
            return Err(EBUSY);
        }
        let family = slot.family.get();
        // SAFETY: We have set `registered`, and the core does not know the family.
        unsafe {
            (*family).module = module.as_ptr().cast();
            (*family).set_netnsok(1);
        }
        // SAFETY: The family is static and complete, and not registered.
        to_result(unsafe { bindings::genl_register_family(family) }).inspect_err(|_| {
            slot.registered.xchg(false, Full);
        })?;
        slot.open.store(true, Release);
        // INVARIANT: Just registered.
        Ok(Self(PhantomData))
    }
}

impl<T: Family> Drop for Registration<T> {
    fn drop(&mut self) {
        let slot = T::slot();
        slot.open.store(false, Release);
        // Who is sending to a group goes on to do so.
        rcu::synchronize_rcu();
        // SAFETY: Registered by the type invariants. Waits for requests that are being handled;
        // a dump that is under way has a reference to the module, so that in this time the module
        // is not left by this way.
        unsafe { bindings::genl_unregister_family(slot.family.get()) };
        slot.registered.xchg(false, Full);
    }
}

/// # Safety
///
/// For the core only: `info` must be a request that it has parsed, and that stays until the return.
unsafe extern "C" fn doit<T: Family>(
    _skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> i32 {
    let Some(info) = NonNull::new(info) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: By the safety requirement; the core has made an entry for each number when it
    // parsed the request.
    let request = Request {
        info,
        _info: PhantomData,
    };
    from_result(|| T::doit(&request).map(|()| 0))
}

/// # Safety
///
/// For the core only: `cb` must be a dump that it has started, and `skb` the buffer for the next
/// part, both of which nobody else uses until the return.
unsafe extern "C" fn dumpit<T: Family>(
    skb: *mut bindings::sk_buff,
    cb: *mut bindings::netlink_callback,
) -> i32 {
    let (Some(skb), Some(cb)) = (NonNull::new(skb), NonNull::new(cb)) else {
        return EINVAL.to_errno();
    };
    // SAFETY: The core has made the `genl_info` when it started the dump.
    let info = unsafe { bindings::genl_info_dump(cb.as_ptr()) }.cast_mut();
    let Some(info) = NonNull::new(info) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: By the safety requirement.
    let mut dump = Dump {
        skb,
        cb,
        info,
        _cb: PhantomData,
    };
    let result = T::dumpit(&mut dump);
    // SAFETY: By the type invariants of `Dump`.
    let len = unsafe { (*skb.as_ptr()).len };
    match result {
        // There is a next call if the length is positive. So the last message, `NLMSG_DONE`, comes
        // to the reader on its own, which some of them depend on: see `rtnl_dumpit` in C.
        Ok(()) => i32::try_from(len).unwrap_or(i32::MAX),
        Err(e) if e == EMSGSIZE && len > 0 => i32::try_from(len).unwrap_or(i32::MAX),
        Err(e) => e.to_errno(),
    }
}

/// A request.
///
/// # Invariants
///
/// `info` points to a `genl_info` that is valid for `'a`, as are all things that it points to. Its
/// `attrs` is null or has an entry for each number up to the `maxattr` of its family, which is null
/// or points to an attribute in the request.
pub struct Request<'a> {
    info: NonNull<bindings::genl_info>,
    _info: PhantomData<&'a bindings::genl_info>,
}

impl<'a> Request<'a> {
    fn info(&self) -> &bindings::genl_info {
        // SAFETY: Valid by the type invariants. Nobody writes it while the request is handled; the
        // `netlink_ext_ack` is an object of its own.
        unsafe { self.info.as_ref() }
    }

    /// The number of the command.
    pub fn command(&self) -> u8 {
        // SAFETY: Valid by the type invariants.
        unsafe { (*self.info().genlhdr).cmd }
    }

    /// The namespace of the socket that the request came through.
    pub fn net(&self) -> &'a Net {
        // SAFETY: The socket keeps the namespace, and whoever sent the request keeps the socket.
        unsafe { Net::from_raw(bindings::genl_info_net(self.info.as_ptr())) }
    }

    fn attribute(&self, number: u16) -> Option<NonNull<bindings::nlattr>> {
        let info = self.info();
        // SAFETY: Valid by the type invariants.
        if info.attrs.is_null() || u32::from(number) > unsafe { (*info.family).maxattr } {
            return None;
        }
        // SAFETY: There is an entry of this number by the type invariants, as was just checked.
        NonNull::new(unsafe { *info.attrs.add(usize::from(number)) })
    }

    /// Whether the request has the attribute.
    pub fn has(&self, number: u16) -> bool {
        self.attribute(number).is_some()
    }

    /// The payload of an attribute, if the request has it. If the request has it more than once,
    /// the last one counts.
    pub fn bytes(&self, number: u16) -> Option<&'a [u8]> {
        let attribute = self.attribute(number)?.as_ptr();
        // SAFETY: An attribute by the type invariants.
        let (data, len) = unsafe { (bindings::nla_data(attribute), bindings::nla_len(attribute)) };
        let len = usize::try_from(len).ok()?;
        // SAFETY: The parser has checked that the attribute ends within the request, whose bytes
        // do not change.
        Some(unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
    }

    /// The first bytes of an attribute, if the request has it and it is not shorter.
    pub fn array<const N: usize>(&self, number: u16) -> Option<[u8; N]> {
        self.bytes(number)?.first_chunk().copied()
    }

    /// An integer in host order.
    pub fn u8(&self, number: u16) -> Option<u8> {
        self.array(number).map(u8::from_ne_bytes)
    }

    /// An integer in host order.
    pub fn u16(&self, number: u16) -> Option<u16> {
        self.array(number).map(u16::from_ne_bytes)
    }

    /// An integer in host order.
    pub fn u32(&self, number: u16) -> Option<u32> {
        self.array(number).map(u32::from_ne_bytes)
    }

    /// An integer in host order.
    pub fn u64(&self, number: u16) -> Option<u64> {
        self.array(number).map(u64::from_ne_bytes)
    }

    /// What the sender is told together with the error, if it has asked for such texts.
    pub fn set_message(&self, message: &'static CStr) {
        // SAFETY: The `netlink_ext_ack` is null or valid, and only the task that handles the
        // request uses it. It is read before the family's module can go away.
        unsafe { bindings::nl_set_err_msg(self.info().extack, message.as_char_ptr()) }
    }

    /// Like [`Request::set_message`], with the text "`what`: `why`", cut at 79 bytes.
    pub fn set_message_pair(&self, what: &CStr, why: &CStr) {
        // SAFETY: As for `set_message`; the strings are copied.
        unsafe {
            bindings::nl_set_err_msg_pair(self.info().extack, what.as_char_ptr(), why.as_char_ptr())
        }
    }

    /// Tells the sender that this attribute is to blame, if the request has it.
    pub fn set_bad_attribute(&self, number: u16) {
        if let Some(attribute) = self.attribute(number) {
            // SAFETY: As for `set_message`; the attribute is in the request, which stays for as
            // long as the `netlink_ext_ack` does.
            unsafe { bindings::nl_set_bad_attr(self.info().extack, attribute.as_ptr()) }
        }
    }

    /// Tells the sender that this attribute is not there and ought to be.
    pub fn set_missing_attribute(&self, number: u16) {
        // SAFETY: As for `set_message`.
        unsafe { bindings::nl_set_err_attr_miss(self.info().extack, number) }
    }

    /// Answers the sender with a message that `fill` puts attributes into. May sleep.
    ///
    /// `EMSGSIZE` or another error of `fill`, `ENOMEM`, or what delivery fails with, such as
    /// `ECONNREFUSED` and `EAGAIN`.
    pub fn reply(
        &self,
        command: u8,
        flags: Flags,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Result {
        let info = self.info();
        // SAFETY: The family is that of a request.
        let message = unsafe { Message::new(info.family, Origin::of(info), command, flags, fill) }?;
        // SAFETY: The message is complete; the call frees it in any case.
        to_result(unsafe {
            bindings::genlmsg_unicast(self.net().as_ptr(), message.into_raw(), info.snd_portid)
        })
    }
}

/// What a message says about where it comes from.
#[derive(Clone, Copy)]
struct Origin {
    portid: u32,
    seq: u32,
}

impl Origin {
    const NOBODY: Self = Self { portid: 0, seq: 0 };

    fn of(info: &bindings::genl_info) -> Self {
        Self {
            portid: info.snd_portid,
            seq: info.snd_seq,
        }
    }
}

/// Flags in the header of a message.
#[derive(Clone, Copy)]
pub enum Flags {
    /// None.
    None,
    /// `NLM_F_ACK`.
    Ack,
}

/// A part of a dump.
///
/// # Invariants
///
/// `skb` is the message buffer of this part, `cb` is the state of the dump and `info` what was
/// asked; all are valid for `'a`, and only the holder of this value uses the first two meanwhile.
pub struct Dump<'a> {
    skb: NonNull<bindings::sk_buff>,
    cb: NonNull<bindings::netlink_callback>,
    info: NonNull<bindings::genl_info>,
    _cb: PhantomData<&'a mut bindings::netlink_callback>,
}

impl<'a> Dump<'a> {
    fn info(&self) -> &bindings::genl_info {
        // SAFETY: Valid by the type invariants, and not written while a part is being made.
        unsafe { self.info.as_ref() }
    }

    /// The number of the command.
    pub fn command(&self) -> u8 {
        // SAFETY: The header is in the request, which is kept with the dump.
        unsafe { (*self.info().genlhdr).cmd }
    }

    /// The namespace of the socket that the request came through.
    pub fn net(&self) -> &'a Net {
        // SAFETY: The socket keeps the namespace, and whoever reads the dump keeps the socket.
        unsafe { Net::from_raw(bindings::genl_info_net(self.info.as_ptr())) }
    }

    fn context(&self) -> *mut [u64; 2] {
        const { assert!(size_of::<[u64; 2]>() <= size_of::<bindings::netlink_callback__bindgen_ty_1>()) };
        // SAFETY: Valid by the type invariants.
        unsafe { &raw mut (*self.cb.as_ptr()).__bindgen_anon_1 }.cast()
    }

    /// What [`Dump::set_cursor`] has stored, zeroes at first.
    pub fn cursor(&self) -> [u64; 2] {
        // SAFETY: The context is big enough, as `context` checks, was zeroed when the dump began,
        // and is ours.
        unsafe { self.context().read_unaligned() }
    }

    /// Stores where to go on.
    pub fn set_cursor(&mut self, cursor: [u64; 2]) {
        // SAFETY: As for `cursor`.
        unsafe { self.context().write_unaligned(cursor) }
    }

    /// Adds a message that `fill` puts attributes into.
    ///
    /// `EMSGSIZE` if there is no room for it in this part, or another error of `fill`; nothing was
    /// added then.
    pub fn entry(&mut self, command: u8, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result {
        let info = self.info();
        let (family, origin) = (info.family, Origin::of(info));
        // SAFETY: By the type invariants.
        unsafe {
            put_message(
                self.skb,
                family,
                origin,
                command,
                bindings::NLM_F_MULTI,
                fill,
            )
        }
    }
}

/// Puts a message at the end of `skb`, or leaves `skb` as it was.
///
/// # Safety
///
/// `skb` must be a netlink message buffer that nobody else uses, `family` a complete family.
unsafe fn put_message(
    skb: NonNull<bindings::sk_buff>,
    family: *const bindings::genl_family,
    origin: Origin,
    command: u8,
    flags: u32,
    fill: impl FnOnce(&mut Body<'_>) -> Result,
) -> Result {
    // SAFETY: The buffer and the family are valid by the safety requirement. CAST: The flags are 16
    // bits.
    let header = unsafe {
        bindings::genlmsg_put(
            skb.as_ptr(),
            origin.portid,
            origin.seq,
            family,
            flags as i32,
            command,
        )
    };
    if header.is_null() {
        return Err(EMSGSIZE);
    }
    // INVARIANT: By the safety requirement; a header was just put.
    let filled = fill(&mut Body {
        skb,
        _skb: PhantomData,
    });
    // SAFETY: The header is in the buffer, and is that of its last message. The buffer has not
    // moved, as attributes do not make it grow.
    unsafe {
        match filled {
            Ok(()) => bindings::genlmsg_end(skb.as_ptr(), header),
            Err(_) => bindings::genlmsg_cancel(skb.as_ptr(), header),
        }
    }
    filled
}

/// A message that is complete, but not sent.
///
/// # Invariants
///
/// The pointer is to a netlink message buffer, and this value owns it.
struct Message(NonNull<bindings::sk_buff>);

impl Message {
    /// # Safety
    ///
    /// `family` must be complete.
    unsafe fn new(
        family: *const bindings::genl_family,
        origin: Origin,
        command: u8,
        flags: Flags,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Result<Self> {
        // SAFETY: Always safe to call. May sleep, like all our callers.
        let skb =
            unsafe { bindings::nlmsg_new(bindings::NLMSG_DEFAULT_SIZE, bindings::GFP_KERNEL) };
        // INVARIANT: Just allocated.
        let message = NonNull::new(skb).map(Self).ok_or(ENOMEM)?;
        let flags = match flags {
            Flags::None => 0,
            Flags::Ack => bindings::NLM_F_ACK,
        };
        // SAFETY: By the type invariants and the safety requirement.
        unsafe { put_message(message.0, family, origin, command, flags, fill) }?;
        Ok(message)
    }

    fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::nlmsg_free(self.0.as_ptr()) }
    }
}

/// The end of a message, or of a nest in it, where attributes are put.
///
/// All methods return `EMSGSIZE` if there is no room. That is to be passed on: the message is
/// given up then.
///
/// # Invariants
///
/// `skb` is a netlink message buffer with an unfinished message, which nobody else uses for `'a`.
pub struct Body<'a> {
    skb: NonNull<bindings::sk_buff>,
    _skb: PhantomData<&'a mut bindings::sk_buff>,
}

impl Body<'_> {
    /// Puts bytes.
    pub fn put_bytes(&mut self, number: u16, value: &[u8]) -> Result {
        const HEADER: usize = size_of::<bindings::nlattr>();
        // The length field of an attribute has 16 bits and counts the header.
        if value.len() > usize::from(u16::MAX) - HEADER {
            return Err(EMSGSIZE);
        }
        // SAFETY: The buffer is valid by the type invariants. `value` has this many bytes, and C
        // does not look at them if there are none. CAST: Checked to be small.
        to_result(unsafe {
            bindings::nla_put(
                self.skb.as_ptr(),
                i32::from(number),
                value.len() as i32,
                value.as_ptr().cast(),
            )
        })
    }

    /// Puts an attribute whose presence says everything.
    pub fn put_flag(&mut self, number: u16) -> Result {
        self.put_bytes(number, &[])
    }

    /// Puts a string with its NUL.
    pub fn put_string(&mut self, number: u16, value: &CStr) -> Result {
        self.put_bytes(number, value.to_bytes_with_nul())
    }

    /// Puts an integer in host order.
    pub fn put_u8(&mut self, number: u16, value: u8) -> Result {
        self.put_bytes(number, &value.to_ne_bytes())
    }

    /// Puts an integer in host order.
    pub fn put_u16(&mut self, number: u16, value: u16) -> Result {
        self.put_bytes(number, &value.to_ne_bytes())
    }

    /// Puts an integer in host order.
    pub fn put_u32(&mut self, number: u16, value: u32) -> Result {
        self.put_bytes(number, &value.to_ne_bytes())
    }

    /// Puts an integer in host order. On machines that need it, an empty attribute of the number
    /// `pad` goes before it, if the integer were not aligned otherwise.
    pub fn put_u64(&mut self, number: u16, value: u64, pad: u16) -> Result {
        // SAFETY: The buffer is valid by the type invariants.
        to_result(unsafe {
            bindings::nla_put_u64_64bit(self.skb.as_ptr(), i32::from(number), value, i32::from(pad))
        })
    }

    /// Puts an attribute that holds those that `fill` puts. It does not get the flag
    /// `NLA_F_NESTED`, as in families that are older than the flag.
    pub fn put_nest(&mut self, number: u16, fill: impl FnOnce(&mut Self) -> Result) -> Result {
        let skb = self.skb.as_ptr();
        // SAFETY: The buffer is valid by the type invariants.
        let start = unsafe { bindings::nla_nest_start_noflag(skb, i32::from(number)) };
        if start.is_null() {
            return Err(EMSGSIZE);
        }
        let filled = fill(self);
        // SAFETY: The buffer has not moved, and the nest is the last attribute in it on its level.
        unsafe {
            match filled {
                Ok(()) => {
                    bindings::nla_nest_end(skb, start);
                }
                Err(_) => bindings::nla_nest_cancel(skb, start),
            }
        }
        filled
    }
}
