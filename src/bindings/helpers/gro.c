// SPDX-License-Identifier: GPL-2.0

unsigned int HELPER(skb_gro_offset)(const struct sk_buff *skb)
{
	return skb_gro_offset(skb);
}

unsigned int HELPER(skb_gro_len)(const struct sk_buff *skb)
{
	return skb_gro_len(skb);
}

void *HELPER(skb_gro_header)(struct sk_buff *skb, unsigned int hlen, unsigned int offset)
{
	return skb_gro_header(skb, hlen, offset);
}

void HELPER(skb_gro_pull)(struct sk_buff *skb, unsigned int len)
{
	skb_gro_pull(skb, len);
}

void HELPER(skb_gro_postpull_rcsum)(struct sk_buff *skb, const void *start, unsigned int len)
{
	skb_gro_postpull_rcsum(skb, start, len);
}

void HELPER(skb_gro_flush_final)(struct sk_buff *skb, struct sk_buff *pp, int flush)
{
	skb_gro_flush_final(skb, pp, flush);
}

struct sk_buff *HELPER(call_eth_gro_receive)(struct list_head *head, struct sk_buff *skb)
{
	return call_gro_receive(eth_gro_receive, head, skb);
}

bool HELPER(skb_gro_same_flow)(const struct sk_buff *skb)
{
	return NAPI_GRO_CB(skb)->same_flow;
}

void HELPER(skb_gro_other_flow)(struct sk_buff *skb)
{
	NAPI_GRO_CB(skb)->same_flow = 0;
}

u16 HELPER(skb_gro_inner_network_offset)(const struct sk_buff *skb)
{
	return NAPI_GRO_CB(skb)->inner_network_offset;
}

bool HELPER(skb_gro_encap_mark)(const struct sk_buff *skb)
{
	return NAPI_GRO_CB(skb)->encap_mark;
}

void HELPER(skb_gro_set_encap_mark)(struct sk_buff *skb)
{
	NAPI_GRO_CB(skb)->encap_mark = 1;
}
