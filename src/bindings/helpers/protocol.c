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

int HELPER(inet_iif)(const struct sk_buff *skb)
{
	return inet_iif(skb);
}

bool HELPER(xfrm4_policy_check)(struct sock *sk, struct sk_buff *skb)
{
	return xfrm4_policy_check(sk, XFRM_POLICY_IN, skb);
}

kuid_t HELPER(sock_net_uid)(const struct net *net)
{
	return sock_net_uid(net, NULL);
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

void HELPER(__skb_queue_purge)(struct sk_buff_head *list)
{
	__skb_queue_purge(list);
}

#if IS_ENABLED(CONFIG_IPV6)
bool HELPER(inet6_sndflow)(const struct sock *sk)
{
	return inet6_test_bit(SNDFLOW, sk);
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
