// SPDX-License-Identifier: GPL-2.0

//! Sockets of the kernel's own, and those behind a file descriptor.
//!
//! C header: [`include/linux/net.h`](srctree/include/linux/net.h)

use super::{
    net_namespace::Net,
    sock::Sock, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::error::to_result;

/// A socket that the kernel has opened. Does not keep its network namespace alive. Shut down and
/// released on drop, which may sleep.
///
/// # Invariants
///
/// `socket` is an open internet socket that this value owns.
pub struct KernelSocket {
    socket: NonNull<bindings::socket>,
}

// SAFETY: Sockets may be used and released by any task.
unsafe impl Send for KernelSocket {}
// SAFETY: The socket functions do their own locking.
unsafe impl Sync for KernelSocket {}

/// Addresses and ports for a UDP socket. Addresses in network order, ports in host order, 0 for any.
pub enum UdpConfig {
    /// IPv4.
    V4 {
        /// Our address.
        local: [u8; 4],
        /// The peer's address.
        peer: [u8; 4],
        /// Whether to send checksums.
        checksums: bool,
    },
    /// IPv6.
    V6 {
        /// Our address.
        local: [u8; 16],
        /// The peer's address.
        peer: [u8; 16],
        /// Whether to send checksums.
        tx_checksums: bool,
        /// Whether to insist on checksums.
        rx_checksums: bool,
    },
}

impl KernelSocket {
    /// Opens a UDP socket, binds it, and connects it if `dport` is not 0. May sleep.
    pub fn new_udp(net: &Net, config: &UdpConfig, sport: u16, dport: u16) -> Result<Self> {
        let mut cfg = bindings::udp_port_cfg {
            local_udp_port: sport.to_be(),
            peer_udp_port: dport.to_be(),
            ..Default::default()
        };
        let mut socket = ptr::null_mut();
        match *config {
            UdpConfig::V4 {
                local,
                peer,
                checksums,
            } => {
                // CAST: Address families are small.
                cfg.family = bindings::AF_INET as u8;
                cfg.__bindgen_anon_1.local_ip.s_addr = u32::from_ne_bytes(local);
                cfg.__bindgen_anon_2.peer_ip.s_addr = u32::from_ne_bytes(peer);
                cfg.set_use_udp_checksums(checksums.into());
                // SAFETY: `net` is alive; the configuration and the result are ours.
                to_result(unsafe {
                    bindings::udp_sock_create4(net.as_ptr(), &mut cfg, &mut socket)
                })?;
            }
            UdpConfig::V6 {
                local,
                peer,
                tx_checksums,
                rx_checksums,
            } => {
                cfg.family = bindings::AF_INET6 as u8;
                cfg.__bindgen_anon_1.local_ip6 = in6_addr(local);
                cfg.__bindgen_anon_2.peer_ip6 = in6_addr(peer);
                cfg.set_use_udp6_tx_checksums(tx_checksums.into());
                cfg.set_use_udp6_rx_checksums(rx_checksums.into());
                // SAFETY: `net` is alive; the configuration and the result are ours.
                to_result(unsafe {
                    bindings::udp_sock_create6(net.as_ptr(), &mut cfg, &mut socket)
                })?;
            }
        }
        // INVARIANT: Just created.
        NonNull::new(socket)
            .map(|socket| Self { socket })
            .ok_or(ENOTSOCK)
    }

    /// Opens a datagram socket of the given family and protocol. May sleep, and load the module
    /// that implements the protocol.
    pub fn new_datagram(net: &Net, family: u32, protocol: u32) -> Result<Self> {
        let mut socket = ptr::null_mut();
        // SAFETY: `net` is alive, and the result is ours.
        to_result(unsafe {
            bindings::sock_create_kern(
                net.as_ptr(),
                // CAST: Families, types and protocols are small.
                family as i32,
                bindings::sock_type_SOCK_DGRAM as i32,
                protocol as i32,
                &mut socket,
            )
        })?;
        // INVARIANT: Just created.
        NonNull::new(socket)
            .map(|socket| Self { socket })
            .ok_or(ENOTSOCK)
    }

    /// Binds the socket to an address in the form that its family has. May sleep.
    pub fn bind(&self, address: &[u8]) -> Result {
        let mut storage = Storage::new(address)?;
        // SAFETY: The socket is open by the type invariants; the address is ours.
        to_result(unsafe {
            bindings::kernel_bind(self.socket.as_ptr(), storage.as_ptr(), storage.len())
        })
    }

    /// Connects the socket to an address in the form that its family has. May sleep.
    pub fn connect(&self, address: &[u8]) -> Result {
        let mut storage = Storage::new(address)?;
        // SAFETY: As for `bind`.
        to_result(unsafe {
            bindings::kernel_connect(self.socket.as_ptr(), storage.as_ptr(), storage.len(), 0)
        })
    }
}

/// An address of any family, suitably aligned.
#[repr(C, align(8))]
struct Storage {
    bytes: [u8; 128],
    len: i32,
}

impl Storage {
    fn new(address: &[u8]) -> Result<Self> {
        let mut storage = Self {
            bytes: [0; 128],
            len: i32::try_from(address.len())?,
        };
        let room = storage.bytes.get_mut(..address.len()).ok_or(EINVAL)?;
        for (to, from) in room.iter_mut().zip(address) {
            *to = *from;
        }
        Ok(storage)
    }

    fn as_ptr(&mut self) -> *mut bindings::sockaddr_unsized {
        self.bytes.as_mut_ptr().cast()
    }

    fn len(&self) -> i32 {
        self.len
    }
}

fn in6_addr(bytes: [u8; 16]) -> bindings::in6_addr {
    let mut addr = bindings::in6_addr::default();
    addr.in6_u.u6_addr8 = bytes;
    addr
}

impl Deref for KernelSocket {
    type Target = Sock;

    fn deref(&self) -> &Sock {
        // SAFETY: By the type invariants the socket is open, so that it has a `sk`, which is of an
        // internet family.
        unsafe { Sock::from_raw((*self.socket.as_ptr()).sk) }
    }
}

impl Drop for KernelSocket {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::kernel_sock_shutdown(
                self.socket.as_ptr(),
                bindings::sock_shutdown_cmd_SHUT_RDWR,
            );
            bindings::sock_release(self.socket.as_ptr());
        }
    }
}

/// The socket behind a file descriptor of the current task.
///
/// # Invariants
///
/// `socket` is a socket whose file this value holds a reference to.
pub struct FileSocket {
    socket: NonNull<bindings::socket>,
}

impl FileSocket {
    /// Looks up `fd`. `EBADF` if it is not open, `ENOTSOCK` if it is no socket.
    pub fn from_fd(fd: i32) -> Result<Self> {
        let mut err = 0;
        // SAFETY: `err` is ours.
        let socket = unsafe { bindings::sockfd_lookup(fd, &mut err) };
        match NonNull::new(socket) {
            // INVARIANT: The lookup has taken a reference.
            Some(socket) => Ok(Self { socket }),
            None => Err(to_result(err).err().unwrap_or(EBADF)),
        }
    }

    /// The socket, if its family is `AF_INET` or `AF_INET6` and its type is `SOCK_DGRAM`.
    pub fn inet_datagram(&self) -> Option<&Sock> {
        // SAFETY: By the type invariants the file is open; the `sk` of an open socket stays until
        // it is released.
        let sk = unsafe { (*self.socket.as_ptr()).sk };
        if sk.is_null() {
            return None;
        }
        // SAFETY: `sk` is valid; these fields are the same in all families.
        let (family, kind) = unsafe { ((*sk).__sk_common.skc_family, (*sk).sk_type) };
        let family = u32::from(family);
        if (family != bindings::AF_INET && family != bindings::AF_INET6)
            || u32::from(kind) != bindings::sock_type_SOCK_DGRAM
        {
            return None;
        }
        // SAFETY: Each socket of these families is an `inet_sock`.
        Some(unsafe { Sock::from_raw(sk) })
    }

    /// Whether the socket, of whatever family, is in the namespace `net`.
    pub fn is_in(&self, net: &Net) -> bool {
        // SAFETY: As above; `sock_net` works for each family.
        unsafe {
            let sk = (*self.socket.as_ptr()).sk;
            !sk.is_null() && ptr::eq(bindings::sock_net(sk), net.as_ptr())
        }
    }
}

impl Drop for FileSocket {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::sockfd_put(self.socket.as_ptr()) }
    }
}
