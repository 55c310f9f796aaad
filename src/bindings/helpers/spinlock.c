// SPDX-License-Identifier: GPL-2.0

void HELPER(spin_lock_bh)(spinlock_t *lock)
{
	spin_lock_bh(lock);
}

bool HELPER(spin_trylock_bh)(spinlock_t *lock)
{
	return spin_trylock_bh(lock);
}

void HELPER(spin_unlock_bh)(spinlock_t *lock)
{
	spin_unlock_bh(lock);
}
