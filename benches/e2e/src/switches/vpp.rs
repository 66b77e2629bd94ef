//! FD.io VPP with af_xdp interfaces, where one is installed (Debian has no package of it).

use std::time::Duration;

use podswitch_tests::{Lab, run};

use super::{Running, Stoppable, Switch, find, last_line};
use crate::SWITCH_CPU;
use crate::site::{FAR_POD, GATEWAY, Route, Site, UNDERLAY};

pub struct Vpp;

impl Switch for Vpp {
    fn name(&self) -> &str {
        "VPP, af_xdp"
    }

    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        let (vpp, vppctl) = (find("vpp", "vpp of fd.io")?, find("vppctl", "vpp of fd.io")?);
        if matches!(route, Route::Encap | Route::Decap) {
            return Err("measured bridged and routed only".to_owned());
        }
        site.join_silently();
        let folder = lab.folder().join(site.switch.name());
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let socket = folder.join("cli.sock").display().to_string();
        let config = lab.write(
            "vpp.conf",
            &format!(
                "unix {{ nodaemon cli-listen {socket} runtime-dir {} }}\n\
                 cpu {{ main-core 0 corelist-workers {SWITCH_CPU} }}\n\
                 plugins {{ plugin default {{ disable }} plugin af_xdp_plugin.so {{ enable }} }}\n",
                folder.display()
            ),
        );
        let process = site.switch.spawn(&format!("{vpp} -c {}", config.display()));
        std::thread::sleep(Duration::from_secs(3));
        let say = |line: &str| -> Result<String, String> {
            let words: Vec<&str> = line.split(' ').collect();
            let done = run(&[&[vppctl.as_str(), "-s", &socket], &words[..]].concat());
            // The command line of VPP tells errors by what it prints.
            let failed = done.code != 0 || done.stdout.contains("rror");
            let said = if done.stdout.is_empty() { &done.stderr } else { &done.stdout };
            if failed { Err(format!("`{line}`: {}", last_line(said))) } else { Ok(done.stdout) }
        };
        for dev in ["in0", "out0"] {
            say(&format!("create interface af_xdp host-if {dev} name {dev} num-rx-queues all"))?;
            say(&format!("set interface state {dev} up"))?;
        }
        let mut entrance = None;
        if route == Route::Bridged {
            say("set interface l2 bridge in0 1")?;
            say("set interface l2 bridge out0 1")?;
        } else {
            let far = UNDERLAY[1];
            say(&format!("set interface ip address in0 {GATEWAY}/24"))?;
            say(&format!("set interface ip address out0 {}/24", UNDERLAY[0]))?;
            say(&format!("set ip neighbor out0 {far} {}", site.to.mac("eth0")))?;
            say(&format!("ip route add {FAR_POD}/32 via {far} out0"))?;
            let shown = say("show hardware-interfaces in0")?;
            let address = shown.split("Ethernet address ").nth(1);
            let word = address.and_then(|a| a.split_whitespace().next());
            entrance = Some(word.ok_or("VPP does not tell the address of in0")?.to_owned());
        }
        Ok(Box::new(Stoppable::new(&site.switch, entrance, [process])))
    }
}
