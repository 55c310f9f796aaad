// SPDX-License-Identifier: GPL-2.0

void HELPER(sock_hold)(struct sock *sk)
{
	sock_hold(sk);
}

void HELPER(sock_put)(struct sock *sk)
{
	sock_put(sk);
}

struct net *HELPER(sock_net)(const struct sock *sk)
{
	return sock_net(sk);
}

void HELPER(lock_sock)(struct sock *sk)
{
	lock_sock(sk);
}

void HELPER(sockfd_put)(struct socket *sock)
{
	sockfd_put(sock);
}

bool HELPER(sk_uses_ipv6)(const struct sock *sk)
{
#if IS_ENABLED(CONFIG_IPV6)
	return sk->sk_family == PF_INET6 && !ipv6_addr_v4mapped(&sk->sk_v6_daddr);
#else
	return false;
#endif
}

bool HELPER(udp_get_no_check6_tx)(const struct sock *sk)
{
	return udp_get_no_check6_tx(sk);
}

bool HELPER(udp_get_no_check6_rx)(const struct sock *sk)
{
	return udp_get_no_check6_rx(sk);
}

bool HELPER(sk_has_xfrm_policy)(const struct sock *sk)
{
#ifdef CONFIG_XFRM
	return rcu_access_pointer(sk->sk_policy[0]) || rcu_access_pointer(sk->sk_policy[1]);
#else
	return false;
#endif
}

void HELPER(sk_dst_set)(struct sock *sk, struct dst_entry *dst)
{
	sk_dst_set(sk, dst);
}

struct dst_entry *HELPER(dst_check)(struct dst_entry *dst, u32 cookie)
{
	return dst_check(dst, cookie);
}

u32 HELPER(dst_mtu)(const struct dst_entry *dst)
{
	return dst_mtu(dst);
}

int HELPER(ip4_dst_hoplimit)(const struct dst_entry *dst)
{
	return ip4_dst_hoplimit(dst);
}

void HELPER(ip_select_ident_segs)(struct net *net, struct sk_buff *skb, struct sock *sk, int segs)
{
	ip_select_ident_segs(net, skb, sk, segs);
}

void HELPER(inet_sk_init_flowi4)(const struct sock *sk, struct flowi4 *fl4)
{
	inet_sk_init_flowi4(inet_sk(sk), fl4);
}

#if IS_ENABLED(CONFIG_IPV6)
int HELPER(ip6_sk_dst_hoplimit)(struct sock *sk, struct flowi6 *fl6, struct dst_entry *dst)
{
	return ip6_sk_dst_hoplimit(inet6_sk(sk), fl6, dst);
}

void HELPER(ip6_dst_store)(struct sock *sk, struct dst_entry *dst)
{
	ip6_dst_store(sk, dst, false, false);
}

struct in6_addr *HELPER(fl6_update_dst)(struct flowi6 *fl6, const struct ipv6_txoptions *opt,
					struct in6_addr *orig)
{
	return fl6_update_dst(fl6, opt, orig);
}
#endif

void HELPER(security_sk_classify_flow)(const struct sock *sk, struct flowi_common *flic)
{
	security_sk_classify_flow(sk, flic);
}

bool HELPER(inet_recverr)(const struct sock *sk)
{
	return inet_test_bit(RECVERR, sk);
}

bool HELPER(inet6_recverr)(const struct sock *sk)
{
	return inet6_test_bit(RECVERR6, sk);
}

u64 HELPER(get_jiffies_64)(void)
{
	return get_jiffies_64();
}

unsigned int HELPER(dst_headroom)(const struct dst_entry *dst)
{
	return LL_RESERVED_SPACE(dst->dev) + dst->header_len;
}

void HELPER(synchronize_rcu_tasks)(void)
{
	synchronize_rcu_tasks();
}

unsigned int HELPER(sk_refcnt)(const struct sock *sk)
{
	return refcount_read(&sk->sk_refcnt);
}
