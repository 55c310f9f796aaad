// SPDX-License-Identifier: GPL-2.0

void HELPER(sock_orphan)(struct sock *sk)
{
	sock_orphan(sk);
}

int HELPER(copy_from_sockptr)(void *dst, sockptr_t src, size_t size)
{
	return copy_from_sockptr(dst, src, size);
}

size_t HELPER(copy_to_iter)(const void *addr, size_t bytes, struct iov_iter *i)
{
	return copy_to_iter(addr, bytes, i);
}

bool HELPER(access_ok)(const void __user *addr, unsigned long size)
{
	return access_ok(addr, size);
}
