//! The generator and the sinks between two network namespaces. The oracles are the kernel's counters
//! and tshark.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use podswitch_pktgen::engine::{self, Limits};
use podswitch_pktgen::load::{Ends, Load, Mac, Sizes, Vxlan};
use podswitch_pktgen::measure::{Plan, measure};
use podswitch_pktgen::place::Place;
use podswitch_pktgen::sink;
use podswitch_tests::tshark::{CHECKS, FAULTS};
use podswitch_tests::{Capture, Lab, Netns, hush, join, run, write_pcap};

const ENDS: Ends = Ends {
    mac: (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])),
    ip: (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 19, 0, 1)),
};

const PLAIN: Load = Load { sizes: Sizes::Fixed(64), ends: ENDS, flows: 1, macs: 1, vxlan: None };

const IN_VXLAN: Load =
    Load { vxlan: Some(Vxlan { ends: ENDS, vni: 0x01_0007, vnis: 3 }), flows: 4, ..PLAIN };

/// Two silent namespaces and the wire between them, `eth0` at both ends.
fn wire(lab: &Lab) -> (Netns, Netns) {
    let ends = (lab.netns("from"), lab.netns("to"));
    hush(&ends.0);
    hush(&ends.1);
    join(&ends.0, "eth0", &ends.1, "eth0");
    // So that live frames find a NAPI at the other end.
    ends.1.sh("ethtool -K eth0 gro on");
    ends
}

fn place(netns: &Netns) -> Place {
    Place { netns: Some(netns.path().into()), dev: "eth0".into() }
}

fn plan(ends: &(Netns, Netns), engine: engine::Kind, sink: sink::Kind, load: Load) -> Plan {
    let rate = (engine == engine::Kind::Xdp).then_some(4000.0);
    Plan {
        from: place(&ends.0),
        queue: 0,
        cpu: None,
        engine,
        load,
        limits: Limits { time: Duration::from_millis(500), frames: None, rate },
        sink: sink::Setup {
            kind: sink,
            place: place(&ends.1),
            queue: 0,
            cpu: None,
            stamp_at: load.fields().stamp,
        },
        force: false,
    }
}

#[test]
fn at_a_rate_every_sink_counts_what_was_sent_and_what_the_kernel_counted() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    let mixed = Load { sizes: Sizes::Imix, flows: 5, macs: 7, ..PLAIN };
    for load in [PLAIN, mixed, IN_VXLAN] {
        for sink in [sink::Kind::Count, sink::Kind::Xdp, sink::Kind::Kernel] {
            let report = measure(&plan(&ends, engine::Kind::Xdp, sink, load)).unwrap();
            assert!((1900..=2001).contains(&report.sent), "{report:?}");
            assert_eq!(report.received, report.sent, "{report:?}");
            assert_eq!(report.kernel.rx_frames, report.sent, "{report:?}");
            assert_eq!(report.loss, 0.0);
            let bytes = report.received_bps * report.seconds / 8.0 / report.received as f64;
            let close = (bytes - report.frame_bytes).abs() < 2.0;
            assert!(close, "{bytes} bytes a frame: {report:?}");
            assert_eq!(report.latency.is_some(), sink == sink::Kind::Xdp);
            if let Some(latency) = report.latency {
                assert_eq!(latency.samples, report.received);
                assert!(latency.min > 0.1 && latency.p50 < 100_000.0, "{latency:?}");
            }
        }
    }
}

#[test]
fn live_frames_arrive_and_are_counted_as_the_kernel_counts_them() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    for load in [PLAIN, IN_VXLAN] {
        let report = measure(&plan(&ends, engine::Kind::Live, sink::Kind::Count, load)).unwrap();
        // A ring of the veth that is full drops some.
        assert!(report.received > report.sent / 2, "{report:?}");
        assert_eq!(report.received, report.kernel.rx_frames, "{report:?}");
        assert_eq!(report.others, 0);
    }
}

#[test]
fn frames_that_are_not_the_generators_are_told_apart() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    let mut plan = plan(&ends, engine::Kind::Xdp, sink::Kind::Count, PLAIN);
    plan.sink.stamp_at += 1;
    let report = measure(&plan).unwrap();
    assert_eq!((report.received, report.others), (0, report.sent));
    assert_eq!(report.loss, 1.0);
}

/// A bridge learns every source where the load comes in: one that is the destination's ends the load there.
#[test]
fn a_bridge_passes_on_a_load_of_many_sources() {
    let Some(lab) = Lab::new() else { return };
    let (ends, bridge) = ((lab.netns("from"), lab.netns("to")), lab.netns("bridge"));
    bridge.ip("link add br0 type bridge mcast_snooping 0");
    bridge.ip("link set br0 up");
    [&ends.0, &ends.1, &bridge].into_iter().for_each(hush);
    for (end, dev) in [(&ends.0, "in0"), (&ends.1, "out0")] {
        join(&bridge, dev, end, "eth0");
        bridge.ip(&format!("link set {dev} master br0"));
    }
    bridge.sh("ethtool -K in0 gro on");
    ends.1.sh("ethtool -K eth0 gro on");
    let many = Load { macs: 100, ..PLAIN };
    for engine in [engine::Kind::Xdp, engine::Kind::Live] {
        let mut plan = plan(&ends, engine, sink::Kind::Count, many);
        plan.limits.frames = Some(1000);
        let report = measure(&plan).unwrap();
        assert_eq!((report.sent, report.received), (1000, 1000), "{engine:?}: {report:?}");
    }
}

/// Both engines' frames, as tshark reads them: no fault, and every value that takes turns is there.
#[test]
fn frames_are_well_formed() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    let varied = Load { flows: 4, macs: 3, ..PLAIN };
    let mixed = Load { sizes: Sizes::Imix, ..varied };
    let cases = [
        (engine::Kind::Live, varied),
        (engine::Kind::Live, IN_VXLAN),
        (engine::Kind::Xdp, mixed),
        (engine::Kind::Xdp, IN_VXLAN),
    ];
    for (engine, load) in cases {
        let capture = Capture::start(&ends.1, "eth0");
        let mut plan = plan(&ends, engine, sink::Kind::Kernel, load);
        plan.limits.frames = Some(120);
        let report = measure(&plan).unwrap();
        assert_eq!((report.sent, report.received), (120, 120), "{report:?}");
        let file = lab.folder().join("load.pcap");
        write_pcap(&file, &capture.end());
        let tshark = |words: &[&str]| {
            let file = file.to_str().expect("made of ASCII");
            let base = ["tshark", "-r", file, "-E", "occurrence=l"];
            run(&[&base, &CHECKS[..], words].concat()).success()
        };
        let faults = tshark(&["-Y", FAULTS, "-e", "frame.number", "-e", "_ws.expert.message"]);
        assert!(faults.is_empty(), "{engine:?}: {faults}");
        let text = tshark(&["-e", "udp.srcport", "-e", "eth.src", "-e", "vxlan.vni"]);
        assert_eq!(text.lines().count(), 120);
        let column = |n: usize| -> BTreeSet<&str> {
            text.lines().filter_map(|line| line.split('\t').nth(n)).collect()
        };
        assert_eq!(column(0), BTreeSet::from(["1024", "1025", "1026", "1027"]), "{engine:?}");
        if load.vxlan.is_some() {
            assert_eq!(column(2), BTreeSet::from(["65543", "65544", "65545"]), "{engine:?}");
        } else {
            // Without the destination's, which ends with 2.
            let macs = ["02:00:00:00:00:01", "02:00:00:00:00:03", "02:00:00:00:00:04"];
            assert_eq!(column(1), BTreeSet::from(macs), "{engine:?}");
        }
    }
}

#[test]
fn the_command_measures_searches_and_refuses_a_default_route() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    let tool = env!("CARGO_BIN_EXE_podswitch-pktgen");
    let (from, to) = (format!("{}:eth0", ends.0.name()), format!("{}:eth0", ends.1.name()));
    let plot = lab.folder().join("plot.svg");
    let plot = plot.to_str().expect("made of ASCII");
    let pktgen = |command: &str, words: &[&str]| {
        run(&[&[tool, command, &from, &to, "--seconds", "0.4"], words].concat())
    };

    let measured =
        pktgen("measure", &["--rate", "2000", "--sink", "xdp", "--json", "--plot", plot]);
    let report: serde_json::Value = serde_json::from_str(&measured.success()).unwrap();
    assert_eq!(report["loss"], 0.0);
    assert!(report["latency"]["p99_9"].as_f64() > report["latency"]["p50"].as_f64());
    assert!(std::fs::read_to_string(plot).unwrap().contains("microseconds"));

    let searched = pktgen("search", &["--max-rate", "3000", "--json", "--plot", plot]).success();
    let found: serde_json::Value = serde_json::from_str(&searched).unwrap();
    assert_eq!(found.as_array().map(Vec::len), Some(2), "NDR and PDR: {found}");
    assert!(found[0]["pps"].as_f64() > Some(2000.0), "{found}");

    let wrong = pktgen("measure", &["--size", "20"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);

    ends.0.ip("addr add 198.18.0.1/24 dev eth0");
    ends.0.ip("route add default via 198.18.0.2");
    let refused = pktgen("measure", &["--rate", "100"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("default route"), "{}", refused.stderr);
    assert_eq!(pktgen("measure", &["--rate", "100", "--force"]).code, 0);
}

/// Where the kernel has its generator, it sends what it is told to; elsewhere the error says what is missing.
#[test]
fn the_kernels_generator_sends_or_says_why_not() {
    let Some(lab) = Lab::new() else { return };
    let ends = wire(&lab);
    let with_sink = |sink| {
        let mut plan = plan(&ends, engine::Kind::Kernel, sink, PLAIN);
        plan.limits.frames = Some(1000);
        measure(&plan)
    };
    let error = with_sink(sink::Kind::Count).unwrap_err().to_string();
    assert!(error.contains("--sink kernel"), "{error}");
    match with_sink(sink::Kind::Kernel) {
        Ok(report) => assert_eq!((report.sent, report.received), (1000, 1000), "{report:?}"),
        Err(e) => {
            let error = format!("{e:#}");
            assert!(
                error.contains("modprobe pktgen") || error.contains("CONFIG_NET_PKTGEN"),
                "{error}"
            );
            eprintln!("SKIPPED: {error}");
        }
    }
}
