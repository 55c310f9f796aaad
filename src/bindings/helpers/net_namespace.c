// SPDX-License-Identifier: GPL-2.0

void *HELPER(net_generic)(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}
