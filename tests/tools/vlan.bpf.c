// What a kernel's VLAN interface does, for kernels without one: between the device UPLINK, whose
// frames of VLAN VID these are, and NEAR, the near end of a veth pair whose far end stands for the
// VLAN interface. All three are given when this is compiled.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

// On NEAR's ingress: what the VLAN interface sends.
SEC("tag")
int send(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VID);
	return bpf_redirect(UPLINK, 0);
}

// On UPLINK's ingress: what the VLAN interface receives.
SEC("untag")
int receive(struct __sk_buff *skb)
{
	if (!skb->vlan_present || (skb->vlan_tci & 0xfff) != VID)
		return TC_ACT_OK;
	bpf_skb_vlan_pop(skb);
	return bpf_redirect(NEAR, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
