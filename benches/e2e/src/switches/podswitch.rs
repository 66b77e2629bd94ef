//! podswitch, one worker on a CPU of its own, all else at its defaults.

use podswitch_tests::{Daemon, Lab};

use super::{Running, Switch, try_all};
use crate::SWITCH_CPU;
use crate::site::{FAR_POD, GATEWAY, POD, Route, Site, UNDERLAY, VNI, VTEP};

pub struct Podswitch;

struct Started {
    daemon: Daemon,
    entrance: Option<String>,
}

impl Switch for Podswitch {
    fn name(&self) -> &'static str {
        "podswitch"
    }

    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        let cpus = format!("[switch]\nworkers = 1\ncpus = [{SWITCH_CPU}]\n");
        let (uplink, pod) = match route {
            Route::Bridged => {
                site.join_silently();
                let ports = "[[port]]\ndev = \"in0\"\n[[port]]\ndev = \"out0\"\n";
                let daemon = Daemon::start(lab, &site.switch, &(cpus + ports));
                return Ok(Box::new(Started { daemon, entrance: None }));
            }
            Route::Routed | Route::Encap => ("out0", &site.from),
            Route::Decap => ("in0", &site.to),
        };
        let far = if uplink == "out0" { &site.to } else { &site.from };
        if uplink == "out0" {
            site.join_out()
        } else {
            site.join_in()
        }
        site.switch.ip(&format!("addr add {}/24 dev {uplink}", UNDERLAY[0]));
        far.ip(&format!("addr add {}/24 dev eth0", UNDERLAY[1]));

        let via = if route == Route::Routed { UNDERLAY[1] } else { "far" };
        let tunnel = format!(
            "[[tunnel]]\nname = \"far\"\nkind = \"vxlan\"\nremote = \"{}\"\nvni = {VNI}\n\
             local_mac = \"{}\"\nremote_mac = \"{}\"\n",
            UNDERLAY[1], VTEP[0], VTEP[1]
        );
        let config = format!(
            "{cpus}[node]\nname = \"near\"\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n\
             [uplink]\ndev = \"{uplink}\"\n{tunnel}\
             [[route]]\nprefix = \"{FAR_POD}/32\"\nvia = \"{via}\"\n"
        );
        let daemon = Daemon::start(lab, &site.switch, &config);
        let netns = pod.path();
        daemon.cli(&format!("port add --netns {netns} --ifname eth0 --ip {POD}/24 pod"));
        // The underlay's neighbour is resolved, and the gateway's address is known to the pod.
        try_all(&site.switch, &[format!("ping -n -c2 -i0.2 -W2 {}", UNDERLAY[1])])?;
        try_all(pod, &[format!("ping -n -c2 -i0.2 -W2 {GATEWAY}")])?;
        let entrance = match route {
            Route::Decap => site.switch.mac("in0"),
            _ => {
                let text = pod.ip(&format!("neigh show {GATEWAY} dev eth0"));
                let mac = text.split_whitespace().skip_while(|w| *w != "lladdr").nth(1);
                mac.ok_or("the pod does not know its gateway's MAC address")?.to_owned()
            }
        };
        Ok(Box::new(Started { daemon, entrance: Some(entrance) }))
    }
}

impl Running for Started {
    fn entrance(&self) -> Option<String> {
        self.entrance.clone()
    }

    /// Every frame of the bench is accounted for.
    fn finish(self: Box<Self>) {
        self.daemon.finish();
    }
}
