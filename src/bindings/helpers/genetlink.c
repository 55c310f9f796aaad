// SPDX-License-Identifier: GPL-2.0

struct net *HELPER(genl_info_net)(const struct genl_info *info)
{
	return genl_info_net(info);
}

const struct genl_info *HELPER(genl_info_dump)(struct netlink_callback *cb)
{
	return genl_info_dump(cb);
}

struct sk_buff *HELPER(nlmsg_new)(size_t payload, gfp_t flags)
{
	return nlmsg_new(payload, flags);
}

void HELPER(nlmsg_free)(struct sk_buff *skb)
{
	nlmsg_free(skb);
}

void HELPER(genlmsg_end)(struct sk_buff *skb, void *hdr)
{
	genlmsg_end(skb, hdr);
}

void HELPER(genlmsg_cancel)(struct sk_buff *skb, void *hdr)
{
	genlmsg_cancel(skb, hdr);
}

int HELPER(genlmsg_unicast)(struct net *net, struct sk_buff *skb, u32 portid)
{
	return genlmsg_unicast(net, skb, portid);
}

int HELPER(genlmsg_multicast_netns)(const struct genl_family *family, struct net *net,
				    struct sk_buff *skb, u32 portid, unsigned int group,
				    gfp_t flags)
{
	return genlmsg_multicast_netns(family, net, skb, portid, group, flags);
}

int HELPER(genl_has_listeners)(const struct genl_family *family, struct net *net,
			       unsigned int group)
{
	return genl_has_listeners(family, net, group);
}

void *HELPER(nla_data)(const struct nlattr *nla)
{
	return nla_data(nla);
}

int HELPER(nla_len)(const struct nlattr *nla)
{
	return nla_len(nla);
}

int HELPER(nla_put_u64_64bit)(struct sk_buff *skb, int attrtype, u64 value, int padattr)
{
	return nla_put_u64_64bit(skb, attrtype, value, padattr);
}

struct nlattr *HELPER(nla_nest_start_noflag)(struct sk_buff *skb, int attrtype)
{
	return nla_nest_start_noflag(skb, attrtype);
}

int HELPER(nla_nest_end)(struct sk_buff *skb, struct nlattr *start)
{
	return nla_nest_end(skb, start);
}

void HELPER(nla_nest_cancel)(struct sk_buff *skb, struct nlattr *start)
{
	nla_nest_cancel(skb, start);
}

/* The macros of <linux/netlink.h> want their messages as literals. */

void HELPER(nl_set_err_msg)(struct netlink_ext_ack *extack, const char *msg)
{
	do_trace_netlink_extack(msg);
	if (extack)
		extack->_msg = msg;
}

void HELPER(nl_set_err_msg_pair)(struct netlink_ext_ack *extack, const char *what, const char *why)
{
	NL_SET_ERR_MSG_FMT(extack, "%s: %s", what, why);
}

void HELPER(nl_set_bad_attr)(struct netlink_ext_ack *extack, const struct nlattr *attr)
{
	NL_SET_BAD_ATTR(extack, attr);
}

void HELPER(nl_set_err_attr_miss)(struct netlink_ext_ack *extack, u16 type)
{
	NL_SET_ERR_ATTR_MISS(extack, NULL, type);
}
