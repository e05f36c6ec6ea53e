//! What this process is to be, from flags, environment and file.

use topics::KafkaConfig;

use crate::args::{Global, ServeArgs, roles_of};
use crate::config::{self, Config, Hidden, Overrides};
use crate::exit::Failure;
use crate::roles::{Destinations, Roles};

pub(super) struct Plan {
    pub(super) roles: Roles,
    pub(super) config: Config,
    pub(super) kafka: KafkaConfig,
    pub(super) destinations: Destinations,
    pub(super) store: Hidden,
    pub(super) api_key: Option<String>,
}

impl Plan {
    pub(super) fn new(args: &ServeArgs, global: &Global) -> anyhow::Result<Self> {
        let mut flags: Vec<(&'static str, toml::Value)> = Vec::new();
        let mut set = |key, value: Option<String>| {
            if let Some(value) = value {
                flags.push((key, value.into()));
            }
        };
        set("kafka.brokers", args.brokers.clone());
        set("store.url", args.store.clone());
        set("listen", args.listen.map(|listen| listen.to_string()));
        set(
            "data",
            args.data.as_ref().map(|data| data.display().to_string()),
        );
        if args.create_topics {
            flags.push(("topics.create", true.into()));
        }
        let config = config::load(global.config.as_ref(), Overrides::of_process(flags))?;
        let kafka = config.kafka.clients().ok_or_else(|| {
            Failure::usage("where is Kafka? say --brokers HOST:PORT, WEIR_KAFKA__BROKERS, or brokers in [kafka] of weir.toml (without Kafka: weir dev)")
        })?;
        let store = config.store.url.clone().ok_or_else(|| {
            Failure::usage("where is the store? say --store URL, WEIR_STORE__URL, or url in [store] of weir.toml: postgres://… or, on one machine, sqlite:PATH")
        })?;
        let api_key = global.api_key.clone().filter(|key| !key.is_empty());
        let destinations = Destinations::new(&config.destinations)?;
        Ok(Self {
            destinations,
            roles: roles_of(&args.roles),
            config,
            kafka,
            store,
            api_key,
        })
    }

    pub(super) fn roles_named(&self) -> String {
        let names: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        names.join(",")
    }

    /// The store without user and password.
    pub(super) fn store_named(&self) -> String {
        place(self.store.expose())
    }
}

/// `postgres://user:password@host:port/database?…` → `postgres host:port/database`
pub(crate) fn place(url: &str) -> String {
    match url.split_once("://") {
        None => url.to_owned(),
        Some((scheme, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            format!("{scheme} {place}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ServeRole;
    use crate::roles::{self, Role};

    #[test]
    fn no_password_in_the_place() {
        for (url, expected) in [
            (
                "postgres://weir:p@ss@db:5432/weir?password=p",
                "postgres db:5432/weir",
            ),
            ("postgres:///weir?host=/run&password=p", "postgres /weir"),
            ("sqlite:/var/weir.db", "sqlite:/var/weir.db"),
        ] {
            assert_eq!(place(url), expected);
        }
    }

    #[test]
    fn roles_add_up() {
        let one = |role| ServeRole::One(role);
        assert_eq!(roles_of(&[one(Role::Sink), one(Role::Sink)]).len(), 1);
        assert_eq!(roles_of(&[one(Role::Sink), ServeRole::All]), roles::all());
    }
}
