//! Plots, as SVG.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{anyhow, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::Latency;
use crate::search::Found;

const SIZE: (u32, u32) = (860, 480);

/// One bar with the range that it was seen in.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The least and the most that was seen.
    pub spread: (f64, f64),
    /// Whether it stands out.
    pub ours: bool,
}

/// Whether a plot can be written there, to know before anything is measured for it.
pub fn check(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    File::options().append(true).create(true).open(path)?;
    if is_new { fs::remove_file(path) } else { Ok(()) }
}

/// Received against sent, trial by trial of a search, and what was found.
pub fn search(path: &Path, title: &str, founds: &[Found]) -> anyhow::Result<()> {
    let trials: Vec<_> = founds.iter().flat_map(|f| &f.trials).collect();
    let most = trials.iter().map(|t| t.sent_pps).fold(0.0, f64::max) / 1000.0;
    ensure!(most > 0.0, "nothing was sent: there is nothing to plot");
    draw(path, |root| {
        let mut chart = ChartBuilder::on(root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..most * 1.05, 0.0..most * 1.05)?;
        chart.configure_mesh().x_desc("sent, kpps").y_desc("received, kpps").draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (most, most)], BLACK.mix(0.3)))?;
        let points = trials.iter().map(|t| (t.sent_pps / 1000.0, t.received_pps / 1000.0));
        chart.draw_series(points.map(|p| Circle::new(p, 4, BLUE.filled())))?;
        for found in founds {
            let x = found.pps / 1000.0;
            let name = format!("{} % lost: {x:.0} kpps", found.tolerance * 100.0);
            chart.draw_series(LineSeries::new([(x, 0.0), (x, most)], RED))?;
            chart.draw_series([Text::new(name, (x, most), ("sans-serif", 14))])?;
        }
        Ok(())
    })
}

/// Latency by percentile, on logarithmic axes: each unit to the right is one more nine.
pub fn latency(path: &Path, title: &str, series: &[(String, Latency)]) -> anyhow::Result<()> {
    const NINES: f64 = 5.0;
    let points = |l: &Latency| -> Vec<(f64, f64)> {
        let nines = |part: f64| -(1.0 - part).max(1e-9).log10();
        l.distribution.iter().map(|&(p, us)| (nines(p), us)).filter(|(x, _)| *x <= NINES).collect()
    };
    let longest = series.iter().map(|(_, l)| l.max).fold(0.0, f64::max);
    let shortest = series.iter().map(|(_, l)| l.min).fold(longest, f64::min).max(0.1);
    ensure!(longest > 0.0, "no frame has a time: there is nothing to plot");
    draw(path, |root| {
        let mut chart = ChartBuilder::on(root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..NINES, (shortest..longest * 1.2).log_scale())?;
        chart
            .configure_mesh()
            .x_labels(6)
            .x_label_formatter(&|nines| format!("{} %", 100.0 - 100.0 / 10f64.powf(*nines)))
            .x_desc("frames that took at most so long")
            .y_desc("microseconds")
            .draw()?;
        for (index, (name, latency)) in series.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(points(latency), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE)
            .draw()?;
        Ok(())
    })
}

/// Bars beneath each other, the longest to the right.
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> anyhow::Result<()> {
    const HEIGHT: u32 = 34;
    let most = bars.iter().map(|b| b.spread.1.max(b.value)).fold(0.0, f64::max);
    ensure!(most > 0.0, "no bar has a length: there is nothing to plot");
    let rows = bars.len() as i32;
    let size = (SIZE.0, 110 + HEIGHT * bars.len() as u32);
    draw_sized(path, size, |root| {
        let mut chart = ChartBuilder::on(root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(200)
            .build_cartesian_2d(0.0..most * 1.12, (0..rows).into_segmented())?;
        let name = |row: &SegmentValue<i32>| match row {
            SegmentValue::CenterOf(n) => {
                bars.iter().rev().nth(*n as usize).map_or_else(String::new, |b| b.name.clone())
            }
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .x_desc(unit)
            .draw()?;
        for (row, bar) in (0..rows).zip(bars.iter().rev()) {
            let color = if bar.ours { BLUE.mix(0.8) } else { BLACK.mix(0.35) };
            let corners =
                [(0.0, SegmentValue::Exact(row)), (bar.value, SegmentValue::Exact(row + 1))];
            let mut rectangle = Rectangle::new(corners, color.filled());
            rectangle.set_margin(5, 5, 0, 0);
            chart.draw_series([rectangle])?;
            let middle = SegmentValue::CenterOf(row);
            let ends = [(bar.spread.0, middle.clone()), (bar.spread.1, middle.clone())];
            chart.draw_series([PathElement::new(ends, BLACK.stroke_width(2))])?;
            let label = format!("{:.0}", bar.value);
            let at = (bar.spread.1.max(bar.value) + most * 0.01, middle);
            chart.draw_series([Text::new(label, at, ("sans-serif", 13))])?;
        }
        Ok(())
    })
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(path: &Path, paint: impl FnOnce(&Root<'_>) -> Drawn) -> anyhow::Result<()> {
    draw_sized(path, SIZE, paint)
}

fn draw_sized(
    path: &Path,
    size: (u32, u32),
    paint: impl FnOnce(&Root<'_>) -> Drawn,
) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, size).into_drawing_area();
    let result = root
        .fill(&WHITE)
        .map_err(Into::into)
        .and_then(|()| paint(&root))
        .and_then(|()| root.present().map_err(Into::into));
    result.map_err(|e| anyhow!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Trial;

    fn drawn(name: &str, draw: impl FnOnce(&Path) -> anyhow::Result<()>) -> String {
        let path = std::env::temp_dir().join(format!("pktgen-{}-{name}.svg", std::process::id()));
        draw(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
        text
    }

    #[test]
    fn bars_are_named_and_valued() {
        let bar = |name: &str, value, ours| Bar {
            name: name.to_owned(),
            value,
            spread: (value - 1.0, value + 1.0),
            ours,
        };
        let all = [bar("podswitch", 700.0, true), bar("a bridge", 600.0, false)];
        let text = drawn("bars", |path| bars(path, "64 bytes", "kpps", &all));
        for word in ["podswitch", "a bridge", "700", "600", "64 bytes", "kpps"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn a_search_and_a_distribution_are_drawn() {
        let trial = Trial { asked_pps: 2e5, sent_pps: 2e5, received_pps: 1e5, loss: 0.5 };
        let found =
            Found { tolerance: 0.0, pps: 1e5, generator_limited: false, trials: vec![trial] };
        assert!(drawn("search", |path| search(path, "NDR", &[found])).contains("100 kpps"));

        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * 1000).unwrap());
        let series = [("bridge".to_owned(), Latency::of(&histogram))];
        assert!(drawn("latency", |path| latency(path, "latency", &series)).contains("bridge"));
    }

    #[test]
    fn nothing_is_no_plot() {
        assert!(bars(Path::new("/nowhere/x.svg"), "", "", &[]).is_err());
    }
}
