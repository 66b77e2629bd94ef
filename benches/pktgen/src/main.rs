//! The command line of the packet generator.

mod args;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use podswitch_pktgen::measure::measure;
use podswitch_pktgen::report::Report;
use podswitch_pktgen::search::{Found, Search, Trial};
use podswitch_pktgen::{place, plot};
use serde::Serialize;

use args::{Cli, Command, Common, Measure, SearchArgs};

/// Says what was found on the standard output.
fn print(common: &Common, document: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if common.json {
        serde_json::to_writer_pretty(&mut out, document).context("printing")?;
        writeln!(out).context("printing")
    } else {
        writeln!(out, "{text}").context("printing")
    }
}

impl Measure {
    fn run(&self) -> anyhow::Result<()> {
        let common = &self.common;
        eprintln!("{} -> {}, {} s ...", common.from, common.to, common.seconds);
        let report = measure(&common.plan(self.rate, self.frames))?;
        print(common, &report, &report.to_string())?;
        let Some(path) = &common.plot else { return Ok(()) };
        let latency = report.latency.as_ref();
        let latency = latency.context("no frame has a time: there is nothing to plot")?;
        let name = format!("{} bytes, {:.0} kpps", common.size, report.sent_pps / 1000.0);
        plot::latency(path, "Latency", &[(name, latency.clone())])
    }
}

impl SearchArgs {
    fn run(&self) -> anyhow::Result<()> {
        let common = &self.common;
        let trial = |rate: f64| {
            let report: Report = measure(&common.plan(Some(rate), None))?;
            let loss = report.loss * 100.0;
            let (sent, came) = (report.sent_pps / 1000.0, report.received_pps / 1000.0);
            eprintln!("sent {sent:9.1} kpps, received {came:9.1} kpps, lost {loss:7.3} %");
            Ok::<_, anyhow::Error>(Trial {
                asked_pps: rate,
                sent_pps: report.sent_pps,
                received_pps: report.received_pps,
                loss: report.loss,
            })
        };
        let mut founds = Vec::new();
        for percent in &self.tolerate {
            eprintln!("searching the highest rate with at most {percent} % lost ...");
            let search = Search {
                tolerance: percent / 100.0,
                most: self.max_rate,
                precision: self.precision / 100.0,
            };
            founds.push(search.run(trial)?);
        }
        print(common, &founds, &founds.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        match &common.plot {
            Some(path) => plot::search(path, &format!("{} bytes", common.size), &founds),
            None => Ok(()),
        }
    }
}

fn line(found: &Found) -> String {
    let limit = if found.generator_limited { " (the generator's limit)" } else { "" };
    let (percent, kpps) = (found.tolerance * 100.0, found.pps / 1000.0);
    format!("at most {percent} % lost: {kpps:.1} kpps{limit}")
}

fn main() -> ExitCode {
    let cli = Cli::checked();
    let result = match &cli.command {
        Command::Measure(measure) => measure.run(),
        Command::Search(search) => search.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Best effort: there is no other way to say it.
            let _ = writeln!(io::stderr(), "podswitch-pktgen: {e:#}");
            ExitCode::from(if e.is::<place::Refused>() { 3 } else { 1 })
        }
    }
}
