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

// Sizes: SLOTS and CAPACITY in bulk.rs.
#define SLOTS 256
#define CAPACITY 4080

struct slot {
	__u32 ifindex;
	__u32 len;     // bytes of the frame
	__s32 result;  // 0, a negative error number, or NET_XMIT_* of the kernel's linux/netdevice.h
	__u32 mapping; // the TX queue of the interface, plus 1
	__u8 frame[CAPACITY];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
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

// The number of frames is in the first word of the control buffer.
SEC("classifier")
int podswitch_transmit(struct __sk_buff *skb)
{
	__u32 frames = skb->cb[0];

	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 key = i;
		if (i >= frames)
			break;
		struct slot *slot = bpf_map_lookup_elem(&slots, &key);
		if (!slot)
			break;
		slot->result = send(skb, slot);
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
