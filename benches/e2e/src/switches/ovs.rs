//! Open vSwitch with its userspace datapath on afxdp ports, as Documentation/intro/install/afxdp.rst
//! of its sources sets it up.

use podswitch_tests::Lab;

use super::{Running, Stoppable, Switch, find, try_all};
use crate::SWITCH_CPU;
use crate::site::{FAR_POD, POD, Route, Site, UNDERLAY, VNI, VTEP};

pub struct Ovs;

impl Switch for Ovs {
    fn name(&self) -> &str {
        "Open vSwitch, afxdp"
    }

    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String> {
        let [server, daemon, vsctl, ofctl, appctl, tool] =
            ["ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovsdb-tool"]
                .map(|p| find(p, "openvswitch-switch"));
        let (vsctl, ofctl, appctl) = (vsctl?, ofctl?, appctl?);
        let folder = lab.folder().join(site.switch.name());
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let run = folder.display().to_string();
        let env = format!("env OVS_RUNDIR={run} OVS_LOGDIR={run} OVS_DBDIR={run}");
        let database = format!("unix:{run}/db.sock");
        let switch = &site.switch;

        if route == Route::Bridged {
            site.join_silently();
        } else {
            site.join_in();
            site.join_out();
        }
        try_all(
            switch,
            &[format!("{} create {run}/conf.db /usr/share/openvswitch/vswitch.ovsschema", tool?)],
        )?;
        let log = |name: &str| format!("--log-file={run}/{name}.log --verbose=console:off");
        let server = switch.spawn(&format!(
            "{env} {} {run}/conf.db --remote=punix:{run}/db.sock --pidfile={run}/db.pid {}",
            server?,
            log("db")
        ));
        let ctl = format!("{env} {vsctl} --timeout=10 --db={database}");
        podswitch_tests::run(&["sleep", "0.5"]);
        try_all(
            switch,
            &[
                format!("{ctl} --no-wait init"),
                format!(
                    "{ctl} --no-wait set Open_vSwitch . other_config:pmd-cpu-mask={:#x}",
                    1 << SWITCH_CPU
                ),
            ],
        )?;
        let daemon = switch.spawn(&format!(
            "{env} {} {database} --pidfile={run}/sw.pid --unixctl={run}/sw.ctl {}",
            daemon?,
            log("sw")
        ));
        let port = |bridge: &str, dev: &str| {
            format!(
                "{ctl} add-port {bridge} {dev} -- set interface {dev} type=afxdp options:n_rxq=1"
            )
        };
        let done = try_all(
            switch,
            &[
                format!(
                    "{ctl} add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=standalone"
                ),
                port("br0", "in0"),
            ],
        )
        .and_then(|()| match route {
            Route::Encap | Route::Decap => Ok(()),
            _ => try_all(switch, &[port("br0", "out0")]),
        });
        done.and_then(|()| self.check(site, &ctl, &run))?;
        let (ofctl, appctl) = (format!("{env} {ofctl}"), format!("{env} {appctl} -t {run}/sw.ctl"));
        let entrance = match route {
            Route::Bridged => None,
            Route::Routed => Some(self.routed(site, &ofctl)?),
            Route::Encap | Route::Decap => Some(self.tunnel(
                site,
                route,
                &ctl,
                &ofctl,
                &appctl,
                &port("brx", far_dev(route)),
            )?),
        };
        Ok(Box::new(Stoppable::new(switch, entrance, [server, daemon])))
    }
}

fn far_dev(route: Route) -> &'static str {
    if route == Route::Decap { "in0" } else { "out0" }
}

impl Ovs {
    /// Whether the ports are open, or what the daemon says of them.
    fn check(&self, site: &Site, ctl: &str, run: &str) -> Result<(), String> {
        let done = site.switch.try_sh(&format!("{ctl} get interface in0 error"));
        let error = done.stdout.trim().to_owned();
        if done.code == 0 && (error == "[]" || error.is_empty()) {
            return Ok(());
        }
        let log = std::fs::read_to_string(format!("{run}/sw.log")).unwrap_or_default();
        let why = log.lines().rfind(|l| l.contains("|ERR|") && l.contains("xdp"));
        Err(why.map_or(error, |l| l.rsplit("|ERR|").next().unwrap_or(l).to_owned()))
    }

    /// Routing by one flow: what a controller would write for this route.
    fn routed(&self, site: &Site, ofctl: &str) -> Result<String, String> {
        let entrance = site.switch.mac("in0");
        let (from, to) = (site.switch.mac("out0"), site.to.mac("eth0"));
        let flow = format!(
            "ip,in_port=in0,dl_dst={entrance},nw_dst={FAR_POD},actions=dec_ttl,\
             mod_dl_src:{from},mod_dl_dst:{to},output:out0"
        );
        try_all(&site.switch, &[format!("{ofctl} --names add-flow br0 {flow}")])?;
        Ok(entrance)
    }

    /// A vxlan port on br0, and the underlay on a bridge of its own, as the userspace datapath wants.
    fn tunnel(
        &self,
        site: &Site,
        route: Route,
        ctl: &str,
        ofctl: &str,
        appctl: &str,
        underlay_port: &str,
    ) -> Result<String, String> {
        let [near, far] = UNDERLAY;
        let (pod_dev, far_end) = match route {
            Route::Decap => ("out0", &site.from),
            _ => ("in0", &site.to),
        };
        let mut lines = vec![
            format!("{ctl} add-br brx -- set bridge brx datapath_type=netdev fail_mode=standalone"),
            underlay_port.to_owned(),
            format!(
                "{ctl} add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip={far} \
                 options:key={VNI} options:dst_port=4789"
            ),
            format!("ip addr add {near}/24 dev brx"),
            "ip link set brx up".to_owned(),
            format!("{appctl} tnl/neigh/set brx {far} {}", far_end.mac("eth0")),
        ];
        let (entrance, flow) = match route {
            Route::Decap => {
                // in0 went to br0 above, where the pod's side belongs.
                lines.insert(1, format!("{ctl} del-port br0 in0"));
                lines.push(format!(
                    "{ctl} add-port br0 {pod_dev} -- set interface {pod_dev} type=afxdp options:n_rxq=1"
                ));
                let (from, to) = (site.switch.mac("out0"), site.to.mac("eth0"));
                let flow = format!(
                    "ip,in_port=vx0,nw_dst={POD},actions=dec_ttl,mod_dl_src:{from},mod_dl_dst:{to},\
                     output:{pod_dev}"
                );
                (None, flow)
            }
            _ => {
                let entrance = site.switch.mac("in0");
                let flow = format!(
                    "ip,in_port={pod_dev},nw_dst={FAR_POD},actions=dec_ttl,mod_dl_src:{},\
                     mod_dl_dst:{},output:vx0",
                    VTEP[0], VTEP[1]
                );
                (Some(entrance), flow)
            }
        };
        lines.push(format!("{ofctl} --names add-flow br0 {flow}"));
        try_all(&site.switch, &lines)?;
        Ok(entrance.unwrap_or_else(|| site.switch.mac("brx")))
    }
}
