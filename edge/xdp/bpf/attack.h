/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whether a VIP is under attack: from when its SYNs of one window reach a number
 * until ten seconds after they last reached half of it. CPUs add to one count:
 * each SYN in peace, which is seldom enough, many at a time under attack. For
 * frames and socket buffers alike. */
#pragma once

/* packets_of gives how many packets have been forwarded for a VIP. */
static __always_inline __u64 packets_of(__u32 stats)
{
	struct traffic *t;
	__u64 n = 0;
	__u32 cpu;

	for (cpu = 0; cpu < MAX_CPUS; cpu++) {
		t = bpf_map_lookup_percpu_elem(&vip_stats, &stats, cpu);
		if (!t)
			break;
		n += t->packets;
	}
	return n;
}

/* roll begins a window, if no other CPU has. What is usual follows what there is
 * in peace, by a 256th of the difference each time, in a minute by two thirds, so
 * that nobody changes it by a burst; until it knows as many windows it is their
 * mean. */
static __noinline int roll(struct gate *g, __u32 stats, __u64 now)
{
	__u64 was = g->window, gone = now - was, packets, rate, over;

	if ((__s64)gone <= 0 || __sync_val_compare_and_swap(&g->window, was, now) != was)
		return 0;
	g->syns = 0;
	g->strangers = 0;
	g->fresh = 0;
	packets = packets_of(stats);
	rate = packets > g->packets ? (packets - g->packets) / gone : 0;
	g->packets = packets;
	if (!was) {
		g->since = now;
		return 0;
	}
	if (g->until >= was)
		return 0;
	over = now - g->since;
	if (over > USUAL_WINDOWS)
		over = USUAL_WINDOWS;
	if (gone > over)
		gone = over;
	if (rate > g->usual)
		g->usual += (rate - g->usual) * gone / over;
	else
		g->usual -= (g->usual - rate) * gone / over;
	return 0;
}

/* flooded counts a SYN in the window of now, and says whether its VIP is under
 * attack. */
static __always_inline int flooded(struct vip *vip, const struct node *n, __u64 now)
{
	__u32 stats = vip->stats, limit = n->attack_syns;
	struct gate *g = bpf_map_lookup_elem(&gates, &stats);
	struct post *own = bpf_map_lookup_elem(&posts, &stats);
	__u64 syns, end = now + ATTACK_WINDOWS;

	if (!g || !own)
		return 0;
	own->syns++;
	if (vip->attack && own->syn_window == now && own->syns < SYN_BATCH)
		return 1;
	if (g->window != now)
		roll(g, stats, now);
	syns = own->syns;
	own->syns = 0;
	own->syn_window = now;
	syns += __sync_fetch_and_add(&g->syns, syns);
	if (syns >= (g->until >= now ? limit / 2 : limit) && g->until != end)
		g->until = end;
	if (vip->attack != (g->until >= now))
		vip->attack = g->until >= now;
	return g->until >= now;
}
