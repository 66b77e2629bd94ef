//! Results (section 5): read from delegated plugins and `prevResult`, written for the runtime, each
//! in the form of its version.

use std::net::IpAddr;

use encap::Prefix;
use podswitch_api::InterfaceAddr;
use podswitch_api::attachment::{Attachment, AttachmentIp, AttachmentRoute};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::conf::decode;
use crate::error::Error;
use crate::version::Version;

/// A result as another plugin gave it, in the form of any version: what this plugin looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<Ip>,
    /// The routes.
    pub routes: Vec<Route>,
    /// What it says of name resolution, as it says it.
    pub dns: Option<Map<String, Value>>,
}

/// An interface of a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as text.
    #[serde(default)]
    pub mac: Option<String>,
    /// The namespace it is in; none: the node's.
    #[serde(default)]
    pub sandbox: Option<String>,
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ip {
    /// The address, with the length of its prefix.
    pub address: InterfaceAddr,
    /// The gateway of that prefix.
    #[serde(default, deserialize_with = "address_or_empty")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default)]
    pub interface: Option<usize>,
}

/// A route of a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// The destinations; host bits are cut off, as Go does it.
    #[serde(deserialize_with = "destination")]
    pub dst: Prefix,
    /// The next hop.
    #[serde(default, deserialize_with = "address_or_empty")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The maximum segment size of TCP to advertise, in bytes.
    #[serde(default)]
    pub advmss: Option<u32>,
    /// The metric.
    #[serde(default)]
    pub priority: Option<u32>,
    /// The routing table.
    #[serde(default)]
    pub table: Option<u32>,
    /// The scope, as in rtnetlink.
    #[serde(default)]
    pub scope: Option<u8>,
}

fn destination<'de, D: Deserializer<'de>>(d: D) -> Result<Prefix, D::Error> {
    Ok(InterfaceAddr::deserialize(d)?.prefix())
}

/// Go writes an address that is not there as an empty string.
fn address_or_empty<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(d)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format_args!("{text:?}: expected an IP address"))),
    }
}

/// As it is read: what Go leaves out or writes as `null` is nothing.
#[derive(Deserialize)]
struct Raw {
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<Ip>>,
    routes: Option<Vec<Route>>,
    dns: Option<Map<String, Value>>,
}

impl Received {
    /// Reads a result; `from` names whose it is, for the error.
    ///
    /// # Errors
    /// [`Code::Decode`](crate::error::Code::Decode) when it is none.
    pub fn read(value: &Value, from: &str) -> Result<Received, Error> {
        let raw: Raw = decode(value, from)?;
        Ok(Received {
            interfaces: raw.interfaces.unwrap_or_default(),
            ips: raw.ips.unwrap_or_default(),
            routes: raw.routes.unwrap_or_default(),
            dns: raw.dns.filter(|dns| !dns.is_empty()),
        })
    }
}

impl From<Route> for AttachmentRoute {
    fn from(r: Route) -> AttachmentRoute {
        // Go leaves out what is zero, and zero means "the kernel's choice" to it.
        let set = |n: Option<u32>| n.filter(|n| *n > 0);
        AttachmentRoute {
            dst: r.dst,
            gw: r.gw,
            mtu: set(r.mtu),
            advmss: set(r.advmss),
            priority: set(r.priority),
            table: r.table,
            scope: r.scope,
        }
    }
}

/// The result of an ADD: the earlier plugins' with ours at the end.
pub fn render(
    version: Version,
    attachment: &Attachment,
    sandbox: &str,
    dns: Option<&Map<String, Value>>,
    previous: Option<&Map<String, Value>>,
) -> Value {
    let mut result = previous.cloned().unwrap_or_default();
    let mut append = |key: &str, more: Vec<Value>| -> usize {
        let list = result.entry(key).or_insert(Value::Null);
        if !list.is_array() {
            *list = Value::Array(Vec::new());
        }
        match list {
            Value::Array(list) => {
                let before = list.len();
                list.extend(more);
                before
            }
            _ => 0,
        }
    };
    let interfaces = interfaces(version, attachment, sandbox);
    // The pod's is the last of ours.
    let behind = interfaces.len() - 1;
    let container = append("interfaces", interfaces) + behind;
    append("ips", attachment.ips.iter().map(|ip| address(version, ip, container)).collect());
    append("routes", attachment.routes.iter().map(|r| route(version, r)).collect());
    match dns {
        Some(dns) => _ = result.insert("dns".to_owned(), Value::Object(dns.clone())),
        // Results before 1.0.0 have it always, as libcni writes them.
        None if version < Version::V1_0_0 => _ = result.entry("dns").or_insert(json!({})),
        None => {}
    }
    result.insert("cniVersion".to_owned(), version.as_str().into());
    Value::Object(result)
}

/// The node's end, where the kind of interface has one, and the pod's.
fn interfaces(version: Version, attachment: &Attachment, sandbox: &str) -> Vec<Value> {
    let node = attachment
        .dev
        .as_ref()
        .map(|dev| json!({"name": dev, "mac": attachment.dev_mac.unwrap_or_default().to_string()}));
    let pod = json!({
        "name": attachment.ifname,
        "mac": attachment.mac.to_string(),
        "sandbox": sandbox,
    });
    let mut interfaces: Vec<Value> = node.into_iter().chain([pod]).collect();
    if version >= Version::V1_1_0 {
        interfaces.iter_mut().for_each(|i| i["mtu"] = attachment.mtu.into());
    }
    interfaces
}

fn address(version: Version, ip: &AttachmentIp, interface: usize) -> Value {
    let mut out = json!({"address": ip.address.to_string(), "interface": interface});
    if let Some(gateway) = ip.gateway {
        out["gateway"] = gateway.to_string().into();
    }
    if version < Version::V1_0_0 {
        out["version"] = if ip.address.addr().is_ipv4() { "4" } else { "6" }.into();
    }
    out
}

fn route(version: Version, route: &AttachmentRoute) -> Value {
    let mut out = json!({"dst": route.dst.to_string()});
    if let Some(gw) = route.gw {
        out["gw"] = gw.to_string().into();
    }
    if version >= Version::V1_1_0 {
        let more = [
            ("mtu", route.mtu),
            ("advmss", route.advmss),
            ("priority", route.priority),
            ("table", route.table),
            ("scope", route.scope.map(u32::from)),
        ];
        for (key, value) in more {
            if let Some(value) = value {
                out[key] = value.into();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        serde_json::from_value(json!({
            "network": "n", "container_id": "c", "ifname": "eth0", "netns": "/run/netns/c",
            "port": "p", "segment": "default", "dev": "psw0", "dev_mac": "02:00:00:00:00:01",
            "mac": "02:00:00:00:00:02", "mtu": 1450,
            "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "scope": 0}],
        }))
        .unwrap()
    }

    #[test]
    fn each_version_has_its_form() {
        let result = |version| render(version, &attachment(), "/run/netns/c", None, None);
        assert_eq!(
            result(Version::V1_1_0),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "psw0", "mac": "02:00:00:00:00:01", "mtu": 1450},
                    {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1450,
                     "sandbox": "/run/netns/c"}
                ],
                "ips": [
                    {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1},
                    {"address": "fd00::5/64", "interface": 1}
                ],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "scope": 0}],
            })
        );
        let old = result(Version::V1_0_0);
        assert_eq!(old["interfaces"][1].get("mtu"), None);
        assert_eq!(old["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]));
        assert_eq!(old.get("dns"), None);
        for version in [Version::V0_3_1, Version::V0_4_0] {
            let old = result(version);
            assert_eq!(
                (&old["ips"][0]["version"], &old["ips"][1]["version"]),
                (&json!("4"), &json!("6"))
            );
            assert_eq!(old["dns"], json!({}));
        }
    }

    #[test]
    fn what_earlier_plugins_did_is_kept_to_the_letter() {
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "lo", "x": 1}],
            "ips": [{"address": "127.0.0.1/8", "interface": 0}],
            "routes": null,
            "dns": {"domain": "example"},
            "later": {"key": true},
        });
        let result = render(Version::V1_0_0, &attachment(), "/n", None, previous.as_object());
        assert_eq!(result["interfaces"][0], json!({"name": "lo", "x": 1}));
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        assert_eq!(result["ips"][0], previous["ips"][0]);
        assert_eq!(result["ips"][1]["interface"], 2, "the index counts theirs, too");
        assert_eq!(result["routes"].as_array().unwrap().len(), 1);
        assert_eq!((&result["dns"], &result["later"]), (&previous["dns"], &previous["later"]));
        let dns = json!({"nameservers": ["10.0.0.53"]});
        let result =
            render(Version::V1_0_0, &attachment(), "/n", dns.as_object(), previous.as_object());
        assert_eq!(result["dns"], dns);
    }

    #[test]
    fn what_go_writes_is_read() {
        let read = |value| Received::read(&value, "host-local");
        let result = read(json!({
            "cniVersion": "0.3.1",
            "ips": [{"version": "4", "address": "10.0.0.5/24", "gateway": ""}],
            "routes": [{"dst": "10.0.0.5/8", "gw": "10.0.0.1", "mtu": 0, "priority": 7}],
            "dns": {},
        }))
        .unwrap();
        assert_eq!(result.ips[0].gateway, None);
        assert_eq!(result.dns, None);
        let route = AttachmentRoute::from(result.routes[0].clone());
        assert_eq!(
            (route.dst.to_string().as_str(), route.mtu, route.priority),
            ("10.0.0.0/8", None, Some(7))
        );
        assert_eq!(read(json!({"ips": null})), Ok(Received::default()));
        let error = read(json!({"ips": [{"address": "10.0.0.5"}]})).unwrap_err();
        assert_eq!(
            error.details,
            "host-local.ips[0].address: \"10.0.0.5\": expected an address with its prefix length \
             like 10.244.1.5/24"
        );
        assert!(read(json!({"ips": [{"address": "10.0.0.5/8", "interface": -1}]})).is_err());
    }
}
