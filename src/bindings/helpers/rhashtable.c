// SPDX-License-Identifier: GPL-2.0

/*
 * The parameters are constants so that the compiler folds the hash and the comparison into each
 * lookup. The layouts are those of `Node` in src/abstractions/rhashtable.rs.
 */
#define L2TP_RHT(bits, keybytes)						\
struct l2tp_rht##bits##_node {							\
	struct rhlist_head head;						\
	u8 key[keybytes] __aligned(8);						\
};										\
										\
static inline int l2tp_rht##bits##_differs(struct rhashtable_compare_arg *arg,	\
					   const void *obj)			\
{										\
	const struct l2tp_rht##bits##_node *node = obj;				\
										\
	return memcmp(node->key, arg->key, keybytes) != 0;			\
}										\
										\
static const struct rhashtable_params l2tp_rht##bits##_params = {		\
	.key_len = keybytes,							\
	.key_offset = offsetof(struct l2tp_rht##bits##_node, key),		\
	.head_offset = offsetof(struct l2tp_rht##bits##_node, head.rhead),	\
	.obj_cmpfn = l2tp_rht##bits##_differs,					\
	.automatic_shrinking = true,						\
};										\
										\
int HELPER(rht##bits##_init)(struct rhashtable *ht)				\
{										\
	return rhashtable_init(ht, &l2tp_rht##bits##_params);			\
}										\
										\
void *HELPER(rht##bits##_lookup)(struct rhashtable *ht, const void *key)	\
{										\
	return rhashtable_lookup(ht, key, l2tp_rht##bits##_params);		\
}										\
										\
int HELPER(rht##bits##_insert)(struct rhashtable *ht, struct rhash_head *obj)	\
{										\
	return rhashtable_lookup_insert_fast(ht, obj, l2tp_rht##bits##_params);	\
}										\
										\
int HELPER(rht##bits##_replace)(struct rhashtable *ht, struct rhash_head *old,	\
				struct rhash_head *new)				\
{										\
	return rhashtable_replace_fast(ht, old, new, l2tp_rht##bits##_params);	\
}										\
										\
int HELPER(rht##bits##_remove)(struct rhashtable *ht, struct rhash_head *obj)	\
{										\
	return rhashtable_remove_fast(ht, obj, l2tp_rht##bits##_params);	\
}

L2TP_RHT(64, 8)
L2TP_RHT(128, 16)

int HELPER(rhl64_init)(struct rhltable *hlt)
{
	return rhltable_init(hlt, &l2tp_rht64_params);
}

struct rhlist_head *HELPER(rhl64_lookup)(struct rhltable *hlt, const void *key)
{
	return rhltable_lookup(hlt, key, l2tp_rht64_params);
}

int HELPER(rhl64_insert)(struct rhltable *hlt, struct rhlist_head *list)
{
	return rhltable_insert(hlt, list, l2tp_rht64_params);
}

int HELPER(rhl64_remove)(struct rhltable *hlt, struct rhlist_head *list)
{
	return rhltable_remove(hlt, list, l2tp_rht64_params);
}
