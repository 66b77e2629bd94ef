//! DPDK's testpmd with net_af_xdp: it passes frames from one port to the other and looks at nothing,
//! which is the least that a switch on AF_XDP can do.

use std::time::Duration;

use podswitch_tests::Lab;

use super::{Running, Stoppable, Switch, find};
use crate::SWITCH_CPU;
use crate::site::{Route, Site};

pub struct Testpmd;

impl Switch for Testpmd {
    fn name(&self) -> &str {
        "DPDK testpmd, no lookup"
    }

    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        if route != Route::Bridged {
            return Err("testpmd only passes frames on".to_owned());
        }
        let program = find("dpdk-testpmd", "dpdk-dev")?;
        site.join_silently();
        let log = lab.folder().join("testpmd.log");
        let prefix = site.switch.name();
        let device = |n: u8, dev: &str| {
            format!("--vdev net_af_xdp{n},iface={dev},start_queue=0,queue_count=1")
        };
        let script = lab.write(
            "testpmd.sh",
            &format!(
                "exec {program} -l 0,{SWITCH_CPU} --main-lcore 0 --no-huge -m 512 --no-pci \
                 --file-prefix {prefix} {} {} -- --forward-mode=io --auto-start --nb-cores=1 \
                 --total-num-mbufs=16384 --no-mlockall >{} 2>&1\n",
                device(0, "in0"),
                device(1, "out0"),
                log.display()
            ),
        );
        let process = site.switch.spawn(&format!("sh {}", script.display()));
        std::thread::sleep(Duration::from_secs(3));
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if !said.contains("packet forwarding") {
            let why = said.lines().rfind(|l| l.contains("rror") || l.contains("ailed"));
            return Err(why.map_or_else(|| super::last_line(&said), |l| l.trim().to_owned()));
        }
        Ok(Box::new(Stoppable::new(&site.switch, None, [process])))
    }
}
