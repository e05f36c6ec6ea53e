//! The databases that results land in, as `weir.toml` names them: their sinks, and what control asks them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use control::{Connect, Connecting, Grants, History, Looked, Tables};
use schemas::graph::SinkKind;
use sink::{
    Definitions, Erased, Options, Postgres, Scylla, ScyllaSettings, Sink, SinkConfig, Sqlite,
    Wanted, WriteTimes,
};
use store::Store;
use tokio::runtime::Handle;
use topics::Log;

use crate::config::{DestinationSection, HISTORY};
use crate::exit::Failure;

/// By name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations(BTreeMap<String, Destination>);

#[derive(Clone, Debug)]
struct Destination {
    kind: Kind,
    url: String,
    settings: DestinationSection,
}

/// By the URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Postgres,
    Scylla,
}

impl Destinations {
    pub(crate) fn new(sections: &BTreeMap<String, DestinationSection>) -> Result<Self, Failure> {
        let known = |(name, settings): (&String, &DestinationSection)| {
            let url = settings.url.as_ref().map(|url| url.expose().to_owned());
            let url = url.unwrap_or_default();
            let kind = match url.split_once("://") {
                Some(("postgres" | "postgresql", _)) => Kind::Postgres,
                Some(("scylla" | "cassandra", _)) => {
                    ScyllaSettings::parse(&url).map_err(|fault| {
                        Failure::usage(format!("destinations.{name}.url: {fault}"))
                    })?;
                    Kind::Scylla
                }
                _ => {
                    return Err(Failure::usage(format!(
                        "destinations.{name}.url is of no kind that is known; write postgres://USER:PASSWORD@HOST/DATABASE or scylla://USER:PASSWORD@HOST/KEYSPACE"
                    )));
                }
            };
            let destination = Destination {
                kind,
                url,
                settings: settings.clone(),
            };
            Ok((name.clone(), destination))
        };
        let all = Self(sections.iter().map(known).collect::<Result<_, _>>()?);
        if !all.has_history() && all.0.contains_key(HISTORY) {
            return Err(Failure::usage(format!(
                "destinations.{HISTORY}: the name of the history in SQLite; mark a destination with history = true, or take another name"
            )));
        }
        Ok(all)
    }

    /// The history that is read, if it is in none of SQLite: of those marked the first in Postgres, else the first in CQL.
    pub(crate) fn history(&self) -> Option<anyhow::Result<History>> {
        let destination = self.kept()?;
        Some(match destination.kind {
            Kind::Postgres => History::postgres(&destination.url).map_err(Into::into),
            Kind::Scylla => destination.scylla().map(|settings| {
                let place = settings.place();
                let connect: Connect = Arc::new(move || -> Connecting {
                    let settings = settings.clone();
                    Box::pin(async move { settings.connect().await })
                });
                History::scylla(place, connect)
            }),
        })
    }

    /// Whether the history that is read lies in a destination.
    pub(crate) fn has_history(&self) -> bool {
        self.kept().is_some()
    }

    fn kept(&self) -> Option<&Destination> {
        let marked = self.0.values().filter(|one| one.settings.history);
        marked.min_by_key(|destination| destination.kind)
    }

    /// Where rows of tenants may lie: in each destination, and in a history in SQLite.
    pub(crate) fn places(&self, sqlite: &Path) -> Vec<String> {
        let file = sqlite.exists().then(|| sqlite.display().to_string());
        self.0.keys().cloned().chain(file).collect()
    }

    /// Deletes a tenant's rows in all of [`Self::places`], one after the other; each with its rows, or why it was broken off.
    pub(crate) async fn erase(
        &self,
        sqlite: &Path,
        tenant: &str,
        told: &(dyn Fn(&str, Erased) + Sync),
    ) -> Vec<(String, Result<Vec<Erased>, String>)> {
        let mut all = Vec::new();
        for (name, destination) in &self.0 {
            let told = |erased| told(name, erased);
            let erased = match destination.kind {
                Kind::Postgres => Postgres::erase(&destination.url, tenant, &told).await,
                Kind::Scylla => match ScyllaSettings::parse(&destination.url) {
                    Ok(settings) => Scylla::erase(&settings, tenant, &told).await,
                    Err(reason) => Err(reason),
                },
            };
            all.push((name.clone(), erased));
        }
        if sqlite.exists() {
            let name = sqlite.display().to_string();
            let told = |erased| told(&name, erased);
            let erased = Sqlite::erase(sqlite, tenant, &told).await;
            all.push((name, erased));
        }
        all
    }

    /// Names of all sinks: those of the destinations, and of the history in SQLite where no other is read.
    pub(crate) fn sinks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(|name| &**name).collect();
        if !self.has_history() {
            names.push(HISTORY);
        }
        names
    }

    /// Starts the sink of each; none waits for its database.
    pub(crate) fn start(
        &self,
        log: &Arc<dyn Log>,
        store: &Store,
        grants: &Grants,
        runtime: &Handle,
    ) -> anyhow::Result<Vec<Sink>> {
        let start = |(name, destination): (&String, &Destination)| {
            let settings = &destination.settings;
            let grants = grants.clone();
            let allowed = move |tenant: &str, destination: &str, table: &str| {
                grants.allow_table(tenant, destination, table)
            };
            let definitions =
                Definitions::new(store.clone(), runtime.clone(), name, Arc::new(allowed));
            let options = Options {
                name: name.clone(),
                history: settings.history,
                retention: settings.kept(),
            };
            let config = SinkConfig {
                destination: name.clone(),
                history: settings.history,
                batch_records_max: settings.batch_records_max,
                interval: settings.interval,
            };
            let opened: sink::Destination = match destination.kind {
                Kind::Postgres => {
                    Postgres::open(&destination.url, settings.writers, options)?.into()
                }
                Kind::Scylla => {
                    let times = WriteTimes::new(log.clone(), store.clone(), runtime.clone());
                    let settings = destination.scylla()?;
                    Scylla::new(settings, options, times)?.into()
                }
            };
            let landed = Arc::new(|| {});
            Ok(Sink::start(
                log.clone(),
                opened,
                Some(definitions),
                config,
                landed,
            )?)
        };
        self.0.iter().map(start).collect()
    }
}

impl Destination {
    /// Of one in CQL.
    fn scylla(&self) -> anyhow::Result<ScyllaSettings> {
        Ok(ScyllaSettings::parse(&self.url).map_err(Failure::usage)?)
    }
}

impl Tables for Destinations {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn look<'a>(&'a self, sink: &'a SinkKind) -> Looked<'a> {
        Box::pin(async move {
            let (SinkKind::Postgres { to, .. } | SinkKind::Scylla { to, .. }) = sink else {
                return Ok(Vec::new());
            };
            let Some(destination) = self.0.get(to) else {
                return Ok(vec![format!("there is no destination \"{to}\"")]);
            };
            match (sink, destination.kind) {
                (
                    SinkKind::Postgres {
                        table,
                        mode,
                        key,
                        columns,
                        ..
                    },
                    Kind::Postgres,
                ) => {
                    let wanted = Wanted {
                        table,
                        mode: *mode,
                        key,
                        columns,
                    };
                    Postgres::check(&destination.url, &wanted).await
                }
                (SinkKind::Scylla { table, .. }, Kind::Scylla) => {
                    let settings = ScyllaSettings::parse(&destination.url)?;
                    Scylla::check(&settings, table).await
                }
                _ => Ok(vec![format!(
                    "destination \"{to}\" is of another kind; write the sink as what it is"
                )]),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(url: &str, history: bool) -> DestinationSection {
        toml::from_str(&format!("url = \"{url}\"\nhistory = {history}")).unwrap()
    }

    #[test]
    fn the_history_in_sqlite_has_a_sink_where_no_other_is_read() {
        let (postgres, scylla) = ("postgres://h/d", "scylla://h/k");
        for (sections, expected) in [
            (vec![], vec!["history"]),
            (vec![("shop", postgres, false)], vec!["shop", "history"]),
            (vec![("shop", postgres, true)], vec!["shop"]),
            (
                vec![("lake", scylla, true), ("shop", postgres, true)],
                vec!["lake", "shop"],
            ),
            (vec![("lake", scylla, true)], vec!["lake"]),
            (
                vec![("lake", scylla, false), ("shop", postgres, false)],
                vec!["lake", "shop", "history"],
            ),
        ] {
            let sections = sections
                .into_iter()
                .map(|(name, url, history)| (name.to_owned(), section(url, history)));
            let destinations = Destinations::new(&sections.collect()).unwrap();
            assert_eq!(destinations.sinks(), expected);
        }
        // two sinks of one group would share its partitions
        let one = BTreeMap::from([("history".to_owned(), section(scylla, false))]);
        assert!(Destinations::new(&one).is_err());
    }
}
