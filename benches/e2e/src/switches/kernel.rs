//! The kernel: its bridge, its router, its vxlan device, set up as flannel sets them up.
//!
//! By default a veth's NAPI runs on the CPU of whoever sends, here the generator's. With threaded NAPI
//! it has a thread of its own, which is pinned to the CPU that the other switches have.

use podswitch_tests::{Lab, Netns};

use super::{Running, Switch, try_all};
use crate::SWITCH_CPU;
use crate::site::{FAR_POD, GATEWAY, POD, Route, Site, UNDERLAY, VNI, VTEP};

pub struct Kernel {
    /// Whether forwarding has a CPU of its own.
    pub threaded: bool,
}

struct Started {
    entrance: Option<String>,
}

impl Running for Started {
    fn entrance(&self) -> Option<String> {
        self.entrance.clone()
    }
}

impl Switch for Kernel {
    fn name(&self) -> &str {
        if self.threaded { "kernel, threaded NAPI" } else { "kernel" }
    }

    fn start(&self, _: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        let switch = &site.switch;
        if route == Route::Bridged {
            site.join_silently();
            try_all(
                switch,
                &[
                    "ip link add br0 type bridge mcast_snooping 0",
                    "ip link set in0 master br0",
                    "ip link set out0 master br0",
                    "ip link set br0 up",
                ],
            )?;
        } else {
            site.join_in();
            site.join_out();
            let (pod, far, pod_dev, far_dev) = match route {
                Route::Decap => (&site.to, &site.from, "out0", "in0"),
                _ => (&site.from, &site.to, "in0", "out0"),
            };
            pod.ip(&format!("addr add {POD}/24 dev eth0"));
            far.ip(&format!("addr add {}/24 dev eth0", UNDERLAY[1]));
            switch.sysctl("net.ipv4.ip_forward", "1");
            try_all(
                switch,
                &[
                    format!("ip addr add {GATEWAY}/24 dev {pod_dev}"),
                    format!("ip addr add {}/24 dev {far_dev}", UNDERLAY[0]),
                ],
            )?;
            match route {
                Route::Routed => {
                    try_all(switch, &[format!("ip route add {FAR_POD}/32 via {}", UNDERLAY[1])])?;
                }
                _ => vxlan(switch)?,
            }
            try_all(switch, &[format!("ping -n -c1 -W2 {}", UNDERLAY[1])])?;
            try_all(switch, &[format!("ping -n -c1 -W2 {POD}")])?;
        }
        if self.threaded {
            give_a_cpu(switch, "in0")?;
        }
        let entrance = (route != Route::Bridged).then(|| switch.mac("in0"));
        Ok(Box::new(Started { entrance }))
    }
}

/// The vxlan device with flannel's three entries for a peer: a route, a neighbour, an FDB entry.
fn vxlan(switch: &Netns) -> Result<(), String> {
    let [near, far] = UNDERLAY;
    let [near_mac, far_mac] = VTEP;
    try_all(
        switch,
        &[
            format!(
                "ip link add vx0 address {near_mac} type vxlan id {VNI} dstport 4789 local {near} nolearning"
            ),
            "ip link set vx0 up mtu 1550".to_owned(),
            "ip addr add 10.244.1.0/32 dev vx0".to_owned(),
            format!("ip neigh add 10.244.2.0 lladdr {far_mac} dev vx0 nud permanent"),
            format!("bridge fdb append {far_mac} dev vx0 dst {far}"),
            "ip route add 10.244.2.0/24 via 10.244.2.0 dev vx0 onlink".to_owned(),
        ],
    )
}

/// Gives the NAPI of an interface a thread, and that thread the switches' CPU.
fn give_a_cpu(switch: &Netns, dev: &str) -> Result<(), String> {
    let before = napi_threads(dev);
    // A sysfs of the namespace's own, mounted where nobody else sees it.
    let script = format!("mount -t sysfs none /sys && echo 1 > /sys/class/net/{dev}/threaded");
    let done = podswitch_tests::run(&[
        "nsenter",
        &format!("--net={}", switch.path()),
        "unshare",
        "--mount",
        "sh",
        "-c",
        &script,
    ]);
    if done.code != 0 {
        return Err(format!("threaded NAPI: {}", super::last_line(&done.stderr)));
    }
    for pid in napi_threads(dev).into_iter().filter(|pid| !before.contains(pid)) {
        podswitch_tests::run(&["taskset", "-p", "-c", &SWITCH_CPU.to_string(), &pid]).success();
        // As urgent as the processes of the other switches, which inherit it from this one.
        let own = podswitch_tests::run(&["nice"]).success();
        podswitch_tests::run(&["renice", "-n", own.trim(), "-p", &pid]).success();
        if super::is_real_time() {
            podswitch_tests::run(&["chrt", "-f", "-p", "1", &pid]).success();
        }
    }
    Ok(())
}

/// The kernel's threads `napi/<dev>-<id>`, of all namespaces.
fn napi_threads(dev: &str) -> Vec<String> {
    let listed = podswitch_tests::run(&["ps", "-eo", "pid,comm"]).stdout;
    let named = format!("napi/{dev}-");
    let pid = |line: &str| line.split_whitespace().next().map(str::to_owned);
    listed.lines().filter(|l| l.contains(&named)).filter_map(pid).collect()
}
