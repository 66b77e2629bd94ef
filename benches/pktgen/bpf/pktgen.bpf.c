// The XDP programs of the packet generator: one that sends, two that receive.
//
// Written for clang 14 and later. Section names must differ from function names. What is `const
// volatile` is set before the program is loaded and is a constant to the verifier, so that what a load
// does not vary costs nothing.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// Where the stamp of a frame begins, in bytes from its start: src/stamp.rs.
const volatile __u32 stamp_at;
// The stamp's first four bytes, in the byte order of this machine.
const volatile __u32 stamp_magic;

// The interface to send on.
const volatile __u32 out_ifindex;
// How many values each of these takes; 1 leaves the field as it is.
const volatile __u32 flows;
const volatile __u32 macs;
const volatile __u32 vnis;
// Where those fields begin, in bytes from the start of the frame. 0: the frame has none.
const volatile __u32 source_port_at;       // UDP, two bytes
const volatile __u32 outer_source_port_at; // UDP of the tunnel, two bytes
const volatile __u32 source_mac_at;        // the last four bytes of the address
const volatile __u32 vni_at;               // the last two bytes of the identifier
const volatile __u32 first_vni;
const volatile __u32 first_mac;
// From this turn on the last four bytes are one higher, to leave out the destination; 0: there is no need.
const volatile __u32 mac_gap;

// The headers of the frame, in words of this machine, and how many bytes of them count.
const volatile __u64 headers[12];
const volatile __u32 headers_len;

// Frames sent: one CPU writes.
__u64 sent;

// Puts 16 bits, in network byte order, at an offset.
static __always_inline void put(struct xdp_md *ctx, __u32 at, __u32 value)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!at || data + at + 2 > end)
		return;
	data[at] = value >> 8;
	data[at + 1] = value;
}

// As src/mac.rs has it.
static __always_inline void put_mac(struct xdp_md *ctx, __u32 turn)
{
	__u32 low = first_mac + turn + (mac_gap && turn >= mac_gap);

	put(ctx, source_mac_at, low >> 16);
	put(ctx, source_mac_at + 2, low);
}

// Run by BPF_PROG_TEST_RUN on frames of the kernel's own. A frame comes back for another run as the
// last one left it, with another TTL if a router had it: its headers are written anew.
static __always_inline void restore(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + headers_len > end)
		return;
#pragma unroll
	for (__u32 i = 0; i < 12; i++) {
		if (headers_len >= 8 * i + 8 && data + 8 * i + 8 <= end)
			*(__u64 *)(data + 8 * i) = headers[i];
		else if (headers_len >= 8 * i + 4 && data + 8 * i + 4 <= end)
			*(__u32 *)(data + 8 * i) = headers[i];
	}
}

SEC("xdp")
int pktgen_send(struct xdp_md *ctx)
{
	__u32 n = sent++;

	restore(ctx);
	if (flows > 1 || macs > 1 || vnis > 1) {
		if (flows > 1) {
			put(ctx, source_port_at, 1024 + n % flows);
			put(ctx, outer_source_port_at, 49152 + n % flows % 16384);
		}
		if (macs > 1)
			put_mac(ctx, n % macs);
		if (vnis > 1)
			put(ctx, vni_at, first_vni + n % vnis);
	}
	return bpf_redirect(out_ifindex, 0);
}

static __always_inline int is_stamped(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + stamp_at + 4 > end)
		return 0;
	return *(__u32 *)(data + stamp_at) == stamp_magic;
}

struct count {
	__u64 frames;
	__u64 bytes;
	__u64 others;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

// Counts stamped frames and ends their way; the others go to the kernel.
SEC("xdp")
int pktgen_count(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct count *count = bpf_map_lookup_elem(&counts, &key);

	if (!count)
		return XDP_PASS;
	if (!is_stamped(ctx)) {
		count->others++;
		return XDP_PASS;
	}
	count->frames++;
	count->bytes += ctx->data_end - ctx->data;
	return XDP_DROP;
}

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// Hands stamped frames to the AF_XDP socket of their queue; the others go to the kernel.
SEC("xdp")
int pktgen_receive(struct xdp_md *ctx)
{
	if (!is_stamped(ctx))
		return XDP_PASS;
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual MIT/GPL";
