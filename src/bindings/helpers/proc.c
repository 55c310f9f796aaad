// SPDX-License-Identifier: GPL-2.0

struct net *HELPER(seq_file_net)(struct seq_file *seq)
{
	return seq_file_net(seq);
}
