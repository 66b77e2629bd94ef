// The XDP programs of podswitch: which frames leave the kernel for our sockets.
//
// Every redirect carries XDP_PASS as its fallback: a queue without a socket, because the process
// is not (or no longer) there, leaves its frames to the kernel.
//
// Written for clang 14 and later. Section names must differ from function names.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define IPPROTO_IPV4 4
#define IP_FRAGMENT 0x3fff // More Fragments, and the offset (RFC 791 section 3.1)

// Sizes: MAX_SOCKETS and MAX_INTERFACES in program/mod.rs.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// The sockets of an interface are a run of `count` slots, one for each receive queue.
struct queues {
	__u32 base;
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // interface index
	__type(value, struct queues);
} interfaces SEC(".maps");

// Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d.
struct address {
	__u32 words[4];
};

struct vxlan_key {
	struct address local;
	__u32 port; // host byte order
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct vxlan_key);
	__type(value, __u8);
} vxlan SEC(".maps");

struct ipip_key {
	struct address peer;
	struct address local;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ipip_key);
	__type(value, __u8);
} ipip SEC(".maps");

struct prefix {
	__u32 length; // in bits of the 128; an IPv4 prefix has 96 more
	struct address address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct prefix);
	__type(value, __u8);
} pods SEC(".maps");

// The VLAN that an uplink's frames must be tagged with (IEEE 802.1Q); 0: they must have no tag.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} uplink_vlan SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

#define VLAN_ID 0x0fff

static __always_inline int to_socket(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct queues *q = bpf_map_lookup_elem(&interfaces, &ifindex);
	__u32 queue = ctx->rx_queue_index;

	if (!q || queue >= q->count)
		return XDP_PASS;
	return bpf_redirect_map(&sockets, q->base + queue, XDP_PASS);
}

static __always_inline struct address mapped(__u32 v4)
{
	struct address a = { { 0, 0, bpf_htonl(0xffff), v4 } };
	return a;
}

// Whether a tunnel packet between `local` and `peer` is of a tunnel of ours.
static __always_inline int is_tunnel(void *payload, void *end, __u8 proto,
				     const struct address *peer, const struct address *local)
{
	if (proto == IPPROTO_UDP) {
		struct udphdr *udp = payload;
		if ((void *)(udp + 1) > end)
			return 0;
		struct vxlan_key key = { .local = *local, .port = bpf_ntohs(udp->dest) };
		return bpf_map_lookup_elem(&vxlan, &key) != 0;
	}
	if (proto == IPPROTO_IPV4 || proto == IPPROTO_IPV6) {
		struct ipip_key key = { .peer = *peer, .local = *local };
		return bpf_map_lookup_elem(&ipip, &key) != 0;
	}
	return 0;
}

static __always_inline int same(const struct address *a, const struct address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] &&
	       a->words[2] == b->words[2] && a->words[3] == b->words[3];
}

// The header that ICMP (RFC 792) and ICMPv6 (RFC 4443) errors have in common. What they are about
// follows, from its IP header on.
struct icmp_error {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 rest;
};

// What is behind the destination options of a packet, if it has any, and its protocol: a tunnel packet
// may have them for an encapsulation limit (RFC 2473 section 4.1.1), and by default Linux's have.
static __always_inline void *behind_options(void *payload, void *end, __u8 *proto)
{
	struct ipv6_opt_hdr *options = payload;

	if (*proto != IPPROTO_DSTOPTS || (void *)(options + 1) > end)
		return payload;
	*proto = options->nexthdr;
	return payload + (options->hdrlen + 1) * 8;
}

// Whether an ICMP error to `local` is about a tunnel packet that we sent. All other ICMP is the
// kernel's.
static __always_inline int is_about_tunnel(struct icmp_error *icmp, void *end,
					   const struct address *local)
{
	struct iphdr *ip = (void *)(icmp + 1);

	if ((void *)(ip + 1) > end || (icmp->type != 3 && icmp->type != 11) || ip->version != 4 ||
	    ip->ihl < 5)
		return 0;
	struct address src = mapped(ip->saddr), peer = mapped(ip->daddr);
	return same(&src, local) && is_tunnel((void *)ip + ip->ihl * 4, end, ip->protocol, &peer,
					      local);
}

static __always_inline int is_about_tunnel6(struct icmp_error *icmp, void *end,
					    const struct address *local)
{
	struct ipv6hdr *ip = (void *)(icmp + 1);
	struct address src, peer;

	if ((void *)(ip + 1) > end || icmp->type < 1 || icmp->type > 4 || ip->version != 6)
		return 0;
	__builtin_memcpy(&src, &ip->saddr, sizeof(src));
	__builtin_memcpy(&peer, &ip->daddr, sizeof(peer));
	__u8 proto = ip->nexthdr;
	void *payload = behind_options(ip + 1, end, &proto);
	return same(&src, local) && is_tunnel(payload, end, proto, &peer, local);
}

// Whether a packet from `src` to `dst`, whose payload of protocol `proto` starts at `payload`, is
// for us. `whole` says that it is no fragment: fragments of tunnel packets are for the kernel,
// which reassembles and then finds no one to give them to; those of plain packets are routed.
static __always_inline int is_ours(void *payload, void *end, __u8 proto, int whole,
				   const struct address *src, const struct address *dst)
{
	struct prefix prefix = { .length = 128, .address = *dst };

	if (whole && is_tunnel(payload, end, proto, src, dst))
		return 1;
	if (whole && proto == IPPROTO_ICMP && is_about_tunnel(payload, end, dst))
		return 1;
	if (whole && proto == IPPROTO_ICMPV6 && is_about_tunnel6(payload, end, dst))
		return 1;
	return bpf_map_lookup_elem(&pods, &prefix) != 0;
}

// A port's frames are all ours.
SEC("xdp.frags")
int podswitch_port(struct xdp_md *ctx)
{
	return to_socket(ctx);
}

// Of an uplink's frames we take what is for a tunnel of ours, ICMP errors about one, and what is for
// a pod. All else is the kernel's: ARP and neighbour discovery, SSH, the kubelet, and frames of other
// VLANs than the uplink's, which belong to VLAN devices on top of this interface.
SEC("xdp.frags")
int podswitch_uplink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	void *packet = eth + 1;
	__be16 proto = eth->h_proto;
	__u32 zero = 0, *vlan = bpf_map_lookup_elem(&uplink_vlan, &zero);
	if (vlan && *vlan) {
		struct vlan_tag *tag = packet;
		if (proto != bpf_htons(ETH_P_8021Q) || (void *)(tag + 1) > end ||
		    (bpf_ntohs(tag->tci) & VLAN_ID) != *vlan)
			return XDP_PASS;
		packet = tag + 1;
		proto = tag->proto;
	}
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = packet;
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
			return XDP_PASS;
		struct address src = mapped(ip->saddr), dst = mapped(ip->daddr);
		int whole = !(ip->frag_off & bpf_htons(IP_FRAGMENT));
		void *payload = (void *)ip + ip->ihl * 4;
		return is_ours(payload, end, ip->protocol, whole, &src, &dst) ? to_socket(ctx) :
										XDP_PASS;
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = packet;
		if ((void *)(ip + 1) > end || ip->version != 6)
			return XDP_PASS;
		struct address src, dst;
		__builtin_memcpy(&src, &ip->saddr, sizeof(src));
		__builtin_memcpy(&dst, &ip->daddr, sizeof(dst));
		__u8 proto = ip->nexthdr;
		void *payload = behind_options(ip + 1, end, &proto);
		return is_ours(payload, end, proto, 1, &src, &dst) ? to_socket(ctx) : XDP_PASS;
	}
	return XDP_PASS;
}

// bpf_redirect_map and the map helpers need no GPL; xdp.frags neither.
char _license[] SEC("license") = "Dual MIT/GPL";
