// SPDX-License-Identifier: GPL-2.0

struct net *HELPER(skb_dev_net)(const struct sk_buff *skb)
{
	return dev_net_rcu(skb->dev);
}

int HELPER(skb_dev_index)(const struct sk_buff *skb)
{
	return skb->dev->ifindex;
}

const struct icmphdr *HELPER(icmp_hdr)(const struct sk_buff *skb)
{
	return icmp_hdr(skb);
}

/* User-mode Linux gives the field another name. */
int HELPER(icmp_err_convert)(unsigned int code)
{
	return icmp_err_convert[code].errno;
}

int HELPER(inet_iif)(const struct sk_buff *skb)
{
	return inet_iif(skb);
}

bool HELPER(xfrm4_policy_check)(struct sock *sk, struct sk_buff *skb)
{
	return xfrm4_policy_check(sk, XFRM_POLICY_IN, skb);
}

bool HELPER(sk_accept_pmtu)(const struct sock *sk)
{
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6)
		return ip6_sk_accept_pmtu(sk);
#endif
	return ip_sk_accept_pmtu(sk);
}

bool HELPER(sock_flag)(const struct sock *sk, enum sock_flags flag)
{
	return sock_flag(sk, flag);
}

void HELPER(sock_set_flag)(struct sock *sk, enum sock_flags flag)
{
	sock_set_flag(sk, flag);
}

void HELPER(sock_reset_flag)(struct sock *sk, enum sock_flags flag)
{
	sock_reset_flag(sk, flag);
}

bool HELPER(sk_kern_sock)(const struct sock *sk)
{
	return sk->sk_kern_sock;
}

void HELPER(sk_dst_reset)(struct sock *sk)
{
	sk_dst_reset(sk);
}

void HELPER(inc_ip_in_discards)(struct net *net)
{
	IP_INC_STATS(net, IPSTATS_MIB_INDISCARDS);
}

int HELPER(sk_wmem_alloc_get)(const struct sock *sk)
{
	return sk_wmem_alloc_get(sk);
}

struct sk_buff *HELPER(skb_peek)(const struct sk_buff_head *list)
{
	return skb_peek(list);
}

void HELPER(inc_ip_out_no_routes)(struct net *net)
{
	IP_INC_STATS(net, IPSTATS_MIB_OUTNOROUTES);
}

void HELPER(skb_dst_set)(struct sk_buff *skb, struct dst_entry *dst)
{
	skb_dst_set(skb, dst);
}

void HELPER(skb_reserve)(struct sk_buff *skb, int len)
{
	skb_reserve(skb, len);
}

int HELPER(memcpy_from_msg)(void *data, struct msghdr *msg, int len)
{
	return memcpy_from_msg(data, msg, len);
}

int HELPER(skb_copy_datagram_msg)(const struct sk_buff *from, int offset, struct msghdr *msg,
				  int size)
{
	return skb_copy_datagram_msg(from, offset, msg, size);
}

void HELPER(sock_recv_timestamp)(struct msghdr *msg, struct sock *sk, struct sk_buff *skb)
{
	sock_recv_timestamp(msg, sk, skb);
}

void HELPER(ip_cmsg_recv)(struct msghdr *msg, struct sock *sk, struct sk_buff *skb)
{
	if (inet_cmsg_flags(inet_sk(sk)))
		ip_cmsg_recv(msg, skb);
}

void HELPER(__skb_queue_purge)(struct sk_buff_head *list)
{
	__skb_queue_purge(list);
}

#if IS_ENABLED(CONFIG_IPV6)
bool HELPER(inet6_sndflow)(const struct sock *sk)
{
	return inet6_test_bit(SNDFLOW, sk);
}

void HELPER(ip6_cmsg_recv)(struct msghdr *msg, struct sock *sk, struct sk_buff *skb)
{
	if (inet6_sk(sk)->rxopt.all)
		ip6_datagram_recv_ctl(sk, msg, skb);
}

unsigned char *HELPER(skb_transport_header)(const struct sk_buff *skb)
{
	return skb_transport_header(skb);
}

struct ip6_flowlabel *HELPER(fl6_sock_lookup)(struct sock *sk, __be32 label)
{
	return fl6_sock_lookup(sk, label);
}

void HELPER(fl6_sock_release)(struct ip6_flowlabel *fl)
{
	fl6_sock_release(fl);
}

struct ipv6_txoptions *HELPER(txopt_get)(const struct ipv6_pinfo *np)
{
	return txopt_get(np);
}

void HELPER(txopt_put)(struct ipv6_txoptions *opt)
{
	txopt_put(opt);
}

struct ipv6_txoptions *HELPER(ipv6_fixup_options)(struct ipv6_txoptions *opt_space,
						  struct ipv6_txoptions *opt)
{
	return ipv6_fixup_options(opt_space, opt);
}

void HELPER(ipcm6_init_sk)(struct ipcm6_cookie *ipc6, const struct sock *sk)
{
	ipcm6_init_sk(ipc6, sk);
}

void HELPER(dst_confirm_neigh)(const struct dst_entry *dst, const void *daddr)
{
	dst_confirm_neigh(dst, daddr);
}

int HELPER(inet6_iif)(const struct sk_buff *skb)
{
	return inet6_iif(skb);
}

bool HELPER(xfrm6_policy_check)(struct sock *sk, struct sk_buff *skb)
{
	return xfrm6_policy_check(sk, XFRM_POLICY_IN, skb);
}

/* Needs the RCU read lock, for the device. */
bool HELPER(ipv6_chk_addr_on)(struct net *net, const struct in6_addr *addr, int ifindex)
{
	struct net_device *dev = ifindex ? dev_get_by_index_rcu(net, ifindex) : NULL;

	return ipv6_chk_addr(net, addr, dev, 0);
}

bool HELPER(dev_exists)(struct net *net, int ifindex)
{
	return dev_get_by_index_rcu(net, ifindex);
}
#endif

/* The layout is that of `Link` in src/abstractions/net/sock_table.rs. */
struct l2tp_sock_link {
	struct rhlist_head node;
	u8 key[16] __aligned(8);
};

static const struct rhashtable_params l2tp_sock_table_params = {
	.key_len = sizeof_field(struct l2tp_sock_link, key),
	.key_offset = offsetof(struct l2tp_sock_link, key),
	.head_offset = offsetof(struct l2tp_sock_link, node),
	.automatic_shrinking = true,
};

int HELPER(sock_table_init)(struct rhltable *table)
{
	return rhltable_init(table, &l2tp_sock_table_params);
}

struct rhlist_head *HELPER(sock_table_lookup)(struct rhltable *table, const void *key)
{
	return rhltable_lookup(table, key, l2tp_sock_table_params);
}

int HELPER(sock_table_insert)(struct rhltable *table, struct rhlist_head *node)
{
	return rhltable_insert(table, node, l2tp_sock_table_params);
}

int HELPER(sock_table_remove)(struct rhltable *table, struct rhlist_head *node)
{
	return rhltable_remove(table, node, l2tp_sock_table_params);
}

void HELPER(sock_table_destroy)(struct rhltable *table, void (*free)(void *ptr, void *arg),
				void *arg)
{
	rhltable_free_and_destroy(table, free, arg);
}
