// SPDX-License-Identifier: GPL-2.0

void HELPER(dev_net_set)(struct net_device *dev, struct net *net)
{
	dev_net_set(dev, net);
}

struct net *HELPER(dev_net)(const struct net_device *dev)
{
	return dev_net(dev);
}

void HELPER(eth_hw_addr_random)(struct net_device *dev)
{
	eth_hw_addr_random(dev);
}

void HELPER(netdev_lockdep_set_classes)(struct net_device *dev)
{
	netdev_lockdep_set_classes(dev);
}

void HELPER(dev_core_stats_rx_dropped_inc)(struct net_device *dev)
{
	dev_core_stats_rx_dropped_inc(dev);
}

void HELPER(dev_stats_rx_errors_inc)(struct net_device *dev)
{
	DEV_STATS_INC(dev, rx_errors);
}

void HELPER(dev_dstats_rx_add)(struct net_device *dev, unsigned int len)
{
	dev_dstats_rx_add(dev, len);
}

void HELPER(dev_dstats_tx_add)(struct net_device *dev, unsigned int len)
{
	dev_dstats_tx_add(dev, len);
}

void HELPER(dev_dstats_tx_dropped)(struct net_device *dev)
{
	dev_dstats_tx_dropped(dev);
}

int HELPER(skb_orphan_frags)(struct sk_buff *skb, gfp_t gfp_mask)
{
	return skb_orphan_frags(skb, gfp_mask);
}

void HELPER(skb_postpull_rcsum)(struct sk_buff *skb, const void *start, unsigned int len)
{
	skb_postpull_rcsum(skb, start, len);
}

int HELPER(dev_recursion_level)(void)
{
	return dev_recursion_level();
}

void HELPER(dev_xmit_recursion_inc)(void)
{
	dev_xmit_recursion_inc();
}

void HELPER(dev_xmit_recursion_dec)(void)
{
	dev_xmit_recursion_dec();
}

void HELPER(warn_dead_loop)(const struct net_device *dev)
{
	net_crit_ratelimited("Dead loop on virtual device %s, fix it urgently!\n", dev->name);
}
