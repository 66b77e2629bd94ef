//! Rate limits of ports, measured by iperf3 between two pods of one node.

use podswitch_tests::{Daemon, Lab, Netns, iperf, ping};

/// How much of its rate a limit must give, and at most.
const WITHIN: std::ops::RangeInclusive<f64> = 0.95..=1.05;

/// Which way a limit is.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Of what goes to the second pod.
    Ingress,
    /// Of what comes from the first pod.
    Egress,
}

/// Two pods of one node; limits are changed while it runs.
struct Pods {
    lab: Lab,
    daemon: Daemon,
    pods: [Netns; 2],
}

impl Pods {
    fn new(workers: u16) -> Option<Pods> {
        let lab = Lab::new()?;
        let (switch, pods) = (lab.netns("sw"), ["p1", "p2"].map(|name| lab.netns(name)));
        let daemon = Daemon::start(&lab, &switch, &config(workers, &pods, ["", ""]));
        ping(&pods[0], "10.9.0.2");
        Some(Pods { lab, daemon, pods })
    }

    fn limit(&self, workers: u16, limit: Limit, mbits: u64) {
        let rate = mbits * 1_000_000;
        let keys = match limit {
            Limit::Ingress => [String::new(), format!("ingress_rate = {rate}")],
            Limit::Egress => [format!("egress_rate = {rate}"), String::new()],
        };
        let keys = keys.each_ref().map(String::as_str);
        self.daemon.apply(&self.lab, &config(workers, &self.pods, keys));
    }

    /// What arrives of a TCP stream, in Mbit/s of its payload.
    fn tcp(&self, options: &str) -> f64 {
        let end = iperf(&self.pods[0], &self.pods[1], "10.9.0.2", options);
        end["sum_received"]["bits_per_second"].as_f64().expect("a figure") / 1e6
    }

    /// What arrives of a UDP stream of one and a half times the limit, in Mbit/s of its frames: their
    /// headers are 42 bytes.
    fn udp(&self, mbits: u64, options: &str) -> f64 {
        let options = format!("--udp --length 1470 --bitrate {}K {options}", mbits * 1500);
        self.tcp(&options) * 1512.0 / 1470.0
    }
}

fn config(workers: u16, pods: &[Netns; 2], keys: [&str; 2]) -> String {
    let mut config = format!("[switch]\nworkers = {workers}\n");
    for ((pod, n), keys) in pods.iter().zip(1..).zip(keys) {
        config += &format!(
            "[[port]]\nname = \"p{n}\"\nnetns = \"{}\"\nifname = \"eth0\"\n\
             ip = [\"10.9.0.{n}/24\"]\n{keys}\n",
            pod.path()
        );
    }
    config
}

/// What part of a limit a stream gets. Where others starve the machine a stream may get less than it
/// could: one that does is measured again, twice at most.
fn measure(mbits: u64, stream: impl Fn() -> f64) -> f64 {
    let mut part = 0.0;
    for _ in 0..3 {
        part = stream() / mbits as f64;
        if part >= *WITHIN.start() {
            break;
        }
    }
    part
}

#[test]
fn streams_get_the_rate_of_the_limit() {
    let Some(pods) = Pods::new(1) else { return };
    let index = pods.pods[0].ip("-o link show dev eth0");
    for (limit, mbits) in [(Limit::Ingress, 10), (Limit::Egress, 100)] {
        pods.limit(1, limit, mbits);
        let tcp = measure(mbits, || pods.tcp("--omit 1 --time 2"));
        assert!(WITHIN.contains(&tcp), "{limit:?} {mbits} Mbit/s: TCP gets {tcp} of it");
        let before = pods.daemon.counters().dropped("rate_limited");
        let udp = measure(mbits, || pods.udp(mbits, "--omit 1 --time 2"));
        assert!(WITHIN.contains(&udp), "{limit:?} {mbits} Mbit/s: UDP gets {udp} of it");
        let dropped = pods.daemon.counters().dropped("rate_limited") - before;
        let excess = mbits * 500_000 * 2 / 1470 / 8;
        assert!(dropped > excess, "of at least {excess} too many {dropped} are dropped by name");
        let slow = &pods.daemon.json("port list")[usize::from(matches!(limit, Limit::Ingress))];
        let key = if matches!(limit, Limit::Ingress) { "ingress_rate" } else { "egress_rate" };
        assert_eq!(slow[key], mbits * 1_000_000, "{slow}");
    }
    assert_eq!(pods.pods[0].ip("-o link show dev eth0"), index, "the interface is the same");
    pods.daemon.finish();
}

/// The queue is short: a ping beside a stream that fills it waits for 25 ms, not for seconds.
#[test]
fn what_waits_waits_for_a_bounded_time() {
    let Some(pods) = Pods::new(1) else { return };
    pods.limit(1, Limit::Egress, 20);
    let slowest = std::thread::scope(|s| {
        let stream = s.spawn(|| pods.udp(20, "--time 3"));
        std::thread::sleep(std::time::Duration::from_millis(700));
        let text = pods.pods[0].try_sh("ping -n -c20 -i0.05 -W1 10.9.0.2").stdout;
        stream.join().expect("streaming");
        let times = text.split("time=").skip(1).filter_map(|t| t.split(' ').next());
        times.filter_map(|t| t.parse::<f64>().ok()).fold(0.0, f64::max)
    });
    // A busy machine adds to it; a queue without a bound would hold more than a second.
    assert!((5.0..200.0).contains(&slowest), "{slowest} ms");
    pods.daemon.finish();
}

/// The table of docs/performance.md.
#[test]
#[ignore = "takes a minute: cargo test -p podswitch-tests --test rate_limits -- --ignored --nocapture"]
fn table() {
    let Some(pods) = Pods::new(1) else { return };
    println!("| limit, Mbit/s | TCP, ingress | TCP, egress | UDP, ingress | UDP, egress |");
    println!("|---|---|---|---|---|");
    for mbits in [10, 100, 500] {
        let mut row = [0.0; 4];
        for (i, limit) in [Limit::Ingress, Limit::Egress].into_iter().enumerate() {
            pods.limit(1, limit, mbits);
            row[i] = pods.tcp("--omit 1 --time 4");
            row[i + 2] = pods.udp(mbits, "--omit 1 --time 4");
        }
        let [a, b, c, d] = row.map(|got| format!("{got:.2}"));
        println!("| {mbits} | {a} | {b} | {c} | {d} |");
    }
    pods.daemon.finish();
}
