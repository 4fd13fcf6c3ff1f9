//! docs/openapi.yaml as a program reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use boon::{Compiler, Draft, Schemas};
use serde_json::Value;

/// By this name its parts are told apart; nobody asks for it.
const NAME: &str = "http://openapi.invalid/runner.json";

pub(super) struct File {
    content: Value,
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: String,
    pub(super) path: String,
    /// `200`, `5XX`, `default`.
    pub(super) statuses: BTreeSet<String>,
    content: Value,
    /// Parameters of the path, and of the operation, by name in lower case: the schema of each, and whether it has to be there.
    headers: BTreeMap<String, (Value, bool)>,
}

impl File {
    pub(super) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.yaml");
        let content = yaml_serde::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        Self { content }
    }

    pub(super) fn version(&self) -> &str {
        self.content["info"]["version"].as_str().unwrap()
    }

    /// The names that a schema allows.
    pub(super) fn names(&self, schema: &str) -> Vec<String> {
        let names = self.schema(schema)["enum"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// What may stand in the middle of an idempotency key.
    pub(super) fn key_effects(&self) -> Vec<String> {
        let pattern = self.content["components"]["parameters"]["idempotencyKey"]["schema"]["pattern"].as_str();
        let (_, names) = pattern.unwrap().split_once('(').unwrap();
        let (names, _) = names.split_once(')').unwrap();
        names.split('|').map(str::to_owned).collect()
    }

    fn schema(&self, name: &str) -> &Value {
        let schema = &self.content["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema is named {name}");
        schema
    }

    /// Fails where a value is not as the schema of this name has it.
    pub(super) fn holds(&self, schema: &str, value: &Value) {
        self.at(&format!("/components/schemas/{schema}"), value);
    }

    fn at(&self, pointer: &str, value: &Value) {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.add_resource(NAME, self.content.clone()).unwrap();
        let mut schemas = Schemas::new();
        let index = compiler.compile(&format!("{NAME}#{pointer}"), &mut schemas).unwrap();
        if let Err(error) = schemas.validate(value, index) {
            panic!("{pointer}: {error:#}\n{value:#}");
        }
    }

    /// Follows `$ref` within the file.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.content.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// Those that have this tag.
    pub(super) fn operations(&self, tag: &str) -> Vec<Operation> {
        let mut found = Vec::new();
        for (path, item) in self.content["paths"].as_object().unwrap() {
            for method in ["get", "post", "put", "delete", "patch"] {
                let content = &item[method];
                if content["tags"] != serde_json::json!([tag]) {
                    continue;
                }
                let parameters = [&item["parameters"], &content["parameters"]]
                    .into_iter()
                    .filter_map(Value::as_array)
                    .flatten();
                let headers = parameters
                    .map(|parameter| self.resolved(parameter))
                    .filter(|parameter| parameter["in"] == "header")
                    .map(|header| {
                        let name = header["name"].as_str().unwrap().to_lowercase();
                        (name, (header["schema"].clone(), header["required"] == true))
                    })
                    .collect();
                found.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    statuses: content["responses"].as_object().unwrap().keys().cloned().collect(),
                    content: content.clone(),
                    headers,
                });
            }
        }
        assert!(!found.is_empty(), "no operation has the tag {tag}");
        found
    }

    /// What a schema allows a value to have, as `details.state` and `events[].type`.
    pub(super) fn declared(&self, schema: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.declare(self.schema(schema), "", &mut found);
        found
    }

    fn declare(&self, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        let schema = self.resolved(schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let at = joined(at, name);
            self.declare(property, &at, found);
            found.insert(at);
        }
        if schema["items"].is_object() {
            self.declare(&schema["items"], &format!("{at}[]"), found);
        }
        for one in schema["oneOf"].as_array().into_iter().flatten() {
            self.declare(one, at, found);
        }
    }
}

/// What a value has, spelled as in [`File::declared`]; what is below `but_below` may have any name.
pub(super) fn fields(value: &Value, but_below: &str) -> BTreeSet<String> {
    fn walk(value: &Value, at: &str, but_below: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) if at != but_below => {
                for (name, value) in fields {
                    let at = joined(at, name);
                    walk(value, &at, but_below, found);
                    found.insert(at);
                }
            }
            Value::Array(items) => {
                for item in items {
                    walk(item, &format!("{at}[]"), but_below, found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", but_below, &mut found);
    found
}

fn joined(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

impl Operation {
    /// What the file says of a status: its own, else of its hundred, else of any other.
    pub(super) fn response(&self, status: u16) -> (String, &Value) {
        let hundred = format!("{}XX", status / 100);
        let key = [status.to_string(), hundred, "default".to_owned()]
            .into_iter()
            .find(|key| self.statuses.contains(key))
            .unwrap_or_else(|| panic!("{} {}: the file does not know {status}", self.method, self.path));
        let response = &self.content["responses"][&key];
        (key, response)
    }

    /// The name of the schema of an answer's body, and its media type; none where it has no body.
    pub(super) fn answer(&self, status: u16) -> Option<(String, String)> {
        let (_, response) = self.response(status);
        let (media, content) = response["content"].as_object()?.iter().next()?;
        Some((schema_name(content), media.clone()))
    }

    /// The name of the schema of what is sent.
    pub(super) fn body(&self) -> Option<String> {
        let content = &self.content["requestBody"]["content"]["application/json"];
        content.is_object().then(|| schema_name(content))
    }

    /// Fails where the headers of a request are not as the file has them.
    pub(super) fn holds_headers(&self, sent: &reqwest::header::HeaderMap) {
        // OpenAPI has these elsewhere, or leaves them to HTTP.
        let https_own = ["host", "accept", "content-length", "content-type", "authorization"];
        for name in sent.keys() {
            let name = name.as_str();
            assert!(
                https_own.contains(&name) || self.headers.contains_key(name),
                "{} {}: the file has no header {name}",
                self.method,
                self.path
            );
        }
        for (name, (schema, required)) in &self.headers {
            let Some(value) = sent.get(name) else {
                assert!(!required, "{} {}: {name} was not sent", self.method, self.path);
                continue;
            };
            let mut compiler = Compiler::new();
            compiler.add_resource(NAME, schema.clone()).unwrap();
            let mut schemas = Schemas::new();
            let index = compiler.compile(NAME, &mut schemas).unwrap();
            let value = Value::from(value.to_str().unwrap());
            assert!(schemas.validate(&value, index).is_ok(), "{} {name}: {value}", self.path);
        }
    }

    pub(super) fn headers(&self) -> BTreeSet<String> {
        self.headers.keys().cloned().collect()
    }
}

fn schema_name(content: &Value) -> String {
    let reference = content["schema"]["$ref"]
        .as_str()
        .expect("bodies have a schema by name");
    reference.trim_start_matches("#/components/schemas/").to_owned()
}
