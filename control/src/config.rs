//! Reading the configuration file: TOML or JSON, every error a line with its place.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use podswitch_api::error::{FieldError, Place};
use podswitch_api::{Config, de};
use serde::de::IgnoredAny;
use toml::de::{DeTable, DeValue};

/// Everything that is wrong with a file, a line for each.
#[derive(Debug)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    fn one(line: String) -> ConfigError {
        ConfigError { lines: vec![line] }
    }

    /// What is wrong, a line for each, without line breaks inside.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Reads and validates a file; `-` is the standard input. A name that ends in `.json`, or a text
/// that begins with a brace, is JSON, everything else TOML.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        (PathBuf::from("<stdin>"), read.map(|_| text))
    } else {
        (path.to_owned(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|e| {
        ConfigError::one(format!("cannot read the configuration {}: {e}", name.display()))
    })?;
    let is_json =
        path.extension().is_some_and(|e| e == "json") || text.trim_start().starts_with('{');
    if is_json { parse_json(&name, &text) } else { parse_toml(&name, &text) }
}

/// A TOML text as a valid configuration. `name` is for the errors.
pub fn parse_toml(name: &Path, text: &str) -> Result<Config, ConfigError> {
    let at = |span: Option<Range<usize>>| match span {
        Some(span) => format!("{}:{}", name.display(), position(text, span.start)),
        None => name.display().to_string(),
    };
    let syntax = |e: toml::de::Error| {
        ConfigError::one(format!("{}: {}", at(e.span()), one_line(e.message())))
    };
    let document = toml::Deserializer::parse(text).map_err(syntax)?;
    let config: Config = serde_path_to_error::deserialize(document).map_err(|e| {
        let span = e.inner().span();
        // An error about a whole table has no one value to quote.
        let value = span.clone().and_then(|s| text.get(s)).unwrap_or_default();
        let value = if value.contains('\n') { "" } else { value };
        let error = de::field_error(e.path(), e.inner().message(), value.to_owned());
        ConfigError::one(format!("{}: {error}", at(span)))
    })?;
    config.validate().map_err(|errors| {
        let document = DeTable::parse(text).ok();
        let line = |e: &FieldError| {
            let span = document.as_ref().and_then(|d| find(d.get_ref(), &e.place));
            format!("{}: {e}", at(span))
        };
        ConfigError { lines: errors.iter().map(line).collect() }
    })?;
    Ok(config)
}

/// A JSON text as a valid configuration. `name` is for the errors.
pub fn parse_json(name: &Path, text: &str) -> Result<Config, ConfigError> {
    let config = decode_json(name, text)?;
    config.validate().map_err(|errors| ConfigError {
        lines: errors.iter().map(|e| format!("{}: {e}", name.display())).collect(),
    })?;
    Ok(config)
}

/// Reads a JSON file of the desired state's shape, which need not make sense by itself.
pub fn read_json(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError::one(format!("cannot read {}: {e}", path.display())))?;
    decode_json(path, &text)
}

fn decode_json(name: &Path, text: &str) -> Result<Config, ConfigError> {
    let name = name.display();
    let mut document = serde_json::Deserializer::from_str(text);
    let config: Config = serde_path_to_error::deserialize(&mut document).map_err(|e| {
        let (line, column) = (e.inner().line(), e.inner().column());
        let message = e.inner().to_string();
        // serde_json adds its own place.
        let message = message.split(" at line ").next().unwrap_or_default();
        let field = |message| de::field_error(e.path(), message, String::new()).to_string();
        let what = match e.inner().classify() {
            serde_json::error::Category::Data => field(message),
            // It is JSON: serde_json says no more of what is no word where there should be one.
            _ if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
                field("expected string or map")
            }
            _ => message.to_owned(),
        };
        ConfigError::one(format!("{name}:{line}:{column}: {what}"))
    })?;
    document.end().map_err(|e| ConfigError::one(format!("{name}: {e}")))?;
    Ok(config)
}

/// Where a field is: its own place, else its table's.
fn find(document: &DeTable<'_>, place: &Place) -> Option<Range<usize>> {
    let (name, section) = document.get_key_value(place.section)?;
    let (table, around) = match (section.get_ref(), place.index) {
        (DeValue::Array(list), Some(i)) => (list.get(i)?.get_ref(), list.get(i)?.span()),
        (table, _) => (table, name.span()),
    };
    let field = match table {
        DeValue::Table(table) => table.get_key_value(place.key).map(|(key, _)| key.span()),
        _ => None,
    };
    Some(field.unwrap_or(around))
}

/// `line:column` of a byte offset, both from 1, columns in characters.
fn position(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &[&str]) {
        let e = parse_toml(Path::new("node.toml"), text).unwrap_err();
        assert_eq!(e.lines(), expected, "{text}");
        assert!(e.lines().iter().all(|l| !l.contains('\n')), "one line each");
    }

    #[test]
    fn errors_have_a_place_a_key_and_a_cure() {
        refused(
            "[switch]\nwokers = 2\n",
            &["node.toml:2:1: switch.wokers: expected a known key; did you mean `workers`?"],
        );
        refused(
            "[switch]\n  workers = \"two\"\n",
            &["node.toml:2:13: switch.workers = \"two\": expected a whole number from 0 to 65535"],
        );
        refused(
            "[[port]]\ndev = \"eth1\"\n[[port]]\ndev = 2\n",
            &["node.toml:4:7: port[1].dev = 2: expected a string"],
        );
        refused(
            "[[tunnel]]\nname = \"t\"\nkind = \"vxlan\"\n",
            &["node.toml:1:1: tunnel[0].remote: expected a value: the key is required"],
        );
        refused(
            "[[route]]\nprefix = \"10.0.0.0/33\"\nvia = \"host\"\n",
            &["node.toml:2:10: route[0].prefix = \"10.0.0.0/33\": expected a prefix length of at \
               most 32 (IPv4) or 128 (IPv6)"],
        );
        refused(
            "[switch]\nbulk = false\n",
            &["node.toml:2:8: switch.bulk = false: expected a word in quotes"],
        );
        refused("[prot]\n", &["node.toml:1:2: prot: expected a known key; did you mean `port`?"]);
        refused(
            "[uplink]\n",
            &["node.toml:1:1: uplink.dev: expected a value: the key is required"],
        );
    }

    #[test]
    fn syntax_errors_are_one_line_too() {
        let e = parse_toml(Path::new("x"), "[switch\nworkers = 1").unwrap_err();
        assert_eq!(e.lines().len(), 1);
        assert!(e.lines()[0].starts_with("x:1:8: "), "{e}");
        assert!(!e.lines()[0].contains('\n'), "{e}");
    }

    #[test]
    fn what_makes_no_sense_is_reported_with_its_line() {
        refused(
            "[uplink]\ndev = \"uplink0\"\n\n[[tunnel]]\nname = \"node2\"\nkind = \"vxlan\"\n\
             remote = \"192.0.2.2\"\n\n[[port]]\nname = \"web\"\ndev = \"uplink0\"\n",
            &[
                "node.toml:11:1: port \"web\".dev = \"uplink0\": expected an interface that is \
                 free: [uplink] dev has this one",
                "node.toml:4:1: tunnel \"node2\".vni: expected a network identifier from 0 to \
                 16777215",
            ],
        );
        refused(
            "[node]\ngateway = true\n",
            &["node.toml:1:2: node.pod_cidrs = []: expected at least one prefix, since gateway = \
               true"],
        );
    }

    #[test]
    fn json_has_the_same_shape_and_the_same_errors() {
        let name = Path::new("a.json");
        let text = r#"{"port": [{"dev": "eth1"}, {"dev": "eth2"}]}"#;
        let toml = "[[port]]\ndev = \"eth1\"\n[[port]]\ndev = \"eth2\"\n";
        assert_eq!(parse_json(name, text).unwrap(), parse_toml(Path::new("a.toml"), toml).unwrap());
        let e = parse_json(name, r#"{"port": [{"dvv": "eth1"}]}"#).unwrap_err();
        assert_eq!(
            e.lines(),
            ["a.json:1:16: port[0].dvv: expected a known key; did you mean `dev`?"]
        );
        let e = parse_json(name, r#"{"switch": {"bulk": false}}"#).unwrap_err();
        assert_eq!(e.lines(), ["a.json:1:21: switch.bulk: expected a word in quotes"]);
        let e = parse_json(name, "{} {}").unwrap_err();
        assert_eq!(e.lines(), ["a.json: trailing characters at line 1 column 4"]);
    }

    #[test]
    fn the_smallest_configuration() {
        let config = parse_toml(
            Path::new("x"),
            "[switch]\nsocket = \"/run/podswitch/podswitch.sock\"   # optional\nworkers = 1\n\n\
             [[port]]\ndev = \"eth1\"\nsegment = \"default\"\n\n\
             [[port]]\ndev = \"eth2\"\nsegment = \"default\"\n",
        )
        .unwrap();
        let names: Vec<&str> = config.ports.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["eth1", "eth2"]);
    }
}
