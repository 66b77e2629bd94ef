// Sends a batch of frames out of veths: as AF_XDP does in copy mode, but many frames, of many interfaces, in one
// system call, and with the receiving ends' work put off until all of them are sent.
//
// It is attached to nothing. Each batch is one BPF_PROG_TEST_RUN, in which softirqs are off (Linux 6.3 and later).
//
// Written for clang 14 and later. Section names must differ from function names.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

// Sizes: BATCH and CAPACITY in bulk.rs.
#define BATCH 256
#define CAPACITY 4080

struct slot {
	__u32 ifindex;
	__u32 len;     // bytes of the frame
	__s32 result;  // 0, a negative error number, or NET_XMIT_* of the kernel's linux/netdevice.h
	__u32 mapping; // the TX queue of the interface, plus 1
	__u8 frame[CAPACITY];
};

// A run of BATCH slots for each worker; there are as many as workers.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BATCH);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

static __always_inline long send(struct __sk_buff *skb, struct slot *slot)
{
	__u32 len = slot->len;
	long error = 0;

	if (len < ETH_HLEN || len > CAPACITY)
		return -EMSGSIZE;
	if (skb->len != len)
		error = bpf_skb_change_tail(skb, len, 0);
	if (!error)
		error = bpf_skb_store_bytes(skb, 0, slot->frame, len, 0);
	if (error)
		return error;
	// What a packet keeps of the queue that it came by decides by which one it leaves.
	skb->queue_mapping = slot->mapping;
	return bpf_clone_redirect(skb, slot->ifindex, 0);
}

// Not static, so that the verifier looks at it once rather than in every turn of the loop.
__attribute__((noinline)) int send_slot(struct __sk_buff *skb, __u32 n)
{
	struct slot *slot = bpf_map_lookup_elem(&slots, &n);

	if (slot)
		slot->result = send(skb, slot);
	return 0;
}

// In the control buffer are the first slot and the number of frames.
SEC("classifier")
int podswitch_transmit(struct __sk_buff *skb)
{
	__u32 first = skb->cb[0], frames = skb->cb[1];

	for (__u32 n = 0; n < BATCH && n < frames; n++)
		send_slot(skb, first + n);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
