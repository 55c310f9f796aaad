// SPDX-License-Identifier: GPL-2.0

//! The numbers of the netlink interface.
//!
//! C header: [`include/uapi/linux/l2tp.h`](srctree/include/uapi/linux/l2tp.h), which says what they
//! mean; here they lose their prefix. This is the one file outside of `abstractions` that looks into
//! [`bindings`]: it takes constants from there, and nothing else.

use crate::bindings;

/// The version of the family.
pub const VERSION: u32 = bindings::L2TP_GENL_VERSION;

macro_rules! numbers {
    ($type:ty, $prefix:ident, $($name:ident)*) => {
        ::kernel::macros::paste! {
            $(
                // CAST: The enumerators are small.
                #[allow(missing_docs)]
                pub const $name: $type = bindings::[<$prefix $name>] as $type;
            )*
        }
    };
}

/// Commands.
pub mod cmd {
    use super::bindings;

    numbers!(u8, L2TP_CMD_,
        NOOP
        TUNNEL_CREATE TUNNEL_DELETE TUNNEL_MODIFY TUNNEL_GET
        SESSION_CREATE SESSION_DELETE SESSION_MODIFY SESSION_GET
    );
}

/// Attributes of a message.
pub mod attr {
    use super::bindings;

    numbers!(u16, L2TP_ATTR_,
        PW_TYPE ENCAP_TYPE OFFSET DATA_SEQ L2SPEC_TYPE L2SPEC_LEN PROTO_VERSION IFNAME
        CONN_ID PEER_CONN_ID SESSION_ID PEER_SESSION_ID UDP_CSUM VLAN_ID COOKIE PEER_COOKIE
        DEBUG RECV_SEQ SEND_SEQ LNS_MODE USING_IPSEC RECV_TIMEOUT FD IP_SADDR IP_DADDR
        UDP_SPORT UDP_DPORT MTU MRU STATS IP6_SADDR IP6_DADDR
        UDP_ZERO_CSUM6_TX UDP_ZERO_CSUM6_RX PAD
    );
}

/// Numbers of the trace event `pkt_drop`.
pub mod drop_reason {
    use super::bindings;

    numbers!(u32, L2TP_DROP_,
        TOO_SHORT BAD_CONTROL NO_LISTENER UNKNOWN_SESSION WRONG_ENCAP NOT_THE_PEER
        TRUNCATED COOKIE UNNUMBERED OUTSIDE_WINDOW OUT_OF_SEQUENCE DUPLICATE QUEUE_FULL CLOSED NO_FAR_SIDE
        TOO_LONG
    );
}

/// PPP over L2TP.
///
/// C headers: [`include/uapi/linux/if_pppox.h`](srctree/include/uapi/linux/if_pppox.h),
/// [`include/uapi/linux/if_pppol2tp.h`](srctree/include/uapi/linux/if_pppol2tp.h),
/// [`include/uapi/linux/ppp-ioctl.h`](srctree/include/uapi/linux/ppp-ioctl.h)
#[cfg(CONFIG_L2TP_RUST_PPP)]
pub mod ppp {
    use super::bindings;

    pub use super::bindings::{
        AF_INET,
        AF_INET6,
        AF_PPPOX,
        PX_PROTO_OL2TP,
        SOL_PPPOL2TP, //
    };

    numbers!(u32, PPPIOC, GMRU SMRU GFLAGS SFLAGS GL2TPSTATS);

    numbers!(i32, PPPOL2TP_SO_, DEBUG RECVSEQ SENDSEQ LNSMODE REORDERTO);
}

/// Attributes in [`attr::STATS`].
pub mod stats {
    use super::bindings;

    numbers!(u16, L2TP_ATTR_,
        TX_PACKETS TX_BYTES TX_ERRORS
        RX_PACKETS RX_BYTES RX_SEQ_DISCARDS RX_OOS_PACKETS RX_ERRORS
        STATS_PAD RX_COOKIE_DISCARDS RX_INVALID
    );
}
