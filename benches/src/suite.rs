//! All measurements, and which of them a name chooses.

use anyhow::{Result, bail};

use crate::kafka::{activation, latency, line, raw, streams, surface, tax, user_topics};
use crate::landing::{cql, postgres};
use crate::report::Row;
use crate::{dev, http, inbox, kernel, languages, log, modules, segment, steps};

/// One run that gives several rows.
pub struct Measurement {
    /// The rows that it gives.
    pub names: &'static [&'static str],
    pub run: fn() -> Result<Vec<Row>>,
}

const ALL: &[Measurement] = &[
    Measurement {
        names: &["step.empty.reused_us"],
        run: steps::empty,
    },
    Measurement {
        names: &[
            "step.rust.fresh_minus_reused_us",
            "step.rust.fresh_two_threads",
            "step.rust.fresh_over_reused",
            "step.rust.fresh_us",
            "step.rust.reused_us",
        ],
        run: steps::rust,
    },
    Measurement {
        names: &["step.c.fresh_minus_reused_us"],
        run: languages::c,
    },
    Measurement {
        names: &["step.js.over_bare"],
        run: languages::js,
    },
    Measurement {
        names: &["step.python.over_bare"],
        run: languages::python,
    },
    Measurement {
        names: &["step.go.over_bare"],
        run: languages::go,
    },
    Measurement {
        names: &["module.load_ms"],
        run: modules::load_again,
    },
    Measurement {
        names: &["module.first_result_ms"],
        run: modules::first_result,
    },
    Measurement {
        names: &["modules_1000.over_one"],
        run: modules::thousand,
    },
    Measurement {
        names: &["http.executions_per_s"],
        run: http::measure,
    },
    Measurement {
        names: &["kernel.segment_us"],
        run: kernel::measure,
    },
    Measurement {
        names: &["segment.orders_us"],
        run: segment::measure,
    },
    Measurement {
        names: &["log.append_acks_per_s"],
        run: log::measure_appends,
    },
    Measurement {
        names: &["log.loop_records_per_s"],
        run: log::measure_loop,
    },
    Measurement {
        names: &["inbox.puts_per_s"],
        run: inbox::measure,
    },
    Measurement {
        names: &["dev.executions_per_s"],
        run: dev::executions,
    },
    Measurement {
        names: &["dev.start_ms", "dev.idle_rss_mib"],
        run: dev::idle,
    },
    Measurement {
        names: streams::NAMES,
        run: streams::run,
    },
    Measurement {
        names: raw::NAMES,
        run: raw::measure_both,
    },
    Measurement {
        names: tax::NAMES,
        run: tax::run,
    },
    Measurement {
        names: latency::NAMES,
        run: latency::run,
    },
    Measurement {
        names: user_topics::NAMES,
        run: user_topics::run,
    },
    Measurement {
        names: activation::NAMES,
        run: activation::run,
    },
    Measurement {
        names: postgres::NAMES,
        run: postgres::run,
    },
    Measurement {
        names: cql::NAMES,
        run: cql::run,
    },
    Measurement {
        names: line::NAMES,
        run: line::run,
    },
    Measurement {
        names: surface::NAMES,
        run: surface::run,
    },
];

/// Those that give a row whose name begins with one of `only`; all, if `only` is empty.
pub fn choose(only: &[String]) -> Result<Vec<&'static Measurement>> {
    let gives = |measurement: &Measurement, prefix: &str| {
        measurement
            .names
            .iter()
            .any(|name| name.starts_with(prefix))
    };
    if let Some(unknown) = only
        .iter()
        .find(|prefix| !ALL.iter().any(|m| gives(m, prefix)))
    {
        let names: Vec<&str> = ALL.iter().flat_map(|m| m.names).copied().collect();
        bail!(
            "nothing is called \"{unknown}\"; there are: {}",
            names.join(", ")
        );
    }
    Ok(ALL
        .iter()
        .filter(|m| only.is_empty() || only.iter().any(|prefix| gives(m, prefix)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_choose() {
        let chosen = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            choose(&only).map(|chosen| chosen.iter().map(|m| m.names[0]).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len());
        assert_eq!(
            chosen(&["dev.idle_rss_mib", "log."]).unwrap(),
            [
                "log.append_acks_per_s",
                "log.loop_records_per_s",
                "dev.start_ms"
            ]
        );
        assert!(chosen(&["nothing"]).is_err());
    }
}
