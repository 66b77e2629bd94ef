//! What tshark, a decoder that shares no code with ours, is asked about a capture.

/// Options by which tshark verifies every checksum, and prints fields. It guesses the protocol of streams
/// without a well-known port: Thrift is what it takes random bytes for, and then complains of.
pub const CHECKS: [&str; 10] = [
    "-n",
    "-Tfields",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "--disable-protocol",
    "thrift",
];

/// A display filter: frames that are malformed or have a wrong checksum. Not those with the checksum
/// 0xffff, which is the same as 0 in one's complement: the kernels of our peers write it for one TCP
/// segment in 65536 (`skb_checksum_help`), and tshark would have it be 0 (RFC 1624).
pub const BROKEN: &str = "((ip.checksum.status == 0 || udp.checksum.status == 0 || \
     tcp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || \
     _ws.malformed) && !(_ws.expert.message contains \"0xffff instead of 0x0000\"))";

/// A display filter: [`BROKEN`] frames, and those that tshark's experts call an error.
pub const FAULTS: &str = "((ip.checksum.status == 0 || udp.checksum.status == 0 || \
     tcp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || \
     _ws.malformed || _ws.expert.severity >= 0x800000) && \
     !(_ws.expert.message contains \"0xffff instead of 0x0000\"))";
