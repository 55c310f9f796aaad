// SPDX-License-Identifier: GPL-2.0

void HELPER(timer_setup)(struct timer_list *timer, void (*callback)(struct timer_list *))
{
	timer_setup(timer, callback, 0);
}

int HELPER(timer_start_by)(struct timer_list *timer, unsigned long ticks)
{
	return timer_reduce(timer, jiffies + ticks);
}
