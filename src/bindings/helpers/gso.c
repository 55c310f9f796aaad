// SPDX-License-Identifier: GPL-2.0

int HELPER(skb_tnl_header_len)(const struct sk_buff *skb)
{
	return skb_tnl_header_len(skb);
}

void HELPER(skb_gso_error_unwind)(struct sk_buff *skb, __be16 protocol, int pulled_hlen,
				  u16 mac_offset, int mac_len)
{
	skb_gso_error_unwind(skb, protocol, pulled_hlen, mac_offset, mac_len);
}

void HELPER(skb_reset_inner_headers)(struct sk_buff *skb)
{
	skb_reset_inner_headers(skb);
}

void HELPER(kfree_skb_list)(struct sk_buff *segs)
{
	kfree_skb_list(segs);
}
