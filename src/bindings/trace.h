/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace events of the group l2tp. Names and fields are those of the C modules; what they take is
 * plain numbers, so that Rust may call them with anything.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM l2tp

#if !defined(_L2TP_RUST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _L2TP_RUST_TRACE_H

#include <linux/l2tp.h>
#include <linux/tracepoint.h>

#ifndef _L2TP_RUST_TRACE_ONCE
#define _L2TP_RUST_TRACE_ONCE

/* Why a packet was dropped. src/discard.rs explains them. */
enum {
	L2TP_DROP_TOO_SHORT,
	L2TP_DROP_BAD_CONTROL,
	L2TP_DROP_NO_LISTENER,
	L2TP_DROP_UNKNOWN_SESSION,
	L2TP_DROP_WRONG_ENCAP,
	L2TP_DROP_NOT_THE_PEER,
	L2TP_DROP_TRUNCATED,
	L2TP_DROP_COOKIE,
	L2TP_DROP_UNNUMBERED,
	L2TP_DROP_OUTSIDE_WINDOW,
	L2TP_DROP_OUT_OF_SEQUENCE,
	L2TP_DROP_DUPLICATE,
	L2TP_DROP_QUEUE_FULL,
	L2TP_DROP_CLOSED,
	L2TP_DROP_NO_FAR_SIDE,
	L2TP_DROP_TOO_LONG,
};

#endif

/* So that tools which print events by themselves know the numbers. */
TRACE_DEFINE_ENUM(L2TP_ENCAPTYPE_UDP);
TRACE_DEFINE_ENUM(L2TP_ENCAPTYPE_IP);
TRACE_DEFINE_ENUM(L2TP_PWTYPE_ETH);
TRACE_DEFINE_ENUM(L2TP_PWTYPE_PPP);
TRACE_DEFINE_ENUM(L2TP_DROP_TOO_SHORT);
TRACE_DEFINE_ENUM(L2TP_DROP_BAD_CONTROL);
TRACE_DEFINE_ENUM(L2TP_DROP_NO_LISTENER);
TRACE_DEFINE_ENUM(L2TP_DROP_UNKNOWN_SESSION);
TRACE_DEFINE_ENUM(L2TP_DROP_WRONG_ENCAP);
TRACE_DEFINE_ENUM(L2TP_DROP_NOT_THE_PEER);
TRACE_DEFINE_ENUM(L2TP_DROP_TRUNCATED);
TRACE_DEFINE_ENUM(L2TP_DROP_COOKIE);
TRACE_DEFINE_ENUM(L2TP_DROP_UNNUMBERED);
TRACE_DEFINE_ENUM(L2TP_DROP_OUTSIDE_WINDOW);
TRACE_DEFINE_ENUM(L2TP_DROP_OUT_OF_SEQUENCE);
TRACE_DEFINE_ENUM(L2TP_DROP_DUPLICATE);
TRACE_DEFINE_ENUM(L2TP_DROP_QUEUE_FULL);
TRACE_DEFINE_ENUM(L2TP_DROP_CLOSED);
TRACE_DEFINE_ENUM(L2TP_DROP_NO_FAR_SIDE);
TRACE_DEFINE_ENUM(L2TP_DROP_TOO_LONG);

#define L2TP_NAME(buffer, ...) \
	(memset(buffer, 0, sizeof(buffer)), snprintf(buffer, sizeof(buffer), __VA_ARGS__))

DECLARE_EVENT_CLASS(tunnel_only_evt,
	TP_PROTO(u32 tid),
	TP_ARGS(tid),
	TP_STRUCT__entry(
		__array(char, name, 20)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "tunl %u", tid);
	),
	TP_printk("%s", __entry->name)
);

DECLARE_EVENT_CLASS(session_only_evt,
	TP_PROTO(u32 tid, u32 sid),
	TP_ARGS(tid, sid),
	TP_STRUCT__entry(
		__array(char, name, 32)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "sess %u/%u", tid, sid);
	),
	TP_printk("%s", __entry->name)
);

/* The sign is looked at by its bit, as trace-cmd takes fields for unsigned. */
TRACE_EVENT(register_tunnel,
	TP_PROTO(int fd, u32 tid, u32 ptid, int version, u16 encap),
	TP_ARGS(fd, tid, ptid, version, encap),
	TP_STRUCT__entry(
		__array(char, name, 20)
		__field(int, fd)
		__field(u32, tid)
		__field(u32, ptid)
		__field(int, version)
		__field(unsigned int, encap)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "tunl %u", tid);
		__entry->fd = fd;
		__entry->tid = tid;
		__entry->ptid = ptid;
		__entry->version = version;
		__entry->encap = encap;
	),
	TP_printk("%s: type=%s encap=%s version=L2TPv%d tid=%u ptid=%u fd=%d",
		__entry->name,
		__entry->fd & 0x80000000 ? "unmanaged" : "managed",
		__print_symbolic(__entry->encap,
			{ L2TP_ENCAPTYPE_UDP, "UDP" },
			{ L2TP_ENCAPTYPE_IP, "IP" }),
		__entry->version,
		__entry->tid,
		__entry->ptid,
		__entry->fd)
);

DEFINE_EVENT(tunnel_only_evt, delete_tunnel,
	TP_PROTO(u32 tid),
	TP_ARGS(tid)
);

DEFINE_EVENT(tunnel_only_evt, free_tunnel,
	TP_PROTO(u32 tid),
	TP_ARGS(tid)
);

TRACE_EVENT(register_session,
	TP_PROTO(u32 tid, u32 ptid, u32 sid, u32 psid, u16 pwtype),
	TP_ARGS(tid, ptid, sid, psid, pwtype),
	TP_STRUCT__entry(
		__array(char, name, 32)
		__field(u32, tid)
		__field(u32, ptid)
		__field(u32, sid)
		__field(u32, psid)
		__field(unsigned int, pwtype)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "sess %u/%u", tid, sid);
		__entry->tid = tid;
		__entry->ptid = ptid;
		__entry->sid = sid;
		__entry->psid = psid;
		__entry->pwtype = pwtype;
	),
	TP_printk("%s: pseudowire=%s sid=%u psid=%u tid=%u ptid=%u",
		__entry->name,
		__print_symbolic(__entry->pwtype,
			{ L2TP_PWTYPE_ETH, "ETH" },
			{ L2TP_PWTYPE_PPP, "PPP" }),
		__entry->sid,
		__entry->psid,
		__entry->tid,
		__entry->ptid)
);

DEFINE_EVENT(session_only_evt, delete_session,
	TP_PROTO(u32 tid, u32 sid),
	TP_ARGS(tid, sid)
);

DEFINE_EVENT(session_only_evt, free_session,
	TP_PROTO(u32 tid, u32 sid),
	TP_ARGS(tid, sid)
);

DEFINE_EVENT(session_only_evt, session_seqnum_lns_enable,
	TP_PROTO(u32 tid, u32 sid),
	TP_ARGS(tid, sid)
);

DEFINE_EVENT(session_only_evt, session_seqnum_lns_disable,
	TP_PROTO(u32 tid, u32 sid),
	TP_ARGS(tid, sid)
);

DECLARE_EVENT_CLASS(session_seqnum_evt,
	TP_PROTO(u32 tid, u32 sid, u32 ns, u32 nr),
	TP_ARGS(tid, sid, ns, nr),
	TP_STRUCT__entry(
		__array(char, name, 32)
		__field(u32, ns)
		__field(u32, nr)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "sess %u/%u", tid, sid);
		__entry->ns = ns;
		__entry->nr = nr;
	),
	TP_printk("%s: ns=%u nr=%u", __entry->name, __entry->ns, __entry->nr)
);

DEFINE_EVENT(session_seqnum_evt, session_seqnum_update,
	TP_PROTO(u32 tid, u32 sid, u32 ns, u32 nr),
	TP_ARGS(tid, sid, ns, nr)
);

DEFINE_EVENT(session_seqnum_evt, session_seqnum_reset,
	TP_PROTO(u32 tid, u32 sid, u32 ns, u32 nr),
	TP_ARGS(tid, sid, ns, nr)
);

DECLARE_EVENT_CLASS(session_pkt_discard_evt,
	TP_PROTO(u32 tid, u32 sid, u32 pkt_ns, u32 my_nr, u32 reorder_q_len),
	TP_ARGS(tid, sid, pkt_ns, my_nr, reorder_q_len),
	TP_STRUCT__entry(
		__array(char, name, 32)
		__field(u32, pkt_ns)
		__field(u32, my_nr)
		__field(u32, reorder_q_len)
	),
	TP_fast_assign(
		L2TP_NAME(__entry->name, "sess %u/%u", tid, sid);
		__entry->pkt_ns = pkt_ns;
		__entry->my_nr = my_nr;
		__entry->reorder_q_len = reorder_q_len;
	),
	TP_printk("%s: pkt_ns=%u my_nr=%u reorder_q_len=%u",
		__entry->name,
		__entry->pkt_ns,
		__entry->my_nr,
		__entry->reorder_q_len)
);

DEFINE_EVENT(session_pkt_discard_evt, session_pkt_expired,
	TP_PROTO(u32 tid, u32 sid, u32 pkt_ns, u32 my_nr, u32 reorder_q_len),
	TP_ARGS(tid, sid, pkt_ns, my_nr, reorder_q_len)
);

DEFINE_EVENT(session_pkt_discard_evt, session_pkt_outside_rx_window,
	TP_PROTO(u32 tid, u32 sid, u32 pkt_ns, u32 my_nr, u32 reorder_q_len),
	TP_ARGS(tid, sid, pkt_ns, my_nr, reorder_q_len)
);

DEFINE_EVENT(session_pkt_discard_evt, session_pkt_oos,
	TP_PROTO(u32 tid, u32 sid, u32 pkt_ns, u32 my_nr, u32 reorder_q_len),
	TP_ARGS(tid, sid, pkt_ns, my_nr, reorder_q_len)
);

/* Not in C: a packet that was received is dropped. tid is 0 if no tunnel is known. */
TRACE_EVENT(pkt_drop,
	TP_PROTO(u32 tid, u32 sid, u32 len, u32 reason),
	TP_ARGS(tid, sid, len, reason),
	TP_STRUCT__entry(
		__field(u32, tid)
		__field(u32, sid)
		__field(u32, len)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->tid = tid;
		__entry->sid = sid;
		__entry->len = len;
		__entry->reason = reason;
	),
	TP_printk("sess %u/%u: reason=%s len=%u",
		__entry->tid,
		__entry->sid,
		__print_symbolic(__entry->reason,
			{ L2TP_DROP_TOO_SHORT, "TOO_SHORT" },
			{ L2TP_DROP_BAD_CONTROL, "BAD_CONTROL" },
			{ L2TP_DROP_NO_LISTENER, "NO_LISTENER" },
			{ L2TP_DROP_UNKNOWN_SESSION, "UNKNOWN_SESSION" },
			{ L2TP_DROP_WRONG_ENCAP, "WRONG_ENCAP" },
			{ L2TP_DROP_NOT_THE_PEER, "NOT_THE_PEER" },
			{ L2TP_DROP_TRUNCATED, "TRUNCATED" },
			{ L2TP_DROP_COOKIE, "COOKIE" },
			{ L2TP_DROP_UNNUMBERED, "UNNUMBERED" },
			{ L2TP_DROP_OUTSIDE_WINDOW, "OUTSIDE_WINDOW" },
			{ L2TP_DROP_OUT_OF_SEQUENCE, "OUT_OF_SEQUENCE" },
			{ L2TP_DROP_DUPLICATE, "DUPLICATE" },
			{ L2TP_DROP_QUEUE_FULL, "QUEUE_FULL" },
			{ L2TP_DROP_CLOSED, "CLOSED" },
			{ L2TP_DROP_NO_FAR_SIDE, "NO_FAR_SIDE" },
			{ L2TP_DROP_TOO_LONG, "TOO_LONG" }),
		__entry->len)
);

#endif /* _L2TP_RUST_TRACE_H */

/* This part must be outside protection */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
