// SPDX-License-Identifier: GPL-2.0

//! System calls, as they are: a number of a file, bytes in, bytes out, an errno.

use std::{
    ffi::CString,
    fs,
    io::Write,
    process::{
        Command,
        Stdio, //
    }, //
};

/// What a call returned, or its errno.
pub(crate) type Result<T = i64> = std::result::Result<T, i32>;

pub(crate) fn checked(returned: i64) -> Result {
    if returned >= 0 {
        Ok(returned)
    } else {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// A system call on nothing but numbers; the kernel decides what they are.
macro_rules! raw {
    ($number:ident $(, $arg:expr)*) => {
        // SAFETY: Callers pass numbers, and pointers to memory that lives as long as the call and
        // is as large as the length that is passed with it.
        crate::sys::checked(unsafe { libc::syscall(libc::$number $(, $arg)*) })
    };
}
pub(crate) use raw;

pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<i32> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    raw!(SYS_socket, family, kind, protocol).map(|fd| fd as i32)
}

pub(crate) fn close(fd: i32) {
    let _ = raw!(SYS_close, fd);
}

pub(crate) fn bind(fd: i32, address: &[u8]) -> Result {
    raw!(SYS_bind, fd, address.as_ptr(), address.len())
}

pub(crate) fn connect(fd: i32, address: &[u8]) -> Result {
    raw!(SYS_connect, fd, address.as_ptr(), address.len())
}

pub(crate) fn send(fd: i32, data: &[u8], flags: i32, to: &[u8]) -> Result {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    raw!(
        SYS_sendto,
        fd,
        data.as_ptr(),
        data.len(),
        flags,
        to.as_ptr(),
        to.len()
    )
}

pub(crate) fn receive(fd: i32, data: &mut [u8], flags: i32) -> Result {
    let flags = flags | libc::MSG_DONTWAIT;
    raw!(SYS_recvfrom, fd, data.as_mut_ptr(), data.len(), flags, 0, 0)
}

pub(crate) fn set_option(fd: i32, level: i32, option: i32, value: &[u8]) -> Result {
    raw!(
        SYS_setsockopt,
        fd,
        level,
        option,
        value.as_ptr(),
        value.len()
    )
}

/// `argument` holds what the request reads and writes.
pub(crate) fn ioctl(fd: i32, request: u64, argument: &mut [u8]) -> Result {
    raw!(SYS_ioctl, fd, request, argument.as_mut_ptr())
}

/// An ioctl on an int, and what it has become.
pub(crate) fn ioctl_int(fd: i32, request: u64, value: i32) -> Result<i32> {
    let mut argument = value.to_ne_bytes();
    ioctl(fd, request, &mut argument)?;
    Ok(i32::from_ne_bytes(argument))
}

pub(crate) fn write(fd: i32, data: &[u8]) -> Result {
    raw!(SYS_write, fd, data.as_ptr(), data.len())
}

pub(crate) fn read(fd: i32, data: &mut [u8]) -> Result {
    raw!(SYS_read, fd, data.as_mut_ptr(), data.len())
}

pub(crate) fn open(path: &str) -> Result<i32> {
    let path = CString::new(path).expect("a path");
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    raw!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags).map(|fd| fd as i32)
}

/// The network namespace of this thread.
pub(crate) fn namespace() -> i32 {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    raw!(
        SYS_openat,
        libc::AT_FDCWD,
        c"/proc/thread-self/ns/net".as_ptr(),
        flags
    )
    .expect("ns/net") as i32
}

pub(crate) fn enter(namespace: i32) {
    raw!(SYS_setns, namespace, libc::CLONE_NEWNET).expect("setns");
}

pub(crate) fn unshare(what: i32) {
    raw!(SYS_unshare, what).expect("unshare");
}

/// Becomes nobody; with `namespaces`, root of a new user namespace, and those besides.
pub(crate) fn drop_privilege(namespaces: Option<i32>) {
    const NOBODY: i64 = 65534;

    raw!(SYS_setgroups, 0, 0).expect("setgroups");
    raw!(SYS_setresgid, NOBODY, NOBODY, NOBODY).expect("setresgid");
    raw!(SYS_setresuid, NOBODY, NOBODY, NOBODY).expect("setresuid");
    // Or /proc/self stays root's.
    raw!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).expect("prctl");
    if let Some(namespaces) = namespaces {
        unshare(libc::CLONE_NEWUSER);
        fs::write("/proc/self/setgroups", "deny").expect("setgroups");
        fs::write("/proc/self/uid_map", format!("0 {NOBODY} 1")).expect("uid_map");
        fs::write("/proc/self/gid_map", format!("0 {NOBODY} 1")).expect("gid_map");
        if namespaces != 0 {
            unshare(namespaces);
        }
    }
}

/// Lines for ip(8), all of which must succeed unless `forced`.
pub(crate) fn ip(lines: &str, forced: bool) {
    let mut child = Command::new("ip")
        .args(if forced {
            &["-force", "-batch", "-"][..]
        } else {
            &["-batch", "-"]
        })
        .stdin(Stdio::piped())
        .stderr(if forced {
            Stdio::null()
        } else {
            Stdio::inherit()
        })
        .spawn()
        .expect("ip");
    let input = child.stdin.take();
    input
        .expect("a pipe")
        .write_all(lines.as_bytes())
        .expect("ip reads");
    let status = child.wait().expect("ip");
    assert!(forced || status.success(), "ip -batch failed on:\n{lines}");
}

/// Index of a device, if there is one of that name.
pub(crate) fn index(name: &str) -> Option<i32> {
    let name = CString::new(name).expect("a name");
    // SAFETY: The string ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index as i32)
}

/// Names of the devices in the namespace of this thread. One that is no text comes garbled, and then
/// is none.
pub(crate) fn links() -> Vec<String> {
    let table = fs::read("/proc/thread-self/net/dev").expect("net/dev");
    let names = String::from_utf8_lossy(&table);
    let names = names
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names.map(|name| name.trim().to_owned()).collect()
}

// Addresses.

pub(crate) fn sockaddr_in(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut out = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    out.extend(port.to_be_bytes());
    out.extend(address);
    out.resize(16, 0);
    out
}

pub(crate) fn sockaddr_in6(address: [u8; 16], port: u16) -> Vec<u8> {
    let mut out = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
    out.extend(port.to_be_bytes());
    out.extend([0; 4]);
    out.extend(address);
    out.extend([0; 4]);
    out
}

pub(crate) fn sockaddr_l2tpip(address: [u8; 4], id: u32) -> Vec<u8> {
    let mut out = sockaddr_in(address, 0);
    out[8..12].copy_from_slice(&id.to_ne_bytes());
    out
}

pub(crate) fn sockaddr_l2tpip6(address: [u8; 16], id: u32) -> Vec<u8> {
    let mut out = sockaddr_in6(address, 0);
    out.extend(id.to_ne_bytes());
    out
}

/// `fd`; then tunnel, session, and those of the peer; in 16 bits if `v2`.
pub(crate) fn sockaddr_pppol2tp(v2: bool, v6: bool, fd: i32, ids: [u32; 4]) -> Vec<u8> {
    let mut out = 24u16.to_ne_bytes().to_vec();
    out.extend(1u32.to_ne_bytes());
    out.extend(0i32.to_ne_bytes());
    out.extend(fd.to_ne_bytes());
    let ids: Vec<u8> = ids
        .iter()
        .flat_map(|id| {
            if v2 {
                (*id as u16).to_ne_bytes().to_vec()
            } else {
                id.to_ne_bytes().to_vec()
            }
        })
        .collect();
    if v6 {
        out.extend(ids);
        out.extend(sockaddr_in6([0; 16], 0));
    } else {
        out.extend(sockaddr_in([0; 4], 0));
        out.extend(ids);
    }
    out
}

/// Of a packet socket.
pub(crate) fn sockaddr_ll(index: i32, protocol: u16) -> Vec<u8> {
    let mut out = (libc::AF_PACKET as u16).to_ne_bytes().to_vec();
    out.extend(protocol.to_be_bytes());
    out.extend(index.to_ne_bytes());
    out.resize(20, 0);
    out
}
