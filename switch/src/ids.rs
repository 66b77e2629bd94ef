//! Identifiers: small integers that index the tables.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u16);

        impl $name {
            /// The identifier as an index.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A port of the switch: a place where frames enter and leave.
    PortId
);
id!(
    /// A bridge domain. Frames are bridged within one segment only.
    SegmentId
);
id!(
    /// A tunnel to a peer.
    TunnelId
);

/// The most ports a switch may have; port identifiers are below it.
pub const MAX_PORTS: usize = 4096;

/// Where a MAC address lives: behind a port, or behind a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Location {
    /// Behind a local port.
    Port(PortId),
    /// Behind a tunnel.
    Tunnel(TunnelId),
}

impl Location {
    /// A location as 17 bits: bit 16 says tunnel.
    #[inline]
    pub const fn to_bits(self) -> u32 {
        match self {
            Location::Port(p) => p.0 as u32,
            Location::Tunnel(t) => t.0 as u32 | 1 << 16,
        }
    }

    /// The inverse of [`Location::to_bits`]; higher bits are ignored.
    #[inline]
    pub const fn from_bits(bits: u32) -> Location {
        if bits & 1 << 16 == 0 {
            Location::Port(PortId(bits as u16))
        } else {
            Location::Tunnel(TunnelId(bits as u16))
        }
    }
}
