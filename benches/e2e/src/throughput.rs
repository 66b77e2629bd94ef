//! Throughput: more is offered than can be forwarded, and what comes out is counted.

use std::time::Duration;

use anyhow::Context;
use podswitch_pktgen::engine::{self, Limits};
use podswitch_pktgen::load::Mac;
use podswitch_pktgen::measure::{Plan, measure};
use podswitch_pktgen::plot::{self, Bar};
use podswitch_pktgen::sink;
use podswitch_tests::Lab;
use serde::Serialize;

use crate::site::{Route, Site};
use crate::summary::Summary;
use crate::switches::{self, Running};
use crate::{OURS, Options, SENDER_CPU};

/// What one switch came to in one cell.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The way through the switch.
    pub route: Route,
    /// Bytes of a frame, before encapsulation.
    pub size: usize,
    /// The switch.
    pub switch: String,
    /// Thousand frames a second at the sink, one for each round; none if it could not be measured.
    pub kpps: Option<Summary>,
    /// Thousand frames a second that were offered.
    pub offered_kpps: f64,
    /// Why it could not be measured.
    pub why_not: Option<String>,
}

struct Contestant {
    name: String,
    site: Site,
    running: Result<Box<dyn Running>, String>,
}

/// Measures all switches on the routes and sizes that were asked for.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for &route in &options.routes {
        let mut contestants: Vec<Contestant> = switches::wanted(options)
            .into_iter()
            .zip(0..)
            .map(|(switch, n)| {
                let name = switch.name().to_owned();
                eprintln!("{route:?}: starting {name} ...");
                let site = Site::new(lab, &format!("{route:?}{n}").to_lowercase());
                let running = switch.start(lab, &site, route);
                match &running {
                    Ok(running) => {
                        site.quicken(lab);
                        switches::lower(&site.switch);
                        running.pause();
                    }
                    Err(why) => eprintln!("  not measured: {why}"),
                }
                Contestant { name, site, running }
            })
            .collect();
        for &size in &options.sizes {
            cells.extend(interleaved(&mut contestants, options, route, size)?);
        }
        for contestant in contestants {
            if let Ok(running) = contestant.running {
                running.resume();
                running.finish();
            }
        }
    }
    Ok(cells)
}

/// One round after the other: every switch once in each.
fn interleaved(
    contestants: &mut [Contestant],
    options: &Options,
    route: Route,
    size: usize,
) -> anyhow::Result<Vec<Cell>> {
    let mut seen: Vec<(Vec<f64>, f64)> = contestants.iter().map(|_| (Vec::new(), 0.0)).collect();
    for round in 1..=options.rounds {
        for (contestant, seen) in contestants.iter_mut().zip(&mut seen) {
            let Ok(running) = &contestant.running else { continue };
            running.resume();
            let result = once(&contestant.site, running.as_ref(), options, route, size);
            running.pause();
            match result {
                Ok((kpps, offered)) => {
                    let name = &contestant.name;
                    eprintln!("  {route:?} {size} B, round {round}: {kpps:7.1} kpps  {name}");
                    seen.0.push(kpps);
                    seen.1 = offered;
                }
                Err(e) => contestant.running = Err(format!("{e:#}")),
            }
        }
    }
    let cell = |(contestant, (kpps, offered_kpps)): (&Contestant, (Vec<f64>, f64))| Cell {
        route,
        size,
        switch: contestant.name.clone(),
        kpps: Summary::of(&kpps),
        offered_kpps,
        why_not: contestant.running.as_ref().err().cloned(),
    };
    Ok(contestants.iter().zip(seen).map(cell).collect())
}

fn once(
    site: &Site,
    running: &dyn Running,
    options: &Options,
    route: Route,
    size: usize,
) -> anyhow::Result<(f64, f64)> {
    let (load, stamp_at) = site.load(route, size, running.entrance().as_deref());
    let sink_at =
        |kind, place, stamp_at| sink::Setup { kind, place, queue: 0, cpu: None, stamp_at };
    let mut plan = Plan {
        from: site.place_in(),
        queue: 0,
        cpu: Some(SENDER_CPU),
        engine: engine::Kind::Live,
        load,
        limits: Limits { time: Duration::from_secs_f64(options.seconds), frames: None, rate: None },
        sink: sink_at(options.sink, site.place_out(), stamp_at),
        // A pod's default route leads to its gateway, which is ours too.
        force: true,
    };
    if route == Route::Bridged {
        // A bridge learns where the receiver is from a frame of the receiver's.
        let mut back = plan.clone();
        let (a, b) = plan.load.ends.mac;
        back.load.ends.mac = (Mac(b.0), Mac(a.0));
        back.from = site.place_out();
        back.sink = sink_at(sink::Kind::Kernel, site.place_in(), stamp_at);
        back.engine = engine::Kind::Xdp;
        back.limits = Limits { time: Duration::from_secs(1), frames: Some(4), rate: Some(1000.0) };
        measure(&back).context("teaching the bridge")?;
    }
    // The first packets resolve neighbours and fill caches.
    let full = plan.limits.time;
    plan.limits.time = Duration::from_millis(100);
    measure(&plan).context("warming up")?;
    plan.limits.time = full;
    let report = measure(&plan)?;
    anyhow::ensure!(report.received > 0, "nothing arrived");
    Ok((report.received_pps / 1000.0, report.sent_pps / 1000.0))
}

/// One plot for each route and size.
pub fn plots(cells: &[Cell], options: &Options) -> anyhow::Result<()> {
    for &route in &options.routes {
        for &size in &options.sizes {
            let bar = |cell: &Cell| {
                let kpps = cell.kpps.as_ref()?;
                Some(Bar {
                    name: cell.switch.clone(),
                    value: kpps.median,
                    spread: (kpps.min, kpps.max),
                    ours: cell.switch.starts_with(OURS),
                })
            };
            let here = cells.iter().filter(|c| c.route == route && c.size == size);
            let bars: Vec<Bar> = here.filter_map(bar).collect();
            if bars.is_empty() {
                continue;
            }
            let name = format!("{route:?}-{size}.svg").to_lowercase();
            let title = format!("{route:?}, {size} bytes");
            plot::bars(&options.out.join(name), &title, "thousand frames a second", &bars)?;
        }
    }
    Ok(())
}

/// The table, in Markdown. A peer that is ahead is marked.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| route | bytes | switch | kpps, median (min to max) | against podswitch |\n\
         |---|---|---|---|---|\n",
    );
    for cell in cells {
        let ours = cells
            .iter()
            .find(|c| (c.route, c.size, c.switch.as_str()) == (cell.route, cell.size, OURS))
            .and_then(|c| c.kpps.as_ref());
        let (kpps, ratio) = match (&cell.kpps, &cell.why_not) {
            (Some(s), _) => {
                let ratio = ours.map_or(String::new(), |ours| {
                    let ratio = s.median / ours.median;
                    let ahead = if ratio > 1.0 { " **ahead**" } else { "" };
                    format!("{ratio:.2}{ahead}")
                });
                (format!("{:.0} ({:.0} to {:.0})", s.median, s.min, s.max), ratio)
            }
            (None, why) => {
                (format!("not measured: {}", why.as_deref().unwrap_or("no reason")), String::new())
            }
        };
        let route = format!("{:?}", cell.route).to_lowercase();
        text += &format!("| {route} | {} | {} | {kpps} | {ratio} |\n", cell.size, cell.switch);
    }
    text
}
