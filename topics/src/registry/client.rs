//! Requests to the registry, and what their answers mean. No memory: each call is one question.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use schema_registry_converter::async_impl::schema_registry as asked;
use schema_registry_converter::async_impl::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredSchema, SchemaType, SuppliedSchema,
};
use schemas::avro::Avro;
use serde::Deserialize;
use serde_json::json;

use super::config::{Place, RegistryConfig};
use super::error::RegistryError;
use super::framing::SchemaId;
use super::memory::Heard;

/// How many schemas one may refer to, and they in turn.
const REFERENCES_MAX: usize = 64;

pub(super) struct Client {
    settings: SrSettings,
    /// For what the library has no function for.
    http: reqwest::Client,
    place: Place,
    timeout: Duration,
}

/// Why there is no answer, or another than was hoped for.
#[derive(Debug)]
struct Failed {
    /// `None`: none came, or it was no answer of a registry.
    status: Option<u16>,
    reason: String,
}

impl Failed {
    /// One that says nothing of what was asked.
    fn outage(&self) -> bool {
        match self.status {
            None => true,
            Some(status) => {
                status >= 500 || matches!(status, 401 | 403 | 407 | 408 | 425 | 429) || status < 400
            }
        }
    }

    fn outcome(&self) -> &'static str {
        match self.status {
            _ if self.outage() => "outage",
            Some(404) => "missing",
            _ => "refused",
        }
    }
}

impl Client {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let place = Place::new(config)?;
        let invalid = |error: &dyn std::fmt::Display| RegistryError::Invalid {
            reason: format!("the registry's client cannot be made: {error}"),
        };
        // settings come from weir.toml only, so no proxy of the environment
        let http = || reqwest::Client::builder().no_proxy();
        let mut builder = SrSettings::new_builder(place.shown.clone());
        builder.set_timeout(config.timeout).no_proxy();
        if let Some(user) = &place.user {
            builder.set_basic_authorization(user, place.password.as_deref());
        }
        let settings = builder.build_with(http()).map_err(|e| invalid(&e))?;
        let http = http().timeout(config.timeout).build();
        Ok(Self {
            settings,
            http: http.map_err(|e| invalid(&e))?,
            place,
            timeout: config.timeout,
        })
    }

    /// Without user and password.
    pub(super) fn at(&self) -> &str {
        &self.place.shown
    }

    /// The schema with an id, and all that it refers to, compiled.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Arc<Avro>, Heard> {
        let found = match id {
            SchemaId::Number(number) => asked::get_schema_by_id(number, &self.settings).await,
            SchemaId::Guid(_) => asked::get_schema_by_guid(&id.to_string(), &self.settings).await,
        };
        let found = self.noted(found).map_err(|failed| {
            let by = match id {
                SchemaId::Number(_) => "",
                SchemaId::Guid(_) => ", or cannot look schemas up by such an id",
            };
            self.heard(failed, &format!("schema {id}{by}"))
        })?;
        match &found.schema_type {
            SchemaType::Avro => {}
            other => {
                let kind = match other {
                    SchemaType::Protobuf => "Protobuf",
                    SchemaType::Json => "JSON Schema",
                    SchemaType::Other(kind) => kind,
                    _ => "another kind",
                };
                return Err(Heard::Not(format!("schema {id} is {kind}, not Avro")));
            }
        }
        let references = self.references(id, &found).await?;
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        match Avro::parse(&found.schema, &references) {
            Ok(avro) => Ok(Arc::new(avro)),
            Err(error) => Err(Heard::Not(format!("schema {id}: {error}"))),
        }
    }

    /// The texts of all schemas that one names, and of those that these name.
    async fn references(&self, id: SchemaId, of: &RegisteredSchema) -> Result<Vec<String>, Heard> {
        let mut texts = Vec::new();
        let mut seen = HashSet::new();
        let mut left = of.references.clone();
        while let Some(reference) = left.pop() {
            // the same one may be named by several
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(Heard::Not(format!(
                    "schema {id} refers to more than {REFERENCES_MAX} others"
                )));
            }
            let found = asked::get_referenced_schema(&self.settings, &reference).await;
            let found = self.noted(found).map_err(|failed| {
                let (subject, version) = (&reference.subject, reference.version);
                self.heard(
                    failed,
                    &format!("version {version} of \"{subject}\", to which schema {id} refers"),
                )
            })?;
            left.extend(found.references);
            texts.push(found.schema);
        }
        Ok(texts)
    }

    fn heard(&self, failed: Failed, what: &str) -> Heard {
        let at = self.at();
        match failed.status {
            Some(403) => Heard::Refused(format!(
                "the registry at {at} does not let this user see {what}: {}",
                failed.reason
            )),
            _ if failed.outage() => Heard::Outage(format!(
                "the registry at {at} cannot be asked: {}",
                failed.reason
            )),
            Some(404) => Heard::Missing(format!(
                "the registry at {at} has no {what}: {}",
                failed.reason
            )),
            _ => Heard::Not(format!(
                "the registry at {at} refuses {what}: {}",
                failed.reason
            )),
        }
    }

    /// The schema's id.
    pub(super) async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        checked(subject)?;
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let registered = asked::post_schema(&self.settings, subject.to_owned(), supplied).await;
        match self.noted(registered) {
            Ok(registered) => Ok(registered.id),
            Err(failed) => Err(self.refused(failed, subject)),
        }
    }

    /// Id and text of the newest version; `None`: there is no such subject.
    pub(super) async fn latest(
        &self,
        subject: &str,
    ) -> Result<Option<(u32, String)>, RegistryError> {
        checked(subject)?;
        let found = asked::get_schema_by_subject_and_version(&self.settings, subject, None).await;
        match self.noted(found) {
            Ok(found) => Ok(Some((found.id, found.schema))),
            Err(failed) if failed.status == Some(404) => Ok(None),
            Err(failed) => Err(self.refused(failed, subject)),
        }
    }

    pub(super) async fn compatible(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<(), RegistryError> {
        checked(subject)?;
        let path = ["compatibility", "subjects", subject, "versions"];
        let body = json!({"schema": schema, "schemaType": "AVRO"});
        // "verbose": it says why not
        match self
            .ask(Method::POST, &path, "verbose=true", Some(&body))
            .await
        {
            Ok(Compatibility {
                is_compatible: true,
                ..
            }) => Ok(()),
            Ok(Compatibility { messages, .. }) => Err(RegistryError::Incompatible {
                subject: subject.to_owned(),
                reason: if messages.is_empty() {
                    "the registry does not say why".to_owned()
                } else {
                    messages.join("; ")
                },
            }),
            // a subject without versions
            Err(failed) if failed.status == Some(404) => Ok(()),
            Err(failed) => Err(self.refused(failed, subject)),
        }
    }

    /// The level that subjects without one of their own have, such as `BACKWARD`.
    pub(super) async fn level(&self) -> Result<String, RegistryError> {
        let level: Result<Level, Failed> = self.ask(Method::GET, &["config"], "", None).await;
        match level {
            Ok(level) => Ok(level.compatibility_level),
            Err(failed) if failed.outage() => Err(self.unavailable(failed)),
            Err(failed) => Err(RegistryError::Refused {
                at: self.at().to_owned(),
                what: "to tell its compatibility level".to_owned(),
                reason: format!(
                    "{}; does its url lead to Confluent's API? Apicurio has it at /apis/ccompat/v7",
                    failed.reason
                ),
            }),
        }
    }

    fn refused(&self, failed: Failed, subject: &str) -> RegistryError {
        if failed.outage() {
            return self.unavailable(failed);
        }
        match failed.status {
            Some(409) => RegistryError::Incompatible {
                subject: subject.to_owned(),
                reason: failed.reason,
            },
            _ => RegistryError::Refused {
                at: self.at().to_owned(),
                what: format!("the schema for subject \"{subject}\""),
                reason: failed.reason,
            },
        }
    }

    fn unavailable(&self, failed: Failed) -> RegistryError {
        RegistryError::Unavailable {
            at: self.at().to_owned(),
            reason: failed.reason,
        }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failed> {
        let asked = self.sent(method, path, query, body).await;
        self.count(asked.as_ref().err());
        asked
    }

    async fn sent<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failed> {
        let mut url: Url = self.place.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = self.http.request(method, url);
        if let Some(user) = &self.place.user {
            request = request.basic_auth(user, self.place.password.as_deref());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let none = |error: reqwest::Error| Failed {
            status: None,
            reason: self.why(&error),
        };
        let answer = request.send().await.map_err(none)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(none);
        }
        let said = answer.json::<RawError>().await;
        Err(Failed {
            status: Some(status.as_u16()),
            reason: match said {
                Ok(said) => worded(status.as_u16(), &said.message),
                Err(_) => worded(status.as_u16(), ""),
            },
        })
    }

    /// Counts an answer of the library, and takes its error apart.
    fn noted<T>(&self, answer: Result<T, SRCError>) -> Result<T, Failed> {
        let answer = answer.map_err(|error| self.failed(&error));
        self.count(answer.as_ref().err());
        answer
    }

    fn failed(&self, error: &SRCError) -> Failed {
        let status = status(error);
        let source = error.source();
        let reason = match status {
            Some(status) => {
                let said = source.and_then(|source| source.downcast_ref::<RawError>());
                worded(status, said.map_or("", |said| &said.message))
            }
            None => match source.and_then(|source| source.downcast_ref::<reqwest::Error>()) {
                Some(error) => self.why(error),
                None => error.error.clone(),
            },
        };
        Failed { status, reason }
    }

    /// Without the url.
    fn why(&self, error: &reqwest::Error) -> String {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if error.is_timeout() {
            format!("it did not answer within {:?}", self.timeout)
        } else if error.is_connect() {
            format!("no connection: {cause}")
        } else if error.is_decode() {
            format!("its answer cannot be read: {cause}")
        } else {
            cause.to_string()
        }
    }

    fn count(&self, failed: Option<&Failed>) {
        let outcome = failed.map_or("ok", Failed::outcome);
        metrics::counter!("weir_registry_requests_total", "outcome" => outcome).increment(1);
        let up = if outcome == "outage" { 0.0 } else { 1.0 };
        metrics::gauge!("weir_registry_up").set(up);
    }
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel")]
    compatibility_level: String,
}

/// The library has the status in its words only: `… failed with status 404 Not Found`.
fn status(error: &SRCError) -> Option<u16> {
    let (_, rest) = error.error.split_once("failed with status ")?;
    rest.get(..3)?.parse().ok()
}

/// `404 Not Found: Schema 7 not found`
fn worded(status: u16, said: &str) -> String {
    let name = StatusCode::from_u16(status).ok();
    let name = name.and_then(|status| status.canonical_reason());
    let name = name.map_or(String::new(), |name| format!(" {name}"));
    // what the library says where the body is no JSON
    if said.is_empty() || said.starts_with("couldn't parse") {
        format!("{status}{name}")
    } else {
        format!("{status}{name}: {said}")
    }
}

/// The library puts a subject into a url as it is.
fn checked(subject: &str) -> Result<(), RegistryError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:$".contains(c);
    if subject.is_empty() || !subject.chars().all(fits) {
        return Err(RegistryError::Invalid {
            reason: format!("{subject:?} is no subject; it has letters, digits, dots, hyphens"),
        });
    }
    Ok(())
}
