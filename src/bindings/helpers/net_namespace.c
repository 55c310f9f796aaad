// SPDX-License-Identifier: GPL-2.0

void *HELPER(net_generic)(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}

bool HELPER(net_eq)(const struct net *a, const struct net *b)
{
	return net_eq(a, b);
}

struct net *HELPER(maybe_get_net)(struct net *net)
{
	return maybe_get_net(net);
}

void HELPER(put_net)(struct net *net)
{
	put_net(net);
}

struct net *HELPER(get_net)(struct net *net)
{
	return get_net(net);
}

struct net *HELPER(current_net)(void)
{
	return current->nsproxy->net_ns;
}
