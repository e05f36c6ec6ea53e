//! What the graph says under the step's `settings`.

use serde::de::DeserializeOwned;

use crate::Failure;

/// The step's settings, typed. Settings that do not fit are `Fatal`: no event of this graph can work with them.
pub fn settings<T: DeserializeOwned>() -> Result<T, Failure> {
    parse(&text())
}

/// Cheap to ask each time: a small object. Whoever measures otherwise may keep it in a `static`; it never changes within an instance.
fn text() -> String {
    #[cfg(target_family = "wasm")]
    return crate::bindings::weir::step::settings::get();
    #[cfg(not(target_family = "wasm"))]
    std::env::var("WEIR_STEP_SETTINGS").unwrap_or_else(|_| "{}".into())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|e| Failure::Fatal(format!("the step's `settings` do not fit: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_are_fatal() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Settings {
            currency: String,
        }
        assert_eq!(
            parse::<Settings>(r#"{"currency":"EUR"}"#).ok(),
            Some(Settings {
                currency: "EUR".into()
            })
        );
        let Err(Failure::Fatal(why)) = parse::<Settings>("{}") else {
            panic!("a field is missing");
        };
        assert!(why.contains("missing field `currency`"), "{why}");
    }
}
