//! Masquerading: which pods' packets to the world get the node's address, as nftables of the node's
//! kernel do it (<https://wiki.nftables.org/wiki-nftables/index.php/Performing_Network_Address_Translation_(NAT)>).
//!
//! One table, `inet podswitch`, which is wholly ours: others' tables, such as kube-proxy's, are neither
//! read nor changed. Its sets have prefixes rather than pods where they can, so that a pod more or less
//! mostly changes nothing. Connections keep their translation when the table is replaced, which is
//! one transaction: it is conntrack's.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use encap::Prefix;
use podswitch_api::state::{State, Via};

use crate::attachment::Attachments;

/// Destinations that are no other node's and nobody's beyond it: multicast and link-local ones.
const NEVER: [&str; 5] =
    ["224.0.0.0/4", "169.254.0.0/16", "255.255.255.255/32", "ff00::/8", "fe80::/10"];

/// What is masqueraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// From here: the pods that asked for it.
    sources: BTreeSet<Prefix>,
    /// Unless it goes there: pods, other nodes, and destinations that are not unicast.
    inside: BTreeSet<Prefix>,
    /// Unless it leaves by the node's own interface into the pod network.
    interface: String,
}

impl Rules {
    /// The rules for a state with its attachments.
    pub fn new(state: &State, attachments: &Attachments) -> Rules {
        let (mut asking, mut others) = (Vec::new(), Vec::new());
        for entry in attachments.iter() {
            let list = if entry.request.masquerade { &mut asking } else { &mut others };
            list.extend(entry.ips.iter().map(|ip| ip.address));
        }
        if asking.is_empty() {
            return Rules::default();
        }
        let is_attached = |name: &str| attachments.of_port(name).is_some();
        let ports = state.ports.iter().filter(|p| !is_attached(&p.name));
        others.extend(ports.flat_map(|p| p.ip.iter().copied()));
        // A prefix stands for all pods in it, unless one of them did not ask.
        let is_mixed = |prefix: Prefix| others.iter().any(|ip| prefix.contains(ip.addr()));
        let sources = asking
            .iter()
            .map(|ip| if is_mixed(ip.prefix()) { Prefix::host(ip.addr()) } else { ip.prefix() });
        Rules {
            sources: disjoint(sources),
            inside: disjoint(inside(state)),
            interface: state.host_interface().unwrap_or_default(),
        }
    }

    /// Whether nothing is masqueraded.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether these rules do for what `wanted` does: they differ only in prefixes of pods that are
    /// gone.
    pub fn serve(&self, wanted: &Rules) -> bool {
        self.inside == wanted.inside
            && self.interface == wanted.interface
            && self.sources.is_superset(&wanted.sources)
            || wanted.is_empty()
    }

    /// The rules for `nft -f`: one transaction that replaces the table.
    pub fn script(&self) -> String {
        // Removed only if it is there: that is what adding it first is for.
        let mut out = String::from("add table inet podswitch\ndelete table inet podswitch\n");
        if self.is_empty() {
            return out;
        }
        let set = |name: &str, kind: &str, prefixes: Vec<String>| {
            let elements = match prefixes.is_empty() {
                true => String::new(),
                false => format!("elements = {{ {} }}; ", prefixes.join(", ")),
            };
            format!("\tset {name} {{ type {kind}; flags interval; {elements}}}\n")
        };
        let of = |set: &BTreeSet<Prefix>, v4: bool| -> Vec<String> {
            set.iter().filter(|p| p.is_ipv4() == v4).map(Prefix::to_string).collect()
        };
        out += "table inet podswitch {\n";
        out += &set("masquerade4", "ipv4_addr", of(&self.sources, true));
        out += &set("masquerade6", "ipv6_addr", of(&self.sources, false));
        out += &set("inside4", "ipv4_addr", of(&self.inside, true));
        out += &set("inside6", "ipv6_addr", of(&self.inside, false));
        let leaves = format!("oifname != \"{}\"", self.interface);
        out += "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n";
        for (family, n) in [("ip", 4), ("ip6", 6)] {
            out += &format!(
                "\t\t{leaves} {family} saddr @masquerade{n} {family} daddr != @inside{n} masquerade \
                 fully-random\n"
            );
        }
        out += "\t}\n}\n";
        out
    }

    /// Puts the rules into the kernel in place of those that are there.
    pub fn apply(&self) -> io::Result<()> {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                let cure = "install the package nftables, or turn ipMasq off";
                io::Error::new(e.kind(), format!("cannot run `nft`: {e}; {cure}"))
            })?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(self.script().as_bytes())?;
        }
        let output = nft.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("no reason given");
        Err(io::Error::other(format!("`nft` refused the rules: {first}")))
    }
}

/// The destinations that pods reach under their own addresses.
fn inside(state: &State) -> Vec<Prefix> {
    let mut out = state.own_prefixes();
    out.extend(NEVER.iter().filter_map(|p| p.parse::<Prefix>().ok()));
    for route in &state.routes {
        let mut leads_to_nodes = false;
        for via in route.via.paths() {
            match via {
                Via::NextHop(ip) => {
                    leads_to_nodes = true;
                    out.push(Prefix::host(*ip));
                }
                Via::Tunnel(_) => leads_to_nodes = true,
                _ => {}
            }
        }
        // A default route leads to the world.
        if leads_to_nodes && route.prefix.len() > 0 {
            out.push(route.prefix);
        }
    }
    let remotes: BTreeSet<IpAddr> = state.tunnels.iter().map(|t| t.remote).collect();
    out.extend(remotes.into_iter().map(Prefix::host));
    out
}

/// The prefixes that no other one covers: an interval set of nftables has no overlaps.
fn disjoint(prefixes: impl IntoIterator<Item = Prefix>) -> BTreeSet<Prefix> {
    let all: BTreeSet<Prefix> = prefixes.into_iter().collect();
    let covered = |p: &Prefix| all.iter().any(|o| o != p && o.covers(*p));
    all.iter().filter(|p| !covered(p)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::Entry;
    use serde_json::json;

    fn state() -> State {
        serde_json::from_value(json!({
            "node": {"pod_cidrs": ["10.244.1.0/24", "fd00:1::/64"], "gateway": true},
            "uplink": {"dev": "uplink0"},
            "tunnel": [{"name": "node2", "kind": "ipip", "remote": "192.0.2.2"}],
            "route": [
                {"prefix": "10.244.2.0/24", "via": "node2"},
                {"prefix": "10.244.3.0/24", "via": "192.0.2.3"},
                {"prefix": "0.0.0.0/0", "via": "192.0.2.254"},
                {"prefix": "10.9.0.0/16", "via": "host"}
            ]
        }))
        .unwrap()
    }

    fn entry(container: &str, address: &str, masquerade: bool) -> Entry {
        let ip = json!({"address": address});
        serde_json::from_value(json!({
            "request": {
                "network": "n", "container_id": container, "ifname": "eth0", "netns": "/n",
                "addresses": {"from": "plugin", "ips": [ip]}, "masquerade": masquerade
            },
            "ips": [ip], "segment": "default", "routed": true, "netns_inode": 1
        }))
        .unwrap()
    }

    fn rules(entries: &[Entry]) -> Rules {
        let name = format!("podswitch-masquerade-{}-{}", std::process::id(), entries.len());
        let path = std::env::temp_dir().join(name);
        let (mut attachments, _) = Attachments::open(path.clone(), &state()).unwrap();
        for entry in entries {
            attachments.insert(entry.clone()).unwrap();
        }
        let _ = std::fs::remove_file(path);
        Rules::new(&attachments.over(&state()), &attachments)
    }

    fn texts(prefixes: &BTreeSet<Prefix>) -> Vec<String> {
        prefixes.iter().map(Prefix::to_string).collect()
    }

    #[test]
    fn prefixes_while_all_pods_in_them_asked_for_it() {
        let asking = entry("a", "10.244.1.5/24", true);
        let second = entry("b", "10.244.1.6/24", true);
        let silent = entry("c", "10.244.1.7/24", false);
        assert!(rules(std::slice::from_ref(&silent)).is_empty());
        let one = rules(std::slice::from_ref(&asking));
        assert_eq!(texts(&one.sources), ["10.244.1.0/24"]);
        let two = rules(&[asking.clone(), second.clone()]);
        assert_eq!(one, two, "a pod more changes nothing");
        let mixed = rules(&[asking.clone(), second, silent]);
        assert_eq!(texts(&mixed.sources), ["10.244.1.5/32", "10.244.1.6/32"]);
        assert!(!two.serve(&mixed), "it would give the third one what it did not ask for");
        let elsewhere = rules(&[asking, entry("d", "10.88.0.5/16", true)]);
        assert!(!one.serve(&elsewhere) && one.serve(&Rules::default()));
    }

    #[test]
    fn other_nodes_and_their_pods_see_pods_as_they_are() {
        let rules = rules(&[entry("a", "10.244.1.5/24", true)]);
        let inside = texts(&rules.inside);
        for prefix in [
            "10.244.1.0/24",
            "10.244.2.0/24",
            "10.244.3.0/24",
            "192.0.2.2/32",
            "192.0.2.3/32",
            "fd00:1::/64",
            "fe80::/10",
            "224.0.0.0/4",
        ] {
            assert!(inside.iter().any(|p| p == prefix), "{prefix}: {inside:?}");
        }
        for prefix in ["0.0.0.0/0", "10.9.0.0/16"] {
            assert!(!inside.iter().any(|p| p == prefix), "{prefix} is the world: {inside:?}");
        }
        let script = rules.script();
        assert!(script.starts_with("add table inet podswitch\ndelete table inet podswitch\n"));
        assert!(script.contains("oifname != \"podswitch0\" ip saddr @masquerade4"), "{script}");
    }
}
