// SPDX-License-Identifier: GPL-2.0

void __percpu *HELPER(alloc_percpu)(size_t size, size_t align)
{
	return __alloc_percpu_gfp(size, align, GFP_KERNEL | __GFP_ACCOUNT | __GFP_ZERO);
}

void *HELPER(this_cpu_ptr)(void __percpu *ptr)
{
	return this_cpu_ptr(ptr);
}

void *HELPER(per_cpu_ptr)(void __percpu *ptr, int cpu)
{
	return per_cpu_ptr(ptr, cpu);
}

unsigned int HELPER(cpumask_next_possible)(int cpu)
{
	return cpumask_next(cpu, cpu_possible_mask);
}

unsigned int HELPER(nr_cpu_ids)(void)
{
	return nr_cpu_ids;
}

void HELPER(u64_stats_init)(struct u64_stats_sync *syncp)
{
	u64_stats_init(syncp);
}

void HELPER(u64_stats_update_begin)(struct u64_stats_sync *syncp)
{
	u64_stats_update_begin(syncp);
}

void HELPER(u64_stats_update_end)(struct u64_stats_sync *syncp)
{
	u64_stats_update_end(syncp);
}

unsigned int HELPER(u64_stats_fetch_begin)(const struct u64_stats_sync *syncp)
{
	return u64_stats_fetch_begin(syncp);
}

bool HELPER(u64_stats_fetch_retry)(const struct u64_stats_sync *syncp, unsigned int start)
{
	return u64_stats_fetch_retry(syncp, start);
}

void HELPER(local_bh_disable)(void)
{
	local_bh_disable();
}

void HELPER(local_bh_enable)(void)
{
	local_bh_enable();
}
