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

/* roll begins a window, if no other CPU has. What is usual follows what there was
 * in the last one, by a 256th of the difference, of several at once by as many;
 * so it has two thirds of a change after a minute. It is learned in peace alone,
 * and no window counts for more than twice the usual and what strangers get in
 * any case: a second of a burst, however high, raises the two together by a 64th,
 * and to double them takes it most of a minute. */
static __noinline int roll(struct gate *g, const struct vip *vip, const struct node *n, __u64 now)
{
	__u64 was = g->window, gone = now - was, packets, had, rate, most;
	__u64 peace = was && g->until < was && !g->shut && vip->gate != GATE_SHUT;

	if ((__s64)gone <= 0 || __sync_val_compare_and_swap(&g->window, was, now) != was)
		return 0;
	g->before = g->syns;
	g->syns = 0;
	g->strangers = 0;
	g->shut = vip->gate == GATE_SHUT;
	packets = packets_of(vip->stats);
	had = g->packets;
	g->packets = packets;
	if (!peace || packets < had)
		return 0;
	rate = (packets - had) / gone;
	most = g->usual * LEARNED_SHARE + n->strangers;
	if (rate > most)
		rate = most;
	if (gone > USUAL_WINDOWS)
		gone = USUAL_WINDOWS;
	g->usual = (g->usual * (USUAL_WINDOWS - gone) + rate * gone) / USUAL_WINDOWS;
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
		roll(g, vip, n, now);
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
