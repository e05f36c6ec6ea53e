//! Where the registry is, and how it is asked.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use super::error::RegistryError;

/// Settings of a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The API's root, such as `http://registry:8081`; Apicurio's is `http://…/apis/ccompat/v7`.
    pub url: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// A request that takes longer is given up.
    pub timeout: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".to_owned(),
            user: None,
            password: None,
            timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Place::new(self).map(|place| place.shown);
        f.debug_struct("RegistryConfig")
            .field("url", &url.unwrap_or_else(|_| "***".to_owned()))
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A checked url, and who asks there.
pub(super) struct Place {
    pub(super) url: Url,
    /// The url without user and password, and without a slash at its end.
    pub(super) shown: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Place {
    /// User and password may stand in the url, too; its own fields win.
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let invalid = |why: String| RegistryError::Invalid {
            reason: format!(
                "the registry's url {why}; write it as http://HOST:PORT or https://HOST/PATH"
            ),
        };
        let mut url = Url::parse(config.url.trim())
            .map_err(|error| invalid(format!("cannot be read ({error})")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("is not one of HTTP".to_owned()));
        }
        let user = Some(url.username().to_owned()).filter(|user| !user.is_empty());
        let password = url.password().map(str::to_owned);
        // cannot fail: it has a host
        url.set_username("").ok();
        url.set_password(None).ok();
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self {
            shown: url.as_str().trim_end_matches('/').to_owned(),
            url,
            user: config.user.clone().or(user),
            password: config.password.clone().or(password),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RegistryConfig {
        RegistryConfig {
            url: url.to_owned(),
            ..RegistryConfig::default()
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let within = config("https://weir:hunter2@registry/apis/ccompat/v7/");
        let place = Place::new(&within).expect("a place");
        assert_eq!(place.shown, "https://registry/apis/ccompat/v7");
        assert_eq!(place.user.as_deref(), Some("weir"));
        assert_eq!(place.password.as_deref(), Some("hunter2"));
        let beside = RegistryConfig {
            password: Some("hunter2".to_owned()),
            ..config("http://registry:8081")
        };
        let broken = config("http//weir:hunter2@registry");
        for config in [&within, &beside, &broken] {
            assert!(!format!("{config:?}").contains("hunter2"));
        }
        let error = Place::new(&broken).err().expect("refused").to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.contains("http://HOST:PORT"), "{error}");
    }
}
