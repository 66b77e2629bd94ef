//! What is sent: frames of UDP over IPv4, built with etherparse, alone or in VXLAN.

use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, ensure};
use etherparse::PacketBuilder;

pub use crate::mac::Mac;
use crate::mac::Sources;
use crate::stamp::{self, Stamp};

/// Ethernet, IPv4 and UDP headers.
pub const HEADERS: usize = 14 + 20 + 8;
/// What VXLAN puts before a frame (RFC 7348, section 5): outer Ethernet, IPv4, UDP, VXLAN.
pub const VXLAN_HEADERS: usize = HEADERS + 8;
/// The least that Ethernet carries (IEEE 802.3), without the frame check sequence.
pub const MIN_SIZE: usize = 60;
/// An MTU of 1500 and the Ethernet header.
pub const MAX_SIZE: usize = 1514;
/// The UDP port of the load: discard (RFC 863).
pub const DISCARD: u16 = 9;
/// The first UDP source port of the load.
pub const FIRST_PORT: u16 = 1024;
/// One flow for each UDP port from there on.
pub const MOST_FLOWS: u32 = 65_536 - FIRST_PORT as u32;
/// Source MAC addresses that may take turns.
pub const MOST_MACS: u32 = 65_536;
/// A VXLAN network identifier has 24 bits (RFC 7348).
pub const LAST_VNI: u32 = (1 << 24) - 1;
/// VXLAN network identifiers that may take turns: they do it in their last 16 bits.
pub const MOST_VNIS: u32 = 65_536;
/// The UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;

/// The sizes of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All of one size, in bytes.
    Fixed(usize),
    /// The Internet mix: of twelve frames, seven of 64 bytes, four of 570, one of 1514; 353.5 on
    /// average.
    Imix,
}

/// The sizes of [`Sizes::Imix`], spread so that no two large ones follow each other.
const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1514, 64, 570, 64, 570, 64];

impl Sizes {
    /// The sizes, one after the other, in bytes.
    pub fn all(self) -> Vec<usize> {
        match self {
            Sizes::Fixed(size) => vec![size],
            Sizes::Imix => IMIX.to_vec(),
        }
    }

    /// The mean size, in bytes.
    pub fn mean(self) -> f64 {
        let all = self.all();
        all.iter().sum::<usize>() as f64 / all.len() as f64
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        if text == "imix" {
            return Ok(Sizes::Imix);
        }
        let expected = || format!("expected imix, or bytes from {MIN_SIZE} to {MAX_SIZE}");
        let size = text.parse().map_err(|_| expected())?;
        if (MIN_SIZE..=MAX_SIZE).contains(&size) { Ok(Sizes::Fixed(size)) } else { Err(expected()) }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sizes::Fixed(size) => write!(f, "{size}"),
            Sizes::Imix => f.write_str("imix"),
        }
    }
}

/// One end of a header: who sends, or who receives.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source and destination MAC address.
    pub mac: (Mac, Mac),
    /// Source and destination IPv4 address.
    pub ip: (Ipv4Addr, Ipv4Addr),
}

/// VXLAN around the load.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan {
    /// The outer header's ends.
    pub ends: Ends,
    /// The first network identifier.
    pub vni: u32,
    /// How many of them follow each other.
    pub vnis: u32,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The sizes of the frames, before encapsulation.
    pub sizes: Sizes,
    /// Who talks to whom.
    pub ends: Ends,
    /// How many UDP source ports take turns, from 1024.
    pub flows: u32,
    /// How many source MAC addresses take turns, as [`Sources`] says.
    pub macs: u32,
    /// Around the frames, if any.
    pub vxlan: Option<Vxlan>,
}

/// Where the fields that vary begin in a frame, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The stamp.
    pub stamp: usize,
    /// The UDP source port.
    pub source_port: usize,
    /// The last four bytes of the source MAC address.
    pub source_mac: usize,
    /// The UDP source port of the outer header.
    pub outer_source_port: Option<usize>,
    /// The last two bytes of the VXLAN network identifier.
    pub vni: Option<usize>,
}

impl Load {
    /// Whether this can be sent. Errors name the options of the command line.
    pub fn check(&self) -> anyhow::Result<()> {
        let (flows, macs) = (self.flows, self.macs);
        ensure!((1..=MOST_FLOWS).contains(&flows), "--flows {flows}: expected 1 to {MOST_FLOWS}");
        ensure!((1..=MOST_MACS).contains(&macs), "--macs {macs}: expected 1 to {MOST_MACS}");
        let (from, to) = self.ends.mac;
        ensure!(!from.is_group(), "--src-mac {from}: expected an address of one, not of a group");
        ensure!(from != to, "--src-mac {from}: expected another one than --dst-mac");
        let Some(Vxlan { vni, vnis, .. }) = self.vxlan else { return Ok(()) };
        ensure!(vni <= LAST_VNI, "--vni {vni}: expected 0 to {LAST_VNI}");
        let most = MOST_VNIS - vni % MOST_VNIS;
        ensure!(
            (1..=most).contains(&vnis),
            "--vnis {vnis}: expected 1 to {most} from --vni {vni} on, as they take turns in their \
             last 16 bits"
        );
        Ok(())
    }

    /// The source addresses that take turns.
    pub fn sources(&self) -> Sources {
        Sources::new(self.ends.mac.0, self.ends.mac.1)
    }

    /// The offset of the load's own Ethernet header.
    fn inner(&self) -> usize {
        if self.vxlan.is_some() { VXLAN_HEADERS } else { 0 }
    }

    /// Where the fields that vary are.
    pub fn fields(&self) -> Fields {
        let inner = self.inner();
        Fields {
            stamp: inner + HEADERS,
            source_port: inner + 34,
            source_mac: inner + 8,
            outer_source_port: self.vxlan.map(|_| 34),
            vni: self.vxlan.map(|_| HEADERS + 5),
        }
    }

    /// Frame number `n`: what varies has the value of its turn.
    pub fn frame(&self, n: u32) -> anyhow::Result<Vec<u8>> {
        let sizes = self.sizes.all();
        let size = sizes[n as usize % sizes.len()];
        let payload = size.checked_sub(HEADERS).context("a frame holds its headers")?;
        let mut ends = self.ends;
        if self.macs > 1 {
            let low = self.sources().low(n % self.macs);
            ends.mac.0.0[2..].copy_from_slice(&low.to_be_bytes());
        }
        let mut body = vec![0; payload.max(stamp::LEN)];
        body[..stamp::LEN].copy_from_slice(&Stamp { sequence: n, nanoseconds: 0 }.bytes());
        let frame = udp(&ends, (FIRST_PORT + (n % self.flows) as u16, DISCARD), &body)?;
        let Some(vxlan) = &self.vxlan else { return Ok(frame) };
        // RFC 7348, section 5: flags with the I bit, 24 bits reserved, the VNI, 8 bits reserved.
        let vni = (vxlan.vni & 0xff_0000) | ((vxlan.vni + n % vxlan.vnis) & 0xffff);
        let mut body = vec![0x08, 0, 0, 0];
        body.extend((vni << 8).to_be_bytes());
        body.extend(frame);
        udp(&vxlan.ends, (49_152 + (n % self.flows % 16_384) as u16, VXLAN_PORT), &body)
    }

    /// After how many frames everything has been in every combination that occurs, up to `most`.
    pub fn period(&self, most: u32) -> u32 {
        let vnis = self.vxlan.map_or(1, |v| v.vnis);
        let turns = [self.sizes.all().len() as u32, self.flows, self.macs, vnis];
        let lcm = |a: u64, b: u64| a / gcd(a, b) * b;
        let all = turns.into_iter().fold(1, |a, b| lcm(a, u64::from(b)).min(u64::from(u32::MAX)));
        all.min(u64::from(most)) as u32
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// UDP over IPv4 over Ethernet, without a UDP checksum (RFC 768: zero), so that what varies needs no
/// new one.
fn udp(ends: &Ends, ports: (u16, u16), body: &[u8]) -> anyhow::Result<Vec<u8>> {
    const TTL: u8 = 64;
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    let builder = PacketBuilder::ethernet2(ends.mac.0.0, ends.mac.1.0)
        .ipv4(ends.ip.0.octets(), ends.ip.1.octets(), TTL)
        .udp(ports.0, ports.1);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    builder.write(&mut frame, body).context("building a frame")?;
    frame[CHECKSUM].fill(0);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use etherparse::{SlicedPacket, TransportSlice};

    fn ends(n: u8) -> Ends {
        Ends {
            mac: (Mac([2, 0, 0, 0, 0, n]), Mac([2, 0, 0, 0, 1, n])),
            ip: (Ipv4Addr::new(10, n, 0, 1), Ipv4Addr::new(10, n, 0, 2)),
        }
    }

    fn load(sizes: Sizes) -> Load {
        Load { sizes, ends: ends(1), flows: 1, macs: 1, vxlan: None }
    }

    fn ports(frame: &[u8]) -> (u16, u16) {
        match SlicedPacket::from_ethernet(frame).expect("well-formed").transport {
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_size_is_kept_and_the_mix_has_its_mean() {
        for size in [60, 64, 353, 1514] {
            assert_eq!(load(Sizes::Fixed(size)).frame(7).unwrap().len(), size);
        }
        let mix = load(Sizes::Imix);
        let total: usize = (0..12).map(|n| mix.frame(n).unwrap().len()).sum();
        assert_eq!(total as f64 / 12.0, 353.5);
        assert_eq!(Sizes::Imix.mean(), 353.5);
    }

    #[test]
    fn sizes_are_read_and_bad_ones_refused() {
        assert_eq!("imix".parse(), Ok(Sizes::Imix));
        assert_eq!("64".parse(), Ok(Sizes::Fixed(64)));
        for bad in ["59", "1515", "", "big"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn flows_and_macs_take_turns() {
        let load = Load { flows: 3, macs: 2, ..load(Sizes::Fixed(64)) };
        let seen: Vec<u16> = (0..4).map(|n| ports(&load.frame(n).unwrap()).0).collect();
        assert_eq!(seen, [1024, 1025, 1026, 1024]);
        let source = |n| load.frame(n).unwrap()[6..12].to_vec();
        assert_eq!(
            [0, 1, 2].map(source),
            [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]]
        );
        assert_eq!(load.period(4096), 6);
        assert_eq!(load.fields().source_port, 34);
    }

    /// A bridge that learned the destination where the load comes from would send nothing on.
    #[test]
    fn no_source_is_the_destination_or_of_a_group() {
        let all = |from: Mac, to: Mac| -> BTreeSet<Vec<u8>> {
            let ends = Ends { mac: (from, to), ..ends(1) };
            let load = Load { macs: 300, ends, ..load(Sizes::Fixed(64)) };
            load.check().unwrap();
            (0..300).map(|n| load.frame(n).unwrap()[6..12].to_vec()).collect()
        };
        for low in [[0, 0, 0, 1], [0, 0, 1, 2], [0xff, 0xff, 0xff, 0xfe]] {
            let [a, b, c, d] = low;
            let from = Mac([2, 0, a, b, c, d]);
            for behind in [1, 2, 299, 300] {
                let [a, b, c, d] = u32::from_be_bytes(low).wrapping_add(behind).to_be_bytes();
                let to = Mac([2, 0, a, b, c, d]);
                let seen = all(from, to);
                assert_eq!(seen.len(), 300, "{from} {to}");
                assert!(seen.contains(&from.0[..]) && !seen.contains(&to.0[..]));
                assert!(seen.iter().all(|mac| mac[..2] == [2, 0]), "{seen:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_its_option() {
        let vxlan = |vni, vnis| Some(Vxlan { ends: ends(2), vni, vnis });
        let plain = load(Sizes::Fixed(64));
        let from = |mac| Ends { mac: (mac, plain.ends.mac.1), ..plain.ends };
        for (load, words) in [
            (Load { flows: 0, ..plain }, "--flows 0: expected 1 to 64512"),
            (Load { flows: 64_513, ..plain }, "--flows 64513"),
            (Load { macs: 0, ..plain }, "--macs 0"),
            (Load { ends: from(plain.ends.mac.1), ..plain }, "than --dst-mac"),
            (Load { ends: from(Mac([3, 0, 0, 0, 0, 1])), ..plain }, "not of a group"),
            (Load { vxlan: vxlan(1 << 24, 1), ..plain }, "--vni 16777216: expected 0 to 16777215"),
            (Load { vxlan: vxlan(LAST_VNI, 2), ..plain }, "--vnis 2: expected 1 to 1 from --vni"),
            (Load { vxlan: vxlan(1, 0), ..plain }, "--vnis 0"),
        ] {
            let said = load.check().unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn vxlan_carries_the_frame_behind_its_headers() {
        let vxlan = Vxlan { ends: ends(2), vni: 0x12_0007, vnis: 2 };
        let plain = load(Sizes::Fixed(64));
        let load = Load { vxlan: Some(vxlan), ..plain };
        load.check().unwrap();
        let frame = load.frame(1).unwrap();
        assert_eq!(ports(&frame), (49_152, VXLAN_PORT));
        assert_eq!(frame[HEADERS..VXLAN_HEADERS], [8, 0, 0, 0, 0x12, 0, 8, 0]);
        assert_eq!(frame[VXLAN_HEADERS..], plain.frame(1).unwrap());
        let fields = load.fields();
        assert_eq!(Stamp::find(&frame, fields.stamp).map(|s| s.sequence), Some(1));
        assert_eq!(frame[fields.vni.unwrap()..][..2], [0, 8]);
    }
}
