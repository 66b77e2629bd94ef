//! podswitch, one worker on a CPU of its own, all else at its defaults or as asked for.

use std::path::PathBuf;

use podswitch_tests::{Daemon, Lab, Netns, podswitch_path};

use super::{Running, Switch, try_all};
use crate::pods::Workers;
use crate::site::{FAR_POD, GATEWAY, POD, Route, Site, UNDERLAY, VNI, VTEP};
use crate::{OURS, Options};

/// One version of podswitch with one configuration.
#[derive(Clone, Debug)]
pub struct Podswitch {
    name: String,
    binary: PathBuf,
    /// Lines for `[switch]`.
    settings: String,
}

impl Podswitch {
    /// The one under test, first; then with each variant's settings, and the other binaries.
    pub fn all(options: &Options) -> Vec<Podswitch> {
        let plain =
            Podswitch { name: OURS.to_owned(), binary: podswitch_path(), settings: String::new() };
        let variants = options.variant.iter().map(|lines| Podswitch {
            name: format!("{OURS}, {lines}"),
            settings: settings(lines),
            ..plain.clone()
        });
        let others = options.against.iter().map(|binary| Podswitch {
            name: format!("{OURS}, {}", binary.display()),
            binary: binary.clone(),
            ..plain.clone()
        });
        [plain.clone()].into_iter().chain(variants).chain(others).collect()
    }

    /// What the tables call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it with a configuration, which says nothing of `[switch]`, beside the settings `more`.
    pub fn daemon(&self, lab: &Lab, netns: &Netns, more: &str, config: &str) -> Daemon {
        let config = format!("[switch]\n{more}{}{config}", self.settings);
        Daemon::start_binary(&self.binary, lab, netns, &config)
    }
}

/// The lines for `[switch]` that the keys of a variant are.
pub fn settings(keys: &str) -> String {
    keys.replace(',', "\n") + "\n"
}

struct Started {
    daemon: Daemon,
    entrance: Option<String>,
}

impl Switch for Podswitch {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        let cpus = Workers::Pinned.settings();
        let (uplink, pod) = match route {
            Route::Bridged => {
                site.join_silently();
                let ports = "[[port]]\ndev = \"in0\"\n[[port]]\ndev = \"out0\"\n";
                let daemon = self.daemon(lab, &site.switch, &cpus, ports);
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
            "[node]\nname = \"near\"\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n\
             [uplink]\ndev = \"{uplink}\"\n{tunnel}\
             [[route]]\nprefix = \"{FAR_POD}/32\"\nvia = \"{via}\"\n"
        );
        let daemon = self.daemon(lab, &site.switch, &cpus, &config);
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
