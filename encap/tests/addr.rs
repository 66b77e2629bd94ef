//! Addresses and identifiers hold legal values only, and read back what they print.

use encap::addr::MacError;
use encap::{Mac, Prefix, PrefixError, Vni};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv6Addr};

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|a| IpAddr::V4(a.into())),
        any::<u128>().prop_map(|a| IpAddr::V6(a.into())),
    ]
}

/// Any legal prefix.
fn prefix() -> impl Strategy<Value = Prefix> {
    (ip(), any::<u8>()).prop_map(|(ip, len)| {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        Prefix::truncating(ip, len % (max + 1)).unwrap()
    })
}

/// The address as a number, and how many bits it has.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(a) => (a.to_bits().into(), 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

/// Membership bit by bit, without a mask.
fn agree(a: IpAddr, b: IpAddr, len: u8) -> bool {
    let ((a, n), (b, m)) = (bits(a), bits(b));
    n == m && (0..u32::from(len)).all(|i| (a ^ b) >> (n - 1 - i) & 1 == 0)
}

proptest! {
    #[test]
    fn mac_round_trips(octets: [u8; 6], high: u16) {
        let mac = Mac(octets);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        prop_assert_eq!(mac.to_string().to_uppercase().parse(), Ok(mac));
        prop_assert_eq!(Mac::from_u64(mac.to_u64() | u64::from(high) << 48), mac);
        prop_assert_eq!(mac.is_valid_source(), octets[0] & 1 == 0 && octets != [0; 6]);
    }

    #[test]
    fn mac_parser_takes_one_form_only(text in "[0-9a-fg:+ ]{0,20}") {
        if let Ok(mac) = text.parse::<Mac>() {
            prop_assert_eq!(mac.to_string(), text);
        }
    }

    #[test]
    fn derived_macs_are_local_unicast(ip in ip()) {
        let mac = Mac::derived_from(ip);
        prop_assert!(mac.is_valid_source());
        prop_assert!(mac.0[0] & 2 != 0);
    }

    #[test]
    fn vni_is_24_bits(v: u32) {
        prop_assert_eq!(Vni::new(v).map(Vni::get), (v < 1 << 24).then_some(v));
        prop_assert_eq!(Vni::new(Vni::from_high_bits(v).get()), Some(Vni::from_high_bits(v)));
        prop_assert_eq!(Vni::from_high_bits(v).get(), v >> 8);
    }

    #[test]
    fn prefix_round_trips(p in prefix()) {
        prop_assert_eq!(p.to_string().parse(), Ok(p));
        prop_assert_eq!(Prefix::new(p.addr(), p.len()), Ok(p));
        prop_assert!(p.contains(p.addr()) && p.covers(p));
    }

    #[test]
    fn prefix_refuses_host_bits_and_says_what_was_meant(ip in ip(), len: u8) {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        match Prefix::new(ip, len) {
            Ok(p) => prop_assert_eq!((p.addr(), p.len()), (ip, len)),
            Err(PrefixError::Length) => prop_assert!(len > max),
            Err(PrefixError::HostBits(p)) => {
                prop_assert!(p.addr() != ip && p.len() == len && p.contains(ip));
            }
            Err(PrefixError::Syntax) => prop_assert!(false),
        }
    }

    #[test]
    fn contains_is_bit_by_bit(p in prefix(), ip in ip(), near: u128) {
        prop_assert_eq!(p.contains(ip), agree(p.addr(), ip, p.len()));
        // An address that differs from the prefix in few bits, often inside.
        let ip = match p.addr() {
            IpAddr::V4(a) => IpAddr::V4((a.to_bits() ^ (near as u32 >> (near >> 123))).into()),
            IpAddr::V6(a) => IpAddr::V6((a.to_bits() ^ (near >> (near & 127))).into()),
        };
        prop_assert_eq!(p.contains(ip), agree(p.addr(), ip, p.len()));
    }

    #[test]
    fn covers_is_containment_of_both_ends(p in prefix(), q in prefix(), longer: u8) {
        let q_in_p = Prefix::truncating(q.addr(), p.len().saturating_add(longer % 8));
        for q in [Ok(q), q_in_p].into_iter().flatten() {
            let (_, n) = bits(q.addr());
            let size = 1u128.checked_shl(n - u32::from(q.len())).unwrap_or(0);
            let last = q.nth(size.wrapping_sub(1)).unwrap();
            prop_assert_eq!(
                p.covers(q),
                p.len() <= q.len() && p.contains(q.addr()) && p.contains(last)
            );
        }
    }

    #[test]
    fn nth_counts_up_inside_the_prefix(p in prefix(), n: u128, small in 0u128..300) {
        for n in [n, small] {
            let (base, width) = bits(p.addr());
            let host_bits = width - u32::from(p.len());
            let fits = host_bits == 128 || n >> host_bits == 0;
            let got = p.nth(n);
            prop_assert_eq!(got.is_some(), fits);
            if let Some(ip) = got {
                prop_assert_eq!(bits(ip).0, base + n);
                prop_assert!(p.contains(ip));
            }
        }
    }
}

#[test]
fn edges() {
    let all: Prefix = "0.0.0.0/0".parse().unwrap();
    assert!(all.contains([255, 255, 255, 255].into()));
    assert!(!all.contains(Ipv6Addr::LOCALHOST.into()), "never across families");
    assert!(!"::/0".parse::<Prefix>().unwrap().contains([1, 2, 3, 4].into()));
    assert_eq!(Prefix::host([1, 2, 3, 4].into()).to_string(), "1.2.3.4/32");
    assert_eq!(Prefix::host([1, 2, 3, 4].into()).nth(1), None);
    for bad in ["", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/x", "10.0.0/8", "10.0.0.0/256"] {
        assert_eq!(bad.parse::<Prefix>(), Err(PrefixError::Syntax), "{bad}");
    }
    assert_eq!("10.0.0.0/33".parse::<Prefix>(), Err(PrefixError::Length));
    let e = "10.1.2.3/16".parse::<Prefix>().unwrap_err();
    assert_eq!(e.to_string(), "host bits are set; did you mean 10.1.0.0/16?");
    for bad in ["", "02:00:00:00:00", "02:00:00:00:00:01:", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
        assert_eq!(bad.parse::<Mac>(), Err(MacError), "{bad}");
    }
}
