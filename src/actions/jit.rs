//! The just-in-time configuration: Base64 of a JSON object, whose values are the official runner's files in Base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::secret::Secret;

/// The file with the runner's settings.
const SETTINGS: &str = ".runner";
const UPDATE: &str = "DisableUpdate";

/// The same configuration with self-update off: a runner that replaces itself is another one than the image has, and cannot
/// where it is read-only. None where it is not of the form that is known; it is then used as it came.
pub fn without_update(config: &Secret) -> Option<Secret> {
    let object = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let mut files = object(&STANDARD.decode(config.expose().trim()).ok()?)?;
    let settings = STANDARD.decode(files.get(SETTINGS)?.as_str()?).ok()?;
    // The listener writes its files with a mark of byte order, and so may GitHub.
    let mut settings = object(settings.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&settings))?;
    settings.retain(|name, _| !name.eq_ignore_ascii_case(UPDATE));
    settings.insert(UPDATE.to_owned(), Value::Bool(true));
    let settings = STANDARD.encode(Value::Object(settings).to_string());
    files.insert(SETTINGS.to_owned(), Value::String(settings));
    Some(Secret::new(STANDARD.encode(Value::Object(files).to_string())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn self_update_is_off_and_all_else_is_as_it_came() {
        let settings = json!({"AgentId": "7", "disableUpdate": "False", "Ephemeral": "True"});
        let files = json!({
            ".runner": STANDARD.encode(format!("\u{feff}{settings}")),
            ".credentials": "eyJ9",
        });
        let given = Secret::new(STANDARD.encode(files.to_string()));
        let made = without_update(&given).unwrap();
        let made: Value = serde_json::from_slice(&STANDARD.decode(made.expose()).unwrap()).unwrap();
        assert_eq!(made[".credentials"], "eyJ9");
        let settings = STANDARD.decode(made[".runner"].as_str().unwrap()).unwrap();
        let settings: Value = serde_json::from_slice(&settings).unwrap();
        assert_eq!(
            settings,
            json!({"AgentId": "7", "Ephemeral": "True", "DisableUpdate": true})
        );
    }

    #[test]
    fn what_is_of_another_form_is_left_alone() {
        for odd in [
            "",
            "not base64!",
            &STANDARD.encode("[]"),
            &STANDARD.encode("{\".runner\": 3}"),
        ] {
            assert!(without_update(&Secret::new(odd)).is_none(), "{odd}");
        }
    }
}
