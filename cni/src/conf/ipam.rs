//! Who allocates addresses: the key `ipam`.

use podswitch_api::attachment::AttachmentRoute;
use serde::Deserialize;

use super::invalid;
use crate::error::Error;
use crate::result::Route;

/// The name of the daemon's own allocator.
const OWN: &str = "podswitch";

/// The plugins that ask for addresses over the interface.
pub(super) const ASK_OVER_IT: &[&str] = &["dhcp"];

/// Who allocates addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Ipam {
    /// The daemon, out of the node's pod CIDRs: `ipam` is absent or names it. The routes are those
    /// that `ipam.routes` wants in the pod.
    Node(Vec<AttachmentRoute>),
    /// The plugin of this name, which this one executes (section 4).
    Delegate(String),
    /// Nobody: `"ipam": {}`, as for the reference bridge plugin.
    None,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Raw {
    r#type: Option<String>,
    routes: Option<serde_json::Value>,
}

impl Ipam {
    pub(super) fn from_raw(raw: Option<Raw>) -> Result<Ipam, Error> {
        let Some(Raw { r#type, routes }) = raw else {
            return Ok(Ipam::Node(Vec::new()));
        };
        match r#type.as_deref() {
            None | Some("") => Ok(Ipam::None),
            Some(OWN) => {
                let routes: Option<Vec<Route>> = match routes {
                    // Others' routes are their own affair.
                    Some(routes) => super::decode(&routes, "ipam.routes")?,
                    None => None,
                };
                let routes = routes.unwrap_or_default();
                Ok(Ipam::Node(routes.into_iter().map(AttachmentRoute::from).collect()))
            }
            Some(name) if is_file_name(name) => Ok(Ipam::Delegate(name.to_owned())),
            Some(name) => {
                let short: String = name.chars().take(64).collect();
                Err(invalid(
                    "ipam.type",
                    short,
                    "the file name of a plugin, such as \"host-local\"",
                ))
            }
        }
    }

    /// The delegated plugin's name.
    pub fn delegate(&self) -> Option<&str> {
        match self {
            Ipam::Delegate(name) => Some(name),
            _ => None,
        }
    }
}

fn is_file_name(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Code;

    fn ipam(value: Value) -> Result<Ipam, Error> {
        Ipam::from_raw(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn absent_is_ours_and_empty_is_nobody() {
        assert_eq!(ipam(Value::Null), Ok(Ipam::Node(vec![])));
        assert_eq!(ipam(json!({"type": "podswitch"})), Ok(Ipam::Node(vec![])));
        assert_eq!(ipam(json!({})), Ok(Ipam::None));
        assert_eq!(ipam(json!({"type": ""})), Ok(Ipam::None));
        assert_eq!(ipam(json!({"type": "dhcp"})), Ok(Ipam::Delegate("dhcp".into())));
    }

    #[test]
    fn routes_of_ours_are_read_and_those_of_others_are_not() {
        let Ok(Ipam::Node(routes)) =
            ipam(json!({"type": "podswitch", "routes": [{"dst": "10.9.0.0/16"}]}))
        else {
            panic!("ours")
        };
        assert_eq!(routes[0].dst, "10.9.0.0/16".parse().unwrap());
        assert!(ipam(json!({"type": "podswitch", "routes": [{"dst": "x"}]})).is_err());
        assert!(ipam(json!({"type": "other", "routes": 5})).is_ok());
    }

    #[test]
    fn a_type_is_a_file_name() {
        for name in ["../host-local", "a/b", "a\\b", ".", ".."] {
            assert_eq!(ipam(json!({"type": name})).unwrap_err().code, Code::InvalidConfig);
        }
    }
}
