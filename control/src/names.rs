//! Names and addresses that follow from a port's name, the same in every version of this program, so
//! that what an earlier daemon made is found again.

use encap::Mac;

/// FNV-1a, 64 bits.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The name of the node's end of a pod's veth: at most 15 bytes.
pub fn host_name(port: &str) -> String {
    format!("psw{:011x}", stable_hash(port.as_bytes()) & 0xfff_ffff_ffff)
}

/// The MAC address of the node's end of a pod's veth, which no frame ever has.
pub fn host_mac(port: &str) -> Mac {
    let [_, b @ .., _, _] = stable_hash(port.as_bytes()).to_be_bytes();
    Mac([0x0e, b[0], b[1], b[2], b[3], b[4]])
}

/// The MAC address of a pod's interface where nothing better is known.
pub fn pod_mac(port: &str) -> Mac {
    let [_, _, b @ ..] = stable_hash(port.as_bytes()).to_be_bytes();
    Mac([0x0a, b[1], b[2], b[3], b[4], b[5]])
}
