//! The network configuration that a runtime gives on the standard input (section 1).
//!
//! What every command needs is read here. What only ADD needs is read by ADD
//! ([`interface`], [`wishes`]): a configuration that ADD refuses must not keep DEL from cleaning
//! up after it.

pub mod interface;
pub mod ipam;
pub mod wishes;

use std::path::PathBuf;

use podswitch_api::attachment::ValidAttachment;
use podswitch_api::state::DEFAULT_SOCKET;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::env::{self, Environment};
use crate::error::{Code, Error};
use crate::version::Version;
pub use interface::Interface;
pub use ipam::Ipam;
pub use wishes::Wishes;

/// The key that GC finds the attachments in that are still valid.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// A network configuration: what every command needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conf {
    /// The version of the specification that the runtime speaks.
    pub version: Version,
    /// The network's name.
    pub name: String,
    /// Who allocates addresses.
    pub ipam: Ipam,
    /// Whether the interface is there before the delegated plugin is asked for addresses, and until it
    /// has released them.
    pub interface_first: bool,
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// The file that a line is appended to for each call.
    pub log: Option<PathBuf>,
    /// The whole of it, for what is read later.
    document: Map<String, Value>,
    /// The whole of it as it came, for delegated plugins.
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Common {
    name: Option<String>,
    ipam: Option<ipam::Raw>,
    interface_first: Option<bool>,
    socket: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Conf {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Code::Decode`] for what is no JSON object or has values of wrong types,
    /// [`Code::IncompatibleVersion`] for a `cniVersion` that is not ours, [`Code::InvalidConfig`]
    /// for a name that is missing or none.
    pub fn parse(bytes: Vec<u8>, env: &Environment) -> Result<Conf, Error> {
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(Code::Decode, format!("the standard input is not JSON: {e}"))
        })?;
        let Value::Object(document) = &value else {
            return Err(Error::new(Code::Decode, "the standard input is not a JSON object"));
        };
        let version = version(document)?;
        let document = document.clone();
        let common: Common = decode(&value, "")?;
        let name = common.name.unwrap_or_default();
        if !env::is_name(&name) {
            let short: String = name.chars().take(64).collect();
            return Err(invalid(
                "name",
                &short,
                "an alphanumeric character, then any of those, `_`, `.` and `-`",
            ));
        }
        let ipam = Ipam::from_raw(common.ipam)?;
        Ok(Conf {
            version,
            name,
            interface_first: ipam.delegate().is_some_and(|plugin| {
                common.interface_first.unwrap_or_else(|| ipam::ASK_OVER_IT.contains(&plugin))
            }),
            ipam,
            socket: common
                .socket
                .filter(|s| !s.as_os_str().is_empty())
                .or_else(|| env.socket.clone())
                .unwrap_or_else(|| DEFAULT_SOCKET.into()),
            log: common.log.filter(|l| !l.as_os_str().is_empty()),
            document,
            bytes,
        })
    }

    /// The configuration as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the key holds; JSON's `null` is nothing.
    fn key(&self, key: &str) -> Option<&Value> {
        self.document.get(key).filter(|v| !v.is_null())
    }

    /// The result of the plugins before this one in the chain, or of the last ADD.
    ///
    /// # Errors
    /// [`Code::Decode`] when it is no object.
    pub fn prev_result(&self) -> Result<Option<&Map<String, Value>>, Error> {
        match self.key("prevResult") {
            None => Ok(None),
            Some(Value::Object(result)) => Ok(Some(result)),
            Some(_) => Err(Error::new(Code::Decode, "prevResult: expected an object")),
        }
    }

    /// The `dns` of the configuration; none when it says nothing.
    ///
    /// # Errors
    /// [`Code::Decode`] when it is no object.
    pub fn dns(&self) -> Result<Option<&Map<String, Value>>, Error> {
        match self.key("dns") {
            None => Ok(None),
            Some(Value::Object(dns)) => Ok((!dns.is_empty()).then_some(dns)),
            Some(_) => Err(Error::new(Code::Decode, "dns: expected an object")),
        }
    }

    /// The attachments that GC leaves.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] when the key is missing: it must not be mistaken for "none".
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, Error> {
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct Attachment {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        let Some(value) = self.document.get(VALID_ATTACHMENTS) else {
            let details =
                format!("{VALID_ATTACHMENTS} is missing, without which GC removes nothing");
            return Err(Error::new(Code::InvalidConfig, details));
        };
        // An empty list of Go's is `null`.
        let list: Option<Vec<Attachment>> = decode(value, VALID_ATTACHMENTS)?;
        Ok(list
            .unwrap_or_default()
            .into_iter()
            .map(|a| ValidAttachment { container_id: a.container_id, ifname: a.ifname })
            .collect())
    }

    /// What the interface shall be, as the configuration says.
    pub fn interface(&self) -> Result<Interface, Error> {
        Interface::read(&self.document, &self.ipam)
    }

    /// What the runtime wishes for this attachment.
    pub fn wishes(&self, args: &str) -> Result<Wishes, Error> {
        Wishes::read(&self.document, args)
    }

    /// The keys that mean nothing to this plugin.
    pub fn unknown_keys(&self) -> Vec<&str> {
        let known = |key: &str| {
            const COMMON: &[&str] = &[
                "args",
                "capabilities",
                "cniVersion",
                "dns",
                "interfaceFirst",
                "ipam",
                "log",
                "name",
                "prevResult",
                "runtimeConfig",
                "socket",
                "type",
            ];
            COMMON.contains(&key) || interface::key_of(key).is_some() || key.starts_with("cni.dev/")
        };
        self.document.keys().map(String::as_str).filter(|key| !known(key)).collect()
    }
}

/// The version that a configuration asks for, if it is one of ours, whatever else is in it.
pub fn version_of(bytes: &[u8]) -> Option<Version> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        cni_version: String,
    }
    Version::parse(&serde_json::from_slice::<Asked>(bytes).ok()?.cni_version)
}

/// The version that the document asks for. Without one it is 0.1.0, as libcni has it, which is
/// none of ours.
fn version(document: &Map<String, Value>) -> Result<Version, Error> {
    let asked = match document.get("cniVersion") {
        None | Some(Value::Null) => "0.1.0",
        Some(Value::String(text)) if text.is_empty() => "0.1.0",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Error::new(Code::Decode, "cniVersion: expected a string")),
    };
    Version::parse(asked).ok_or_else(|| {
        let short: String = asked.chars().take(64).collect();
        let details = format!("cniVersion = {short:?}: expected one of {}", Version::list());
        Error::new(Code::IncompatibleVersion, details)
    })
}

/// A value of JSON under the key `at`; wrong types are refused by name.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let path = match (at, path.as_str()) {
            ("", ".") => "the standard input".to_owned(),
            ("", path) => path.to_owned(),
            (at, ".") => at.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        Error::new(Code::Decode, format!("{path}: {}", e.inner()))
    })
}

/// A value that makes no sense.
fn invalid(key: &str, value: impl core::fmt::Debug, expected: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("{key} = {value:?}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Conf, Error> {
        Conf::parse(text.as_bytes().to_vec(), &Environment::default())
    }

    fn refused(text: &str, code: Code, details: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (code, details), "{text}");
    }

    #[test]
    fn what_is_no_configuration() {
        let is = |text, details| refused(text, Code::Decode, details);
        is("", "the standard input is not JSON: EOF while parsing a value at line 1 column 0");
        is(r#"{"cniVersion": 1}"#, "cniVersion: expected a string");
        is(
            r#"{"cniVersion":"1.0.0","name":5}"#,
            "name: invalid type: integer `5`, expected a string",
        );
        is(
            r#"{"cniVersion":"1.0.0","name":"n","ipam":{"type":[]}}"#,
            "ipam.type: invalid type: sequence, expected a string",
        );
        is(
            r#"{"cniVersion":"1.0.0","name":"n","ipam":5}"#,
            "ipam: invalid type: integer `5`, expected an object",
        );
        assert_eq!(parse(&"[".repeat(100_000)).unwrap_err().code, Code::Decode);
        is("[]", "the standard input is not a JSON object");
        refused(
            "{}",
            Code::IncompatibleVersion,
            "cniVersion = \"0.1.0\": expected one of 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        );
    }

    #[test]
    fn names_and_versions() {
        assert_eq!(parse(r#"{"cniVersion":"0.3.1","name":"a"}"#).unwrap().version, Version::V0_3_1);
        for name in ["", "-a", "a/b", "a b"] {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"{name}"}}"#);
            assert_eq!(parse(&text).unwrap_err().code, Code::InvalidConfig, "{name:?}");
        }
        for version in ["0.2.0", "1.1", "9.9.9"] {
            let text = format!(r#"{{"cniVersion":"{version}","name":"n"}}"#);
            assert_eq!(parse(&text).unwrap_err().code, Code::IncompatibleVersion, "{version:?}");
        }
    }

    #[test]
    fn the_socket_is_the_keys_then_the_environments_then_the_default() {
        let env = Environment { socket: Some("/env".into()), ..Default::default() };
        let socket = |text: &str, env| Conf::parse(text.as_bytes().to_vec(), env).unwrap().socket;
        let with = r#"{"cniVersion":"1.0.0","name":"n","socket":"/conf"}"#;
        let without = r#"{"cniVersion":"1.0.0","name":"n","socket":""}"#;
        assert_eq!(socket(with, &env), PathBuf::from("/conf"));
        assert_eq!(socket(without, &env), PathBuf::from("/env"));
        assert_eq!(socket(without, &Environment::default()), PathBuf::from(DEFAULT_SOCKET));
    }

    #[test]
    fn gc_without_a_list_is_refused_and_a_null_list_is_empty() {
        let list = |key: &str| {
            let text = format!(r#"{{"cniVersion":"1.1.0","name":"n"{key}}}"#);
            parse(&text).unwrap().valid_attachments()
        };
        assert_eq!(list("").unwrap_err().code, Code::InvalidConfig);
        assert_eq!(list(r#","cni.dev/valid-attachments":null"#), Ok(vec![]));
        let error = list(r#","cni.dev/valid-attachments":[{"containerID":"a"}]"#).unwrap_err();
        assert_eq!(error.details, "cni.dev/valid-attachments.[0]: missing field `ifname`");
        let one = list(r#","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]"#);
        assert_eq!(
            one,
            Ok(vec![ValidAttachment { container_id: "a".into(), ifname: "eth0".into() }])
        );
    }

    #[test]
    fn unknown_keys_are_told() {
        let conf = parse(
            r#"{"cniVersion":"1.0.0","name":"n","type":"podswitch-cni","isGatway":true,"cni.dev/x":1}"#,
        );
        assert_eq!(conf.unwrap().unknown_keys(), ["isGatway"]);
    }
}
