//! The switches that are measured: one file each.

mod dpdk;
mod kernel;
mod ovs;
mod podswitch;
mod vpp;

pub use podswitch::{Podswitch, settings};

use podswitch_tests::{Background, Lab, Netns};

use crate::Options;
use crate::site::{Route, Site};

/// Something that forwards while it lives.
pub trait Running {
    /// Stops taking CPU time until [`Running::resume`]: others are measured now. Nothing to do for
    /// what sleeps by itself.
    fn pause(&self) {}
    /// Goes on.
    fn resume(&self) {}
    /// The MAC address that the load is sent to.
    fn entrance(&self) -> Option<String> {
        None
    }
    /// Ends well, if there is anything to check.
    fn finish(self: Box<Self>) {}
}

/// A switch of processes in a namespace of its own that look for work all the time: they are stopped while
/// others are measured.
struct Stoppable {
    netns: Netns,
    entrance: Option<String>,
    _processes: Vec<Background>,
}

impl Stoppable {
    fn new(
        netns: &Netns,
        entrance: Option<String>,
        processes: impl Into<Vec<Background>>,
    ) -> Stoppable {
        Stoppable { netns: netns.clone(), entrance, _processes: processes.into() }
    }
}

impl Running for Stoppable {
    fn pause(&self) {
        signal(&self.netns, "-STOP");
    }

    fn resume(&self) {
        signal(&self.netns, "-CONT");
    }

    fn entrance(&self) -> Option<String> {
        self.entrance.clone()
    }
}

/// A switch that can be started.
pub trait Switch {
    /// Its name, in tables.
    fn name(&self) -> &str;
    /// Starts it at a site, whose ends it makes or takes; why it cannot be.
    fn start(&self, lab: &Lab, site: &Site, route: Route) -> Result<Box<dyn Running>, String>;
}

/// Those that were asked for, ours first.
pub fn wanted(options: &Options) -> Vec<Box<dyn Switch>> {
    let ours = Podswitch::all(options).into_iter().map(|p| Box::new(p) as Box<dyn Switch>);
    let is_wanted = |s: &dyn Switch| {
        options.switches.is_empty() || options.switches.iter().any(|w| w == s.name())
    };
    ours.chain(peers().into_iter().filter(|s| is_wanted(s.as_ref()))).collect()
}

/// The names of those beside podswitch.
pub fn peer_names() -> Vec<String> {
    peers().iter().map(|s| s.name().to_owned()).collect()
}

fn peers() -> Vec<Box<dyn Switch>> {
    vec![
        Box::new(kernel::Kernel { threaded: false }),
        Box::new(kernel::Kernel { threaded: true }),
        Box::new(ovs::Ovs),
        Box::new(dpdk::Testpmd),
        Box::new(vpp::Vpp),
    ]
}

/// Runs command lines in a namespace, one after the other; the complaint of the first that fails.
fn try_all<S: AsRef<str>>(netns: &Netns, lines: &[S]) -> Result<(), String> {
    for line in lines {
        let done = netns.try_sh(line.as_ref());
        if done.code != 0 {
            let said = if done.stderr.is_empty() { &done.stdout } else { &done.stderr };
            return Err(format!("`{}`: {}", line.as_ref(), last_line(said)));
        }
    }
    Ok(())
}

fn last_line(text: &str) -> String {
    text.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no reason given").trim().to_owned()
}

/// Whether a program is there; else the sentence that says so.
fn find(program: &str, package: &str) -> Result<String, String> {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = paths.split(':').map(|p| format!("{p}/{program}"));
    found
        .into_iter()
        .find(|p| std::path::Path::new(p).exists())
        .ok_or_else(|| format!("{program} is not installed (package {package})"))
}

/// Whether this process was started with `chrt -f`, which keeps everything else off the two CPUs.
fn is_real_time() -> bool {
    let policy = podswitch_tests::run(&["chrt", "-p", &std::process::id().to_string()]);
    policy.stdout.contains("SCHED_FIFO")
}

/// Gives the processes of a switch the least of real-time priorities, if this one has a higher one, which
/// they inherit: who ends a measurement must not wait for a switch that never sleeps.
pub fn lower(netns: &Netns) {
    if is_real_time() {
        for pid in pids(netns) {
            podswitch_tests::run(&["chrt", "-a", "-f", "-p", "1", &pid]);
        }
    }
}

fn pids(netns: &Netns) -> Vec<String> {
    let pids = podswitch_tests::run(&["ip", "netns", "pids", netns.name()]).stdout;
    pids.split_whitespace().map(str::to_owned).collect()
}

/// Sends a signal to every process in a namespace.
fn signal(netns: &Netns, signal: &str) {
    for pid in pids(netns) {
        // One that has just ended needs no signal.
        podswitch_tests::run(&["kill", signal, &pid]);
    }
}
