//! Attachments through random lives: pods come and go, and the daemon dies at any byte it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use podswitch_api::attachment::{Addresses, AttachmentAdd};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// 13 addresses of each family.
const STATE: &str = r#"{"node": {"pod_cidrs": ["10.0.0.0/28", "fd00::/124"], "gateway": true}}"#;
const CAPACITY: usize = 13;

#[derive(Clone, Debug)]
enum Op {
    /// The daemon dies while it writes if there is a number: after that many bytes of what it writes.
    Add(u8, Option<u16>),
    /// With an address asked for by name.
    AddNamed(u8, u8),
    Del(u8, Option<u16>),
    Gc(BTreeSet<u8>),
    /// The daemon dies, perhaps while it writes its log anew, and starts again.
    Restart(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let pod = || 0u8..20;
    prop_oneof![
        4 => (pod(), prop::option::weighted(0.2, any::<u16>())).prop_map(|(n, c)| Op::Add(n, c)),
        1 => (pod(), any::<u8>()).prop_map(|(n, ip)| Op::AddNamed(n, ip)),
        4 => (pod(), prop::option::weighted(0.2, any::<u16>())).prop_map(|(n, c)| Op::Del(n, c)),
        1 => prop::collection::btree_set(pod(), 0..20).prop_map(Op::Gc),
        1 => any::<bool>().prop_map(Op::Restart),
    ]
}

fn id(pod: u8) -> AttachmentId {
    AttachmentId { network: "n".into(), container_id: format!("pod{pod}"), ifname: "eth0".into() }
}

fn request(pod: u8, ips: Vec<IpAddr>) -> AttachmentAdd {
    let mut request: AttachmentAdd = serde_json::from_value(json!({
        "network": "n", "container_id": format!("pod{pod}"), "ifname": "eth0",
        "netns": format!("/run/netns/pod{pod}"), "addresses": {"from": "node"}
    }))
    .unwrap();
    request.addresses = Addresses::Node { ips };
    request
}

/// A daemon, and what a faultless one would have.
struct World {
    path: PathBuf,
    desired: State,
    all: Attachments,
    model: BTreeMap<AttachmentId, Vec<IpAddr>>,
    /// Addresses given back, the last one last.
    given_back: Vec<IpAddr>,
}

impl World {
    fn new(path: PathBuf) -> World {
        let desired: State = serde_json::from_str(STATE).unwrap();
        let (all, _) = Attachments::open(path.clone(), &desired).unwrap();
        World { path, desired, all, model: BTreeMap::new(), given_back: Vec::new() }
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    fn restart(&mut self) {
        let (mut all, _) = Attachments::open(self.path.clone(), &self.desired).unwrap();
        all.compact().unwrap();
        self.all = all;
    }

    /// The daemon died while it wrote what came behind `before`: after `cut` bytes of it. Whether it had
    /// written all.
    fn die(&mut self, before: u64, cut: u16) -> bool {
        let after = self.size();
        if after < before {
            // The log was written anew, in one step.
            self.restart();
            return true;
        }
        let len = before + u64::from(cut) % (after - before + 1);
        fs::File::options().write(true).open(&self.path).unwrap().set_len(len).unwrap();
        self.restart();
        len == after
    }

    fn add(&mut self, pod: u8, wanted: Vec<IpAddr>, cut: Option<u16>) {
        if self.model.contains_key(&id(pod)) {
            return;
        }
        let free = CAPACITY - self.model.len();
        let before = self.size();
        let ips = match self.all.allocate(&self.desired, &wanted) {
            Ok(ips) => ips,
            Err(IpamError::Exhausted { .. }) => {
                assert_eq!(free, 0, "an address was lost: {:?}", self.model);
                return;
            }
            Err(_) => {
                assert!(!wanted.is_empty(), "nothing was asked for by name");
                return;
            }
        };
        let taken: Vec<IpAddr> = ips.iter().map(|ip| ip.address.addr()).collect();
        assert_eq!(taken.len(), 2, "one of each family");
        for ip in &taken {
            assert!(!self.model.values().flatten().any(|o| o == ip), "{ip} is given out twice");
            // Each family has a line of its own, which those asked for by name do not stand in.
            let mut line = self.given_back.iter().filter(|o| o.is_ipv4() == ip.is_ipv4());
            if wanted.is_empty() && free > 1 {
                assert_ne!(
                    line.next_back(),
                    Some(ip),
                    "it was given back last, and others are free"
                );
            }
        }
        let request = request(pod, wanted);
        let segment = "default".to_owned();
        let entry = Entry { request, ips, segment, routed: true, netns_inode: 1 };
        self.all.insert(entry).unwrap();
        if cut.is_none_or(|cut| self.die(before, cut)) {
            self.given_back.retain(|ip| !taken.contains(ip));
            self.model.insert(id(pod), taken);
        }
    }

    fn remove(&mut self, ids: &[AttachmentId], cut: Option<u16>) {
        let known: Vec<AttachmentId> =
            ids.iter().filter(|id| self.model.contains_key(id)).cloned().collect();
        let before = self.size();
        self.all.remove(&known).unwrap();
        if cut.is_none_or(|cut| self.die(before, cut)) {
            for id in &known {
                self.given_back.extend(self.model.remove(id).unwrap());
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Add(pod, cut) => self.add(pod, Vec::new(), cut),
            Op::AddNamed(pod, ip) => {
                let ip = IpAddr::from([10, 0, 0, ip % 16]);
                self.add(pod, vec![ip], None);
            }
            Op::Del(pod, cut) => self.remove(&[id(pod)], cut),
            Op::Gc(valid) => {
                let valid: Vec<ValidAttachment> = (valid.iter())
                    .map(|pod| ValidAttachment {
                        container_id: format!("pod{pod}"),
                        ifname: "eth0".into(),
                    })
                    .collect();
                let stale = self.all.stale("n", &valid);
                let expected: Vec<AttachmentId> = (self.model.keys())
                    .filter(|id| !valid.iter().any(|v| v.container_id == id.container_id))
                    .cloned()
                    .collect();
                assert_eq!(stale, expected);
                assert_eq!(self.all.stale("other", &[]), []);
                self.remove(&stale, None);
            }
            Op::Restart(torn) => {
                if torn {
                    let mut new = self.path.clone().into_os_string();
                    new.push(".new");
                    fs::write(new, "half of a new log").unwrap();
                }
                self.restart();
            }
        }
        let found: BTreeMap<AttachmentId, Vec<IpAddr>> =
            self.all.iter().map(|e| (e.id(), e.addresses().collect())).collect();
        let sorted =
            |m: &BTreeMap<AttachmentId, Vec<IpAddr>>| -> Vec<(AttachmentId, BTreeSet<IpAddr>)> {
                m.iter().map(|(id, ips)| (id.clone(), ips.iter().copied().collect())).collect()
            };
        assert_eq!(sorted(&found), sorted(&self.model));
    }
}

proptest! {
    #[test]
    fn no_address_twice_and_none_lost(ops in prop::collection::vec(op(), 1..80)) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Thousands of writes that wait for a disk take minutes; what is tested is what they leave.
        let memory = Some(PathBuf::from("/dev/shm")).filter(|dir| dir.is_dir());
        let dir = memory.unwrap_or_else(std::env::temp_dir)
            .join(format!("podswitch-attachments-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut world = World::new(dir.join("log"));
        for op in ops {
            world.run(op);
        }
        // Every address can still be had.
        let ids: Vec<AttachmentId> = world.model.keys().cloned().collect();
        world.remove(&ids, None);
        for pod in 100..100 + CAPACITY as u8 {
            world.add(pod, Vec::new(), None);
        }
        assert_eq!(world.model.len(), CAPACITY);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn an_attachment_has_a_port_name_of_its_own() {
    let name = |network: &str, container: &str, ifname: &str| {
        port_name(&AttachmentId {
            network: network.into(),
            container_id: container.into(),
            ifname: ifname.into(),
        })
    };
    assert_eq!(name("net", "4f2e", "eth0"), "net/4f2e/eth0");
    assert_ne!(name("net", "4f2e", "eth+0"), name("net", "4f2e", "eth-0"));
    assert!(name("net", "4f2e", "eth+0").starts_with("net/4f2e/eth-0."));
    let long = name("net", &"c".repeat(1000), "eth0");
    assert_eq!(long.len(), podswitch_api::validate::NAME_MAX);
    assert_ne!(long, name("net", &"c".repeat(1000), "eth1"));
}
