// SPDX-License-Identifier: GPL-2.0

bool HELPER(pskb_may_pull)(struct sk_buff *skb, unsigned int len)
{
	return pskb_may_pull(skb, len);
}

int HELPER(skb_cow_head)(struct sk_buff *skb, unsigned int headroom)
{
	return skb_cow_head(skb, headroom);
}

#ifndef CONFIG_TRACEPOINTS
void HELPER(consume_skb)(struct sk_buff *skb)
{
	consume_skb(skb);
}
#endif

struct sk_buff *HELPER(skb_share_check)(struct sk_buff *skb, gfp_t pri)
{
	return skb_share_check(skb, pri);
}

void HELPER(skb_reset_transport_header)(struct sk_buff *skb)
{
	skb_reset_transport_header(skb);
}

void HELPER(nf_reset_ct)(struct sk_buff *skb)
{
	nf_reset_ct(skb);
}

void HELPER(secpath_reset)(struct sk_buff *skb)
{
	secpath_reset(skb);
}

void HELPER(skb_dst_drop)(struct sk_buff *skb)
{
	skb_dst_drop(skb);
}

void HELPER(skb_dst_set_noref)(struct sk_buff *skb, struct dst_entry *dst)
{
	skb_dst_set_noref(skb, dst);
}

void HELPER(skb_orphan)(struct sk_buff *skb)
{
	skb_orphan(skb);
}

bool HELPER(skb_quotes_ipv4)(const struct sk_buff *skb)
{
	return ip_hdr(skb)->version == IPVERSION;
}

struct sk_buff *HELPER(skb_gso_segment)(struct sk_buff *skb, netdev_features_t features)
{
	return skb_gso_segment(skb, features);
}

void HELPER(skb_set_inner_protocol)(struct sk_buff *skb, __be16 protocol)
{
	skb_set_inner_protocol(skb, protocol);
}

int HELPER(iptunnel_pull_offloads)(struct sk_buff *skb)
{
	return iptunnel_pull_offloads(skb);
}

int HELPER(skb_checksum_start_offset)(const struct sk_buff *skb)
{
	return skb_checksum_start_offset(skb);
}
