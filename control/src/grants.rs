//! What tenants may read and write, as `weir.toml` says. Pure.

use std::collections::BTreeMap;

/// Each tenant's; nothing where it is not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    tenants: BTreeMap<String, Granted>,
}

/// Names of topics; a `*` at the end stands for any rest, and alone for every topic. Weir's own are never meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    pub topics_read: Vec<String>,
    pub topics_write: Vec<String>,
    /// `DESTINATION/TABLE`, patterns as of topics.
    pub tables: Vec<String>,
}

/// What a graph does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

impl Grants {
    /// Everything, to the one tenant that there is.
    pub fn everything() -> Self {
        let all = vec!["*".to_owned()];
        let granted = Granted {
            topics_read: all.clone(),
            topics_write: all.clone(),
            tables: all,
        };
        Self::from_iter([(crate::router::TENANT.to_owned(), granted)])
    }

    pub(crate) fn allow(&self, tenant: &str, how: Use, topic: &str) -> bool {
        let granted = self.tenants.get(tenant).map(|granted| match how {
            Use::Read => &granted.topics_read,
            Use::Write => &granted.topics_write,
        });
        !is_weirs(topic)
            && granted.is_some_and(|patterns| patterns.iter().any(|p| matches(p, topic)))
    }
}

impl Grants {
    /// Whether a tenant's sinks may write a table of a destination. Weir's own tables are never meant.
    pub fn allow_table(&self, tenant: &str, destination: &str, table: &str) -> bool {
        let name = format!("{destination}/{table}");
        let granted = self.tenants.get(tenant);
        let is_own = table.rsplit('.').next().is_none_or(is_weirs);
        !is_own && granted.is_some_and(|granted| granted.tables.iter().any(|p| matches(p, &name)))
    }
}

impl FromIterator<(String, Granted)> for Grants {
    fn from_iter<I: IntoIterator<Item = (String, Granted)>>(tenants: I) -> Self {
        Self {
            tenants: tenants.into_iter().collect(),
        }
    }
}

impl Granted {
    /// What is wrong with a name of a topic, in words.
    pub fn fault(pattern: &str) -> Option<String> {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.contains('*') {
            return Some(format!("\"{pattern}\" has a * that is not its end"));
        }
        if pattern.is_empty() || !name.bytes().all(known) {
            return Some(format!("\"{pattern}\" is no topic's name"));
        }
        if is_weirs(pattern) {
            return Some(format!(
                "\"{pattern}\" is refused: topics that begin with \"weir\" are Weir's own"
            ));
        }
        None
    }
}

impl Granted {
    /// What is wrong with a table, in words.
    pub fn table_fault(pattern: &str) -> Option<String> {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let whole = pattern == "*" || name.split_once('/').is_some_and(|(to, _)| !to.is_empty());
        if !whole || name.contains('*') {
            return Some(format!(
                "\"{pattern}\" names no table; write DESTINATION/TABLE, such as \"shop/sales.orders\", a * at the end for any rest"
            ));
        }
        None
    }
}

fn is_weirs(topic: &str) -> bool {
    topic.to_ascii_lowercase().starts_with("weir")
}

fn matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => topic.starts_with(beginning),
        None => pattern == topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let granted = Granted {
            topics_read: list(&["orders", "shop.*"]),
            topics_write: list(&["*"]),
            tables: list(&["shop/orders", "shop/sales.*"]),
        };
        let grants = Grants::from_iter([("a".to_owned(), granted)]);
        for (tenant, how, topic, expected) in [
            ("a", Use::Read, "orders", true),
            ("a", Use::Read, "orders2", false),
            ("a", Use::Read, "shop.x", true),
            ("a", Use::Read, "shop", false),
            ("a", Use::Write, "anything", true),
            ("a", Use::Write, "weir.x", false),
            ("a", Use::Write, "Weirs", false),
            ("b", Use::Read, "orders", false),
        ] {
            assert_eq!(
                grants.allow(tenant, how, topic),
                expected,
                "{tenant} {how:?} {topic}"
            );
        }
        for (tenant, destination, table, expected) in [
            ("a", "shop", "orders", true),
            ("a", "shop", "sales.x", true),
            ("a", "shop", "sales.weir_positions", false),
            ("a", "shop", "public.orders", false),
            ("a", "other", "orders", false),
            ("b", "shop", "orders", false),
        ] {
            let allowed = grants.allow_table(tenant, destination, table);
            assert_eq!(allowed, expected, "{tenant} {destination} {table}");
        }
        assert!(Granted::table_fault("shop/orders*").is_none());
        assert!(Granted::table_fault("*").is_none());
        assert!(Granted::table_fault("orders").is_some());
        assert!(Grants::everything().allow("default", Use::Read, "x"));
        assert!(!Grants::default().allow("default", Use::Read, "x"));
    }

    #[test]
    fn faults() {
        for good in ["orders", "shop.*", "*", "a_b-C.1"] {
            assert_eq!(Granted::fault(good), None, "{good}");
        }
        for bad in ["", "a*b", "**", "*a", "a b", "weir.x", "WEIR*", "ä"] {
            assert!(Granted::fault(bad).is_some(), "{bad}");
        }
    }
}
