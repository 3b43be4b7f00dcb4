// echo.bpf turns every query for port 53 into its own empty answer, in the
// kernel: what the harness of bench/dns.sh can carry over veth without any DNS.
// A floor, not a server.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	__u8 dns[12];
} __attribute__((packed));

#define SWAP(a, b) \
	do { \
		__typeof__(a) old = a; \
		a = b; \
		b = old; \
	} while (0)

SEC("xdp")
int echo(struct xdp_md *ctx) {
	struct packet *p = (void *)(long)ctx->data;
	if ((void *)(p + 1) > (void *)(long)ctx->data_end || p->eth.h_proto != bpf_htons(ETH_P_IP) ||
	    p->ip.protocol != IPPROTO_UDP || p->ip.ihl != 5 || p->udp.dest != bpf_htons(53))
		return XDP_PASS;
	for (int i = 0; i < ETH_ALEN; i++)
		SWAP(p->eth.h_dest[i], p->eth.h_source[i]);
	SWAP(p->ip.saddr, p->ip.daddr);
	SWAP(p->udp.source, p->udp.dest);
	p->udp.check = 0;
	p->dns[2] |= 0x84;
	return XDP_TX;
}

char licence[] SEC("license") = "Dual BSD/GPL";
