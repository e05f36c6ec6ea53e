//! How fast the line is by commit interval, record size and partitions: one copying step over a grid, as a picture.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use topics::catalog::TRIGGERS;

use super::child::Settings;
use super::cluster::Cluster;
use super::orders;
use super::ours::{self, COPY, Samples};
use super::tax::data;
use crate::meter::load;
use crate::place;
use crate::report::Row;

pub(crate) const NAMES: &[&str] = &["surface.records_per_s"];
/// Relative to the root.
const PICTURE: &str = "benches/surface.svg";
const INTERVALS_MS: [u64; 3] = [10, 50, 100];
const SIZES: [usize; 3] = [256, 1 << 10, 8 << 10];
const PARTITIONS: [u32; 3] = [1, 4, 12];

struct Cell {
    interval_ms: u64,
    bytes: usize,
    partitions: u32,
    per_s: f64,
}

pub(crate) fn run() -> Result<Vec<Row>> {
    let mut cells = Vec::new();
    for partitions in PARTITIONS {
        // of its own: a topic's partitions are what they are
        let cluster = Cluster::start()?;
        cluster.weir_topics(partitions)?;
        for bytes in SIZES {
            let records = ((400 << 20) / (bytes as u64 + 300)).min(150_000);
            let value = |n| {
                if bytes < 800 {
                    vec![b'x'; bytes]
                } else {
                    data(n, bytes)
                }
            };
            let triggers = cluster.load(TRIGGERS, partitions, records, |n| {
                (orders::key(n), orders::trigger(n, COPY, value(n)).to_vec())
            })?;
            for interval_ms in INTERVALS_MS {
                let settings = Settings {
                    interval_ms,
                    ..ours::copy_settings(&cluster)?
                };
                let what = format!("{interval_ms} ms, {bytes} B, {partitions} partitions");
                let span = (records / 5, records - records / 20);
                let mut samples = Samples::of(records, value);
                let passed = ours::pass(&cluster, &settings, &triggers, &what, span, &mut samples)?;
                cells.push(Cell {
                    interval_ms,
                    bytes,
                    partitions,
                    per_s: passed.per_s,
                });
            }
            cluster.empty(TRIGGERS, partitions)?;
        }
    }
    let path = place::root().join(PICTURE);
    std::fs::write(&path, picture(&cells))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let middle = cells
        .iter()
        .find(|c| (c.interval_ms, c.bytes, c.partitions) == (100, 1 << 10, 4));
    let told: Vec<String> = cells
        .iter()
        .map(|c| {
            format!(
                "{} ms {} B {}p {:.0}",
                c.interval_ms, c.bytes, c.partitions, c.per_s
            )
        })
        .collect();
    let note = format!(
        "at 100 ms, 1 KiB, 4 partitions; drawn in {PICTURE}; all: {}; {}",
        told.join(", "),
        load()
    );
    Ok(vec![
        Row::new(NAMES[0], middle.map_or(f64::NAN, |c| c.per_s), "1/s").note(note),
    ])
}

/// A table of tiles for each number of partitions: the more a second, the darker.
fn picture(cells: &[Cell]) -> String {
    const TILE: (usize, usize) = (76, 40);
    const LEFT: usize = 70;
    const TOP: usize = 56;
    let most = cells.iter().map(|c| c.per_s).fold(1.0, f64::max);
    let panel = LEFT + SIZES.len() * TILE.0 + 20;
    let (width, height) = (
        panel * PARTITIONS.len() + 10,
        TOP + INTERVALS_MS.len() * TILE.1 + 44,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<title>Records a second by commit interval, record size and partitions</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut add = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a string takes all");
    for (at, partitions) in PARTITIONS.iter().enumerate() {
        let x = at * panel + LEFT;
        let s = if *partitions == 1 { "" } else { "s" };
        add(format_args!(
            "<text x=\"{x}\" y=\"20\" font-weight=\"bold\">{partitions} partition{s}</text>\n"
        ));
        for (column, bytes) in SIZES.iter().enumerate() {
            let middle = x + column * TILE.0 + TILE.0 / 2;
            let size = if *bytes < 1 << 10 {
                format!("{bytes} B")
            } else {
                format!("{} KiB", bytes >> 10)
            };
            add(format_args!(
                "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{size}</text>\n",
                TOP - 8
            ));
        }
        for (row, interval) in INTERVALS_MS.iter().enumerate() {
            let y = TOP + row * TILE.1;
            add(format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">{interval} ms</text>\n",
                x - 8,
                y + TILE.1 / 2 + 4
            ));
            for (column, bytes) in SIZES.iter().enumerate() {
                let Some(cell) = cells.iter().find(|c| {
                    (c.interval_ms, c.bytes, c.partitions) == (*interval, *bytes, *partitions)
                }) else {
                    continue;
                };
                let (left, share) = (x + column * TILE.0, cell.per_s / most);
                let ink = if share > 0.55 { "#fff" } else { "#222" };
                add(format_args!(
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"#1f5fa8\" fill-opacity=\"{:.2}\"/>\n<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{:.0} k/s</text>\n",
                    TILE.0 - 3,
                    TILE.1 - 3,
                    0.08 + 0.92 * share,
                    left + TILE.0 / 2 - 1,
                    y + TILE.1 / 2 + 3,
                    cell.per_s / 1_000.0
                ));
            }
        }
    }
    add(format_args!(
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#555\">records a second; rows: commit interval, columns: size of the data; one copying step, 2 lanes, isolation batch</text>\n</svg>\n",
        height - 14
    ));
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_drawn() {
        let mut cells = Vec::new();
        for partitions in PARTITIONS {
            for bytes in SIZES {
                cells.extend(INTERVALS_MS.map(|interval_ms| Cell {
                    interval_ms,
                    bytes,
                    partitions,
                    per_s: 50_000.0,
                }));
            }
        }
        let svg = picture(&cells);
        assert_eq!(svg.matches("50 k/s").count(), 27);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
