// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel's networking headers, as functions that Rust can call.
 * Nothing here decides anything: each helper is one call. They carry a prefix of their own because
 * the kernel exports its helpers as rust_helper_*; bindgen's output drops the prefix again, so that
 * the abstractions use the C names.
 */

#include <linux/debugfs.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/icmp.h>
#include <linux/if_arp.h>
#include <linux/if_pppol2tp.h>
#include <linux/if_pppox.h>
#include <linux/inetdevice.h>
#include <linux/l2tp.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/ppp-ioctl.h>
#include <linux/ppp_channel.h>
#include <linux/proc_fs.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/rtnetlink.h>
#include <linux/security.h>
#include <linux/seq_file_net.h>
#include <linux/skbuff.h>
#include <linux/sockptr.h>
#include <linux/u64_stats_sync.h>
#include <linux/uaccess.h>
#include <linux/udp.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <net/addrconf.h>
#include <net/dst.h>
#include <net/genetlink.h>
#include <net/gro.h>
#include <net/gro_cells.h>
#include <net/gso.h>
#include <net/icmp.h>
#include <net/inet_common.h>
#include <net/inet6_connection_sock.h>
#include <net/inet_hashtables.h>
#include <net/inet_sock.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ip_tunnels.h>
#include <net/ipv6.h>
#include <net/net_namespace.h>
#include <net/netdev_lock.h>
#include <net/netns/generic.h>
#include <net/protocol.h>
#include <net/route.h>
#include <net/rtnetlink.h>
#include <net/sock.h>
#include <net/transp_v6.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>
#include <net/xfrm.h>

#include <asm/ioctls.h>

#ifdef CONFIG_PREEMPT_RT
#error "softirqs preempt each other here: the counters of this module are not made for that"
#endif

#define HELPER(name) l2tp_helper_##name

#include "helpers/genetlink.c"
#include "helpers/gro.c"
#include "helpers/gso.c"
#include "helpers/net_namespace.c"
#include "helpers/netdevice.c"
#include "helpers/percpu.c"
#include "helpers/pppox.c"
#include "helpers/proc.c"
#include "helpers/protocol.c"
#include "helpers/rhashtable.c"
#include "helpers/skbuff.c"
#include "helpers/sock.c"
#include "helpers/spinlock.c"
#include "helpers/timer.c"

/* There is no Rust for this one. The version that the C modules had, of which tools remind users. */
MODULE_VERSION("V2.0");
