//! Which requests a graph's `http: { allow }` lets out. Pure.
//!
//! `host` grants https on port 443; `host:port` grants http and https on that port. Names are compared as the client reads them: in
//! lower case, international ones in their ASCII form, IPv4 addresses in any notation as the address that they are.

use url::{Host, Url};

/// The URL of a request that is granted, or why it is not.
pub(super) fn granted(uri: &http::Uri, allow: &[String]) -> Result<Url, String> {
    let url = Url::parse(&uri.to_string()).map_err(|e| format!("the URL cannot be read: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("\"{}\" is neither http nor https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds a user or password; send an Authorization header".into());
    }
    let host = url.host().ok_or("the URL names no host")?;
    let port = url.port_or_known_default().ok_or("the URL has no port")?;
    let fits = |entry: &String| {
        // as `schemas` reads it: a name, or a name and a port
        let (name, wanted) = match entry.rsplit_once(':') {
            Some((name, wanted)) => (name, wanted.parse::<u16>().ok()),
            None => (entry.as_str(), None),
        };
        let by_port = match wanted {
            Some(wanted) => port == wanted,
            None => port == 443 && url.scheme() == "https",
        };
        by_port && Host::parse(name).is_ok_and(|name| name == host.to_owned())
    };
    if allow.iter().any(fits) {
        return Ok(url);
    }
    let entry = match (url.scheme(), port) {
        ("https", 443) => host.to_string(),
        _ => format!("{host}:{port}"),
    };
    Err(format!(
        "the graph does not grant \"{entry}\"; add it to the step's `http: {{ allow }}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted_(uri: &str, allow: &[&str]) -> Result<Url, String> {
        let allow: Vec<String> = allow.iter().map(|&entry| entry.to_owned()).collect();
        let Ok(uri) = uri.parse() else {
            return Err("no URI".into());
        };
        granted(&uri, &allow)
    }

    #[test]
    fn what_is_named_is_granted_and_nothing_else() {
        let allow = ["api.example.com", "plain.example:8080", "bücher.example"];
        for uri in [
            "https://api.example.com/x?y=1",
            "https://API.Example.COM/",
            "https://api.example.com:443/",
            "http://plain.example:8080/",
            "https://plain.example:8080/",
            "https://xn--bcher-kva.example/",
        ] {
            assert!(granted_(uri, &allow).is_ok(), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.example/",
            "https://evil.example/api.example.com",
            "https://sub.api.example.com/",
            "https://plain.example/",
            "http://plain.example:80/",
            "https://user@api.example.com/",
            "https://api.example.com@evil.example/",
            "ftp://api.example.com/",
        ] {
            assert!(granted_(uri, &allow).is_err(), "{uri}");
        }
        let why = granted_("http://other.example:81/", &allow).unwrap_err();
        assert!(
            why.contains("\"other.example:81\"") && why.contains("allow"),
            "{why}"
        );
    }

    #[test]
    fn an_address_is_the_same_in_all_notations() {
        for uri in [
            "http://2130706433:80/",
            "http://0x7f.1:80/",
            "http://0177.0.0.1:80/",
        ] {
            let url = granted_(uri, &["127.0.0.1:80"]).unwrap();
            assert_eq!(url.host_str(), Some("127.0.0.1"), "{uri}");
        }
    }
}
