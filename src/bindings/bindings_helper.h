/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the headers of the kernel interfaces that src/abstractions/ wraps, and the
 * helpers and tracepoints, so that Rust sees the prototypes of the very functions that helpers.c
 * and trace.c define.
 */

#include "helpers.c"
#include "trace.h"

/* Macros that bindgen cannot evaluate. The prefix is dropped again. */
static const u8 L2TP_CONST_CHECKSUM_NONE = CHECKSUM_NONE;
static const u8 L2TP_CONST_CHECKSUM_PARTIAL = CHECKSUM_PARTIAL;
static const u8 L2TP_CONST_SKBFL_ZEROCOPY_ENABLE = SKBFL_ZEROCOPY_ENABLE;
static const unsigned int L2TP_CONST_SKB_GSO_UDP_TUNNEL = SKB_GSO_UDP_TUNNEL;
static const unsigned int L2TP_CONST_SKB_GSO_UDP_TUNNEL_CSUM = SKB_GSO_UDP_TUNNEL_CSUM;
static const unsigned int L2TP_CONST_SKB_GSO_TCPV4 = SKB_GSO_TCPV4;
static const unsigned int L2TP_CONST_SKB_GSO_TCPV6 = SKB_GSO_TCPV6;
static const unsigned int L2TP_CONST_SKB_GSO_SCTP = SKB_GSO_SCTP;
static const unsigned int L2TP_CONST_SKB_GSO_TCP_FIXEDID = SKB_GSO_TCP_FIXEDID;
static const unsigned int L2TP_CONST_SKB_GSO_TCP_FIXEDID_INNER = SKB_GSO_TCP_FIXEDID_INNER;
static const netdev_features_t L2TP_CONST_NETIF_F_SG = NETIF_F_SG;
static const netdev_features_t L2TP_CONST_NETIF_F_FRAGLIST = NETIF_F_FRAGLIST;
static const netdev_features_t L2TP_CONST_NETIF_F_HW_CSUM = NETIF_F_HW_CSUM;
static const netdev_features_t L2TP_CONST_NETIF_F_GSO_SOFTWARE = NETIF_F_GSO_SOFTWARE;
static const netdev_features_t L2TP_CONST_NETIF_F_GSO_FRAGLIST = NETIF_F_GSO_FRAGLIST;
static const netdev_features_t L2TP_CONST_NETIF_F_GRO_FRAGLIST = NETIF_F_GRO_FRAGLIST;
static const netdev_features_t L2TP_CONST_NETIF_F_GRO_UDP_FWD = NETIF_F_GRO_UDP_FWD;
static const netdev_features_t L2TP_CONST_NETIF_F_HIGHDMA = NETIF_F_HIGHDMA;
static const gfp_t L2TP_CONST_GFP_ATOMIC = GFP_ATOMIC;
static const gfp_t L2TP_CONST_GFP_KERNEL = GFP_KERNEL;
/* Defined twice: bindgen would take the first definition, that of the uapi. */
static const unsigned int L2TP_CONST_KERNEL_HZ = HZ;
static const size_t L2TP_CONST_NETDEV_PRIV_OFFSET = offsetof(struct net_device, priv);
static const int L2TP_CONST_IP_TUNNEL_RECURSION_LIMIT = IP_TUNNEL_RECURSION_LIMIT;
static const size_t L2TP_CONST_NLMSG_DEFAULT_SIZE = NLMSG_DEFAULT_SIZE;
static const unsigned int L2TP_CONST_SIOCINQ = SIOCINQ;
static const unsigned int L2TP_CONST_SIOCOUTQ = SIOCOUTQ;
static const unsigned int L2TP_CONST_PPPIOCGFLAGS = PPPIOCGFLAGS;
static const unsigned int L2TP_CONST_PPPIOCGL2TPSTATS = PPPIOCGL2TPSTATS;
static const unsigned int L2TP_CONST_PPPIOCGMRU = PPPIOCGMRU;
static const unsigned int L2TP_CONST_PPPIOCSFLAGS = PPPIOCSFLAGS;
static const unsigned int L2TP_CONST_PPPIOCSMRU = PPPIOCSMRU;
