//! What a runtime wishes for one attachment: `runtimeConfig`, `args.cni` and `CNI_ARGS`, in the
//! order in which they override each other (the specification's CONVENTIONS.md).

use std::net::IpAddr;

use encap::Mac;
use podswitch_api::InterfaceAddr;
use podswitch_api::attachment::RateLimit;
use podswitch_api::state::PodKind;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::interface::kind;
use super::{decode, invalid};
use crate::error::{Code, Error};

/// What a runtime wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The MAC address.
    pub mac: Option<Mac>,
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// What the pod's interface is, instead of what the network's configuration says.
    pub kind: Option<PodKind>,
    /// What the pod may receive.
    pub ingress: Option<RateLimit>,
    /// What the pod may send.
    pub egress: Option<RateLimit>,
    /// Whether host ports are wanted of us, which a chained `portmap` does.
    pub port_mappings: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct RuntimeConfig {
    mac: Option<String>,
    ips: Option<Vec<String>>,
    bandwidth: Option<Bandwidth>,
    port_mappings: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct CniArgs {
    mac: Option<String>,
    ips: Option<Vec<String>>,
    port_type: Option<String>,
}

/// The keys of the reference bandwidth plugin: bits per second, and bits. containerd writes them with a
/// capital, which those who read JSON as Go does never notice.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Bandwidth {
    #[serde(alias = "IngressRate")]
    ingress_rate: Option<u64>,
    #[serde(alias = "IngressBurst")]
    ingress_burst: Option<u64>,
    #[serde(alias = "EgressRate")]
    egress_rate: Option<u64>,
    #[serde(alias = "EgressBurst")]
    egress_burst: Option<u64>,
}

impl Wishes {
    pub(super) fn read(document: &Map<String, Value>, args: &str) -> Result<Wishes, Error> {
        let runtime: RuntimeConfig = section(document, "runtimeConfig")?;
        let Args { cni } = section(document, "args")?;
        let cni = cni.unwrap_or_default();
        let environment = EnvironmentArgs::parse(args)?;

        let mac = first([("runtimeConfig.mac", runtime.mac), ("args.cni.mac", cni.mac)]);
        let mac = mac
            .map(|(key, text)| text.parse().map_err(|_| invalid(key, text, "a MAC address")))
            .transpose()?
            .or(environment.mac);

        let (key, ips) = match (runtime.ips, cni.ips) {
            (Some(ips), _) => ("runtimeConfig.ips", ips),
            (None, ips) => ("args.cni.ips", ips.unwrap_or_default()),
        };
        let ips = ips
            .iter()
            .map(|text| address(text).ok_or_else(|| invalid(key, text, "an IP address")))
            .collect::<Result<Vec<_>, _>>()?;
        let ips = if ips.is_empty() { environment.ip.into_iter().collect() } else { ips };

        let bandwidth = match runtime.bandwidth {
            Some(bandwidth) => bandwidth,
            None => section(document, "bandwidth")?,
        };
        let kind = cni.port_type.map(|text| kind("args.cni.portType", &text)).transpose()?;
        Ok(Wishes {
            mac,
            ips,
            kind,
            ingress: rate("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst)?,
            egress: rate("egress", bandwidth.egress_rate, bandwidth.egress_burst)?,
            port_mappings: runtime.port_mappings.is_some_and(|p| !p.is_empty()),
        })
    }
}

/// An address, with or without the length of a prefix, which the daemon knows better.
fn address(text: &str) -> Option<IpAddr> {
    let with_length = || text.parse::<InterfaceAddr>().ok().map(|a| a.addr());
    text.parse().ok().or_else(with_length)
}

/// The object under a key; `null` and nothing are an empty one.
fn section<T: Default + serde::de::DeserializeOwned>(
    document: &Map<String, Value>,
    key: &str,
) -> Result<T, Error> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => decode(value, key),
    }
}

/// The first text that is there and not empty, with its key.
fn first<const N: usize>(
    texts: [(&'static str, Option<String>); N],
) -> Option<(&'static str, String)> {
    texts.into_iter().find_map(|(key, text)| Some((key, text.filter(|t| !t.is_empty())?)))
}

/// A rate of zero is none, as for the reference plugin.
fn rate(which: &str, rate: Option<u64>, burst: Option<u64>) -> Result<Option<RateLimit>, Error> {
    match (rate.unwrap_or(0), burst.filter(|b| *b > 0)) {
        (0, None) => Ok(None),
        (0, Some(burst)) => {
            let key = format!("bandwidth.{which}Burst");
            Err(invalid(&key, burst, &format!("{which}Rate with it")))
        }
        (rate, burst) => Ok(Some(RateLimit { rate, burst })),
    }
}

/// `CNI_ARGS`: pairs `KEY=VALUE` with semicolons between them.
#[derive(Debug, Default, PartialEq)]
struct EnvironmentArgs {
    mac: Option<Mac>,
    ip: Option<IpAddr>,
}

impl EnvironmentArgs {
    fn parse(text: &str) -> Result<EnvironmentArgs, Error> {
        let refuse = |details| Err(Error::new(Code::InvalidEnvironment, details));
        let mut args = EnvironmentArgs::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let short = || pair.chars().take(64).collect::<String>();
            let Some((key, value)) = pair.split_once('=') else {
                return refuse(format!("CNI_ARGS: {:?}: expected KEY=VALUE", short()));
            };
            match key {
                "MAC" | "IP" if value.is_empty() => {}
                "MAC" => match value.parse() {
                    Ok(mac) => args.mac = Some(mac),
                    Err(_) => {
                        return refuse(format!("CNI_ARGS: {:?}: expected a MAC address", short()));
                    }
                },
                "IP" => match address(value) {
                    Some(ip) => args.ip = Some(ip),
                    None => {
                        return refuse(format!("CNI_ARGS: {:?}: expected an IP address", short()));
                    }
                },
                "IgnoreUnknown" => match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => ignore_unknown = true,
                    "0" | "false" => ignore_unknown = false,
                    _ => return refuse(format!("CNI_ARGS: {:?}: expected 1 or 0", short())),
                },
                _ => unknown.push(short()),
            }
        }
        match unknown.first() {
            Some(pair) if !ignore_unknown => refuse(format!(
                "CNI_ARGS: {pair:?}: expected MAC, IP or IgnoreUnknown, or IgnoreUnknown=1 beside it"
            )),
            _ => Ok(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value, args: &str) -> Result<Wishes, Error> {
        let Value::Object(document) = value else { panic!("an object") };
        Wishes::read(&document, args)
    }

    #[test]
    fn who_overrides_whom() {
        let all = json!({
            "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24", "fd00::1"]},
            "args": {"cni": {"mac": "02:00:00:00:00:02", "ips": ["10.0.0.2"]}},
        });
        let args = "MAC=02:00:00:00:00:03;IP=10.0.0.3/8";
        let wishes = read(all.clone(), args).unwrap();
        assert_eq!(wishes.mac, Some("02:00:00:00:00:01".parse().unwrap()));
        assert_eq!(wishes.ips, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);

        let fewer = json!({"args": all["args"].clone()});
        let wishes = read(fewer, args).unwrap();
        assert_eq!(wishes.mac, Some("02:00:00:00:00:02".parse().unwrap()));
        assert_eq!(wishes.ips, ["10.0.0.2".parse::<IpAddr>().unwrap()]);

        let wishes = read(json!({"runtimeConfig": null}), args).unwrap();
        assert_eq!(wishes.mac, Some("02:00:00:00:00:03".parse().unwrap()));
        assert_eq!(wishes.ips, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn one_pod_may_have_another_type() {
        let wishes = read(json!({"args": {"cni": {"portType": "tap"}}}), "").unwrap();
        assert_eq!(wishes.kind, Some(PodKind::Tap));
        let error = read(json!({"args": {"cni": {"portType": ""}}}), "").unwrap_err();
        assert_eq!(error.details, "args.cni.portType = \"\": expected \"veth\" or \"tap\"");
    }

    #[test]
    fn arguments_that_nobody_knows() {
        let kubernetes = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
        assert_eq!(read(json!({}), kubernetes), Ok(Wishes::default()));
        for args in ["K8S_POD_NAME=web", "FOO", "IgnoreUnknown=maybe", "IgnoreUnknown=0;FOO=BAR"] {
            let error = read(json!({}), args).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment, "{args}");
            assert!(error.details.starts_with("CNI_ARGS: "), "{}", error.details);
        }
        assert_eq!(read(json!({}), ";;"), Ok(Wishes::default()));
    }

    #[test]
    fn bandwidth_of_the_runtime_then_of_the_configuration() {
        let conf = json!({"bandwidth": {"ingressRate": 1000, "egressRate": 0}});
        let wishes = read(conf.clone(), "").unwrap();
        assert_eq!(wishes.ingress, Some(RateLimit { rate: 1000, burst: None }));
        assert_eq!(wishes.egress, None);
        let mut both = conf;
        both["runtimeConfig"] = json!({"bandwidth": {"egressRate": 5, "egressBurst": 9}});
        let wishes = read(both.clone(), "").unwrap();
        assert_eq!(wishes.ingress, None);
        assert_eq!(wishes.egress, Some(RateLimit { rate: 5, burst: Some(9) }));
        // As containerd 1.6 passes `kubernetes.io/ingress-bandwidth: 20M` on.
        both["runtimeConfig"] = json!({"bandwidth": {
            "IngressRate": 20_000_000, "IngressBurst": u32::MAX, "EgressRate": 0, "EgressBurst": 0,
        }});
        let wishes = read(both, "").unwrap();
        let limit = RateLimit { rate: 20_000_000, burst: Some(u32::MAX.into()) };
        assert_eq!((wishes.ingress, wishes.egress), (Some(limit), None));
        let error = read(json!({"bandwidth": {"ingressBurst": 9}}), "").unwrap_err();
        assert_eq!(error.details, "bandwidth.ingressBurst = 9: expected ingressRate with it");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (conf, code) in [
            (json!({"runtimeConfig": {"mac": "x"}}), Code::InvalidConfig),
            (json!({"runtimeConfig": {"ips": ["10.0.0"]}}), Code::InvalidConfig),
            (json!({"runtimeConfig": {"ips": [5]}}), Code::Decode),
            (json!({"runtimeConfig": {"bandwidth": {"ingressRate": -5}}}), Code::Decode),
            (json!({"args": 5}), Code::Decode),
            (json!({"runtimeConfig": []}), Code::Decode),
        ] {
            assert_eq!(read(conf.clone(), "").unwrap_err().code, code, "{conf}");
        }
        for ips in ["10.0.0.1/33", "10.0.0.1/x", "10.0.0.1/", " 10.0.0.1", "::1/129"] {
            let error = read(json!({"runtimeConfig": {"ips": [ips]}}), "").unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{ips:?}");
        }
        for args in ["MAC=zz", "MAC=02-00-00-00-00-01", "IP=10.0.0", "IP=10.0.0.1/33"] {
            let error = read(json!({}), args).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment, "{args}");
            assert!(error.details.starts_with(&format!("CNI_ARGS: {args:?}: ")), "{error}");
        }
        assert_eq!(read(json!({}), "MAC=;IP="), Ok(Wishes::default()));
    }
}
