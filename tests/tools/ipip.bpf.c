// An IPIP peer of two programs at tc, on the interface that faces the underlay: RFC 2003, RFC 4213 and
// RFC 2473 in the way that BPF-based networks do them, without a tunnel device. UNDERLAY is 4 or 6. The
// peer is 192.0.2.2 or 2001:db8::2, podswitch .1 or ::1; podswitch's pods are in 10.244.1.0/24 and
// fd00:10:244:1::/64. All are given or fixed when this is compiled.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define IPPROTO_IPV4 4
#define V4(a, b, c, d) bpf_htonl((a) << 24 | (b) << 16 | (c) << 8 | (d))
#define TTL 64

#if UNDERLAY == 4
typedef struct iphdr outer_header;
#define OUTER_PROTO bpf_htons(ETH_P_IP)
#define ENCAP BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
#else
typedef struct ipv6hdr outer_header;
#define OUTER_PROTO bpf_htons(ETH_P_IPV6)
#define ENCAP BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
#endif

// Of kernel 6.2 and later, which headers of Debian 12 do not know.
#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

#if UNDERLAY == 4
static __always_inline outer_header outer(__u8 proto, __u16 length, __u8 tos)
{
	struct iphdr ip = {
		.version = 4, .ihl = 5, .tos = tos, .tot_len = bpf_htons(sizeof(ip) + length),
		.frag_off = bpf_htons(0x4000), .ttl = TTL, .protocol = proto,
		.saddr = V4(192, 0, 2, 2), .daddr = V4(192, 0, 2, 1),
	};
	__u64 sum = bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = ~sum;
	return ip;
}

static __always_inline int is_from_podswitch(outer_header *ip)
{
	return ip->ihl == 5 && ip->saddr == V4(192, 0, 2, 1) && ip->daddr == V4(192, 0, 2, 2);
}

#define PROTOCOL(ip) ((ip)->protocol)
#else
static __always_inline struct in6_addr underlay6(__u8 last)
{
	struct in6_addr a = { .in6_u.u6_addr8 = { 0x20, 0x01, 0x0d, 0xb8, [15] = last } };
	return a;
}

static __always_inline outer_header outer(__u8 proto, __u16 length, __u8 tos)
{
	struct ipv6hdr ip = {
		.version = 6, .priority = tos >> 4, .flow_lbl = { tos << 4 },
		.payload_len = bpf_htons(length), .nexthdr = proto, .hop_limit = TTL,
		.saddr = underlay6(2), .daddr = underlay6(1),
	};

	return ip;
}

static __always_inline int is_from_podswitch(outer_header *ip)
{
	struct in6_addr src = underlay6(1), dst = underlay6(2);
	int differ = 0;

	for (int i = 0; i < 4; i++)
		differ |= (ip->saddr.s6_addr32[i] != src.s6_addr32[i]) |
			  (ip->daddr.s6_addr32[i] != dst.s6_addr32[i]);
	return !differ;
}

#define PROTOCOL(ip) ((ip)->nexthdr)
#endif

// On the way out: packets to podswitch's pods are encapsulated, others left alone.
SEC("encap")
int send(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	__be32 pods6[2] = { bpf_htonl(0xfd000010), bpf_htonl(0x02440001) };
	__u16 length = skb->len - sizeof(*eth);
	__u8 proto, tos;

	if ((void *)(ip + 1) > end)
		return TC_ACT_OK;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if ((ip->daddr & V4(255, 255, 255, 0)) != V4(10, 244, 1, 0))
			return TC_ACT_OK;
		proto = IPPROTO_IPV4;
		tos = ip->tos;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->daddr.s6_addr32[0] != pods6[0] ||
		    ip6->daddr.s6_addr32[1] != pods6[1])
			return TC_ACT_OK;
		proto = IPPROTO_IPV6;
		tos = ip6->priority << 4 | ip6->flow_lbl[0] >> 4;
	} else {
		return TC_ACT_OK;
	}
	outer_header header = outer(proto, length, tos);
	__be16 ethertype = OUTER_PROTO;

	if (bpf_skb_adjust_room(skb, sizeof(header), BPF_ADJ_ROOM_MAC, ENCAP) ||
	    bpf_skb_store_bytes(skb, sizeof(*eth), &header, sizeof(header), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

// On the way in: IPIP of podswitch is taken out of its header, and the kernel goes on with that.
SEC("decap")
int receive(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	outer_header *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != OUTER_PROTO || !is_from_podswitch(ip))
		return TC_ACT_OK;
	__u8 proto = PROTOCOL(ip);
	if (proto != IPPROTO_IPV4 && proto != IPPROTO_IPV6)
		return TC_ACT_OK;
	int is_v4 = proto == IPPROTO_IPV4;
	__be16 ethertype = is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

	if (bpf_skb_adjust_room(skb, -(int)sizeof(*ip), BPF_ADJ_ROOM_MAC,
				is_v4 ? DECAP_L3_IPV4 : DECAP_L3_IPV6) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual MIT/GPL";
