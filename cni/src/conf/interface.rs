//! What the pod's interface and its segment shall be: the keys of the reference bridge plugin, with
//! the same meaning, and `bandwidth`.

use podswitch_api::state::PodKind;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Ipam, decode, invalid};
use crate::error::{Code, Error};

/// The keys that are read here.
pub(super) const KEYS: &[&str] = &[
    "bandwidth",
    "bridge",
    "disableContainerInterface",
    "enabledad",
    "forceAddress",
    "hairpinMode",
    "ipMasq",
    "ipMasqBackend",
    "isDefaultGateway",
    "isGateway",
    "macspoofchk",
    "mtu",
    "portIsolation",
    "portType",
    "preserveDefaultVlan",
    "promiscMode",
    "vlan",
    "vlanTrunk",
];

/// The key that is read here under the name `key`: Go, which the reference plugins are written in, takes
/// small letters for capitals in the names of keys.
pub(super) fn key_of(key: &str) -> Option<&'static str> {
    KEYS.iter().copied().find(|known| known.eq_ignore_ascii_case(key))
}

/// The largest VLAN identifier (IEEE 802.1Q: 4095 is reserved).
const VLAN_MAX: i64 = 4094;

/// What the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The segment; none: the node's own.
    pub segment: Option<String>,
    /// The VLAN in it.
    pub vlan: Option<u16>,
    /// Whether the switch holds the gateway addresses and routes.
    pub gateway: bool,
    /// Whether the pod gets a default route through the gateway.
    pub default_route: bool,
    /// Whether pods reach the world under the node's address.
    pub masquerade: bool,
    /// The MTU of the pod's interface, in bytes.
    pub mtu: Option<u32>,
    /// What the pod's interface is; none: what the daemon makes by default.
    pub kind: Option<PodKind>,
    /// Whether frames must come from the pod's own addresses.
    pub anti_spoof: bool,
}

/// The keys as the reference bridge plugin has them. Those of `null` and those that are absent are
/// the same, as in Go.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Raw {
    bridge: Option<String>,
    is_gateway: Option<bool>,
    is_default_gateway: Option<bool>,
    #[serde(rename = "forceAddress")]
    _force_address: Option<bool>,
    ip_masq: Option<bool>,
    ip_masq_backend: Option<String>,
    mtu: Option<i64>,
    hairpin_mode: Option<bool>,
    promisc_mode: Option<bool>,
    vlan: Option<i64>,
    vlan_trunk: Option<Vec<Value>>,
    preserve_default_vlan: Option<bool>,
    macspoofchk: Option<bool>,
    #[serde(rename = "enabledad")]
    _enabledad: Option<bool>,
    disable_container_interface: Option<bool>,
    port_isolation: Option<bool>,
    port_type: Option<String>,
}

impl Interface {
    pub(super) fn read(document: &Map<String, Value>, ipam: &Ipam) -> Result<Interface, Error> {
        let mut keys = Map::new();
        for (key, value) in document {
            // Where there are several, the one that is written as it should be.
            if let Some(known) =
                key_of(key).filter(|known| known == key || !document.contains_key(*known))
            {
                keys.insert(known.to_owned(), value.clone());
            }
        }
        let raw: Raw = decode(&Value::Object(keys), "")?;

        let set = |flag: Option<bool>| flag.unwrap_or(false);
        let vlan = match raw.vlan.unwrap_or(0) {
            0 => None,
            id @ 1..=VLAN_MAX => u16::try_from(id).ok(),
            id => return Err(invalid("vlan", id, "a VLAN from 1 to 4094, or 0 for none")),
        };
        if raw.vlan_trunk.as_ref().is_some_and(|trunk| !trunk.is_empty()) {
            let value = Value::from(raw.vlan_trunk);
            return Err(unsupported("vlanTrunk", &value, "a pod is in one VLAN: use `vlan`"));
        }
        if vlan.is_some() && set(raw.preserve_default_vlan) {
            let cure = "a pod in a VLAN is in no other: set it to false";
            return Err(unsupported("preserveDefaultVlan", &Value::Bool(true), cure));
        }
        if set(raw.disable_container_interface) {
            let cure = "an interface is what a pod is plugged in by: leave the key out";
            return Err(unsupported("disableContainerInterface", &Value::Bool(true), cure));
        }
        if set(raw.port_isolation) {
            let cure = "pods of a segment hear each other: give the pod a `vlan` of its own";
            return Err(unsupported("portIsolation", &Value::Bool(true), cure));
        }
        if set(raw.hairpin_mode) && set(raw.promisc_mode) {
            let expected = "not both hairpinMode and promiscMode";
            return Err(invalid("hairpinMode", true, expected));
        }
        if let Some(backend) = raw.ip_masq_backend.as_deref().filter(|b| !b.is_empty())
            && !matches!(backend, "iptables" | "nftables")
        {
            return Err(invalid("ipMasqBackend", backend, "\"nftables\" or \"iptables\""));
        }
        let mtu = match raw.mtu.unwrap_or(0) {
            0 => None,
            mtu => match u32::try_from(mtu) {
                Ok(mtu @ 68..=65_535) => Some(mtu),
                _ => return Err(invalid("mtu", mtu, "68 to 65535 bytes, or 0 for the largest")),
            },
        };
        let own = matches!(ipam, Ipam::Node(_));
        let default_route = raw.is_default_gateway.unwrap_or(own);
        Ok(Interface {
            segment: raw.bridge.filter(|b| !b.is_empty()),
            vlan,
            gateway: raw.is_gateway.unwrap_or(own) || default_route,
            default_route,
            masquerade: set(raw.ip_masq),
            mtu,
            kind: raw.port_type.map(|text| kind("portType", &text)).transpose()?,
            // A promiscuous bridge is one whose pods speak for others.
            anti_spoof: raw.macspoofchk.unwrap_or(!set(raw.promisc_mode)),
        })
    }
}

/// What a pod's interface shall be, as `key` has it.
pub(super) fn kind(key: &str, text: &str) -> Result<PodKind, Error> {
    text.parse().map_err(|_| invalid(key, text, "\"veth\" or \"tap\""))
}

fn unsupported(key: &str, value: &Value, cure: &str) -> Error {
    Error::new(Code::UnsupportedField, format!("{key} = {value}: {cure}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value, ipam: &Ipam) -> Result<Interface, Error> {
        let Value::Object(document) = value else { panic!("an object") };
        Interface::read(&document, ipam)
    }

    fn host_local() -> Ipam {
        Ipam::Delegate("host-local".into())
    }

    #[test]
    fn the_least_configuration_gives_a_routed_pod() {
        let plain = read(json!({}), &Ipam::Node(vec![])).unwrap();
        assert!(plain.gateway && plain.default_route && plain.anti_spoof && !plain.masquerade);
        assert_eq!((plain.segment, plain.vlan, plain.mtu), (None, None, None));
    }

    #[test]
    fn with_a_delegate_the_keys_mean_what_the_bridge_plugin_means() {
        let conf = json!({"bridge": "cni0", "isGateway": true, "ipMasq": true, "mtu": 1450});
        let conf = read(conf, &host_local()).unwrap();
        assert_eq!(conf.segment.as_deref(), Some("cni0"));
        assert!(conf.gateway && conf.masquerade && !conf.default_route);
        assert_eq!(conf.mtu, Some(1450));
        let default = read(json!({"isDefaultGateway": true}), &host_local()).unwrap();
        assert!(default.gateway && default.default_route, "isDefaultGateway sets isGateway");
        let l2 = read(json!({}), &host_local()).unwrap();
        assert!(!l2.gateway && !l2.default_route);
    }

    #[test]
    fn the_type_of_the_interface() {
        let kind = |conf| read(conf, &host_local()).map(|i| i.kind);
        assert_eq!(kind(json!({})), Ok(None));
        assert_eq!(kind(json!({"portType": null})), Ok(None));
        assert_eq!(kind(json!({"portType": "veth"})), Ok(Some(PodKind::Veth)));
        assert_eq!(kind(json!({"portType": "tap"})), Ok(Some(PodKind::Tap)));
        let error = kind(json!({"portType": "TAP"})).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert_eq!(error.details, "portType = \"TAP\": expected \"veth\" or \"tap\"");
    }

    #[test]
    fn what_changes_nothing_is_taken() {
        let conf = json!({"forceAddress": true, "hairpinMode": true, "enabledad": true,
            "vlan": 0, "vlanTrunk": [], "mtu": 0, "preserveDefaultVlan": true,
            "ipMasqBackend": "nftables", "portIsolation": false, "bridge": null});
        assert_eq!(read(conf, &host_local()), read(json!({}), &host_local()));
    }

    #[test]
    fn what_the_switch_does_not_do_is_named_with_its_value() {
        let refused = |conf| {
            let error = read(conf, &host_local()).unwrap_err();
            assert_eq!(error.code, Code::UnsupportedField);
            error.details
        };
        assert_eq!(
            refused(json!({"vlanTrunk": [{"id": 5}]})),
            "vlanTrunk = [{\"id\":5}]: a pod is in one VLAN: use `vlan`"
        );
        assert!(refused(json!({"portIsolation": true})).starts_with("portIsolation = true: "));
        let key = "disableContainerInterface";
        assert!(refused(json!({key: true})).starts_with("disableContainerInterface = true: "));
        let conf = json!({"vlan": 7, "preserveDefaultVlan": true});
        assert!(refused(conf).starts_with("preserveDefaultVlan = true: "));
    }

    #[test]
    fn what_makes_no_sense() {
        for conf in [
            json!({"vlan": 4095}),
            json!({"vlan": -1}),
            json!({"mtu": -1}),
            json!({"mtu": 67}),
            json!({"mtu": 65_536}),
            json!({"hairpinMode": true, "promiscMode": true}),
            json!({"ipMasqBackend": "ebtables"}),
        ] {
            let error = read(conf.clone(), &host_local()).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{conf}");
        }
        let error = read(json!({"isGateway": "yes"}), &host_local()).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.details.starts_with("isGateway: invalid type"), "{}", error.details);
    }

    #[test]
    fn keys_are_known_by_their_letters() {
        let conf = json!({"ISGATEWAY": true, "ipmasq": true, "MTU": 1400, "mtu": 1450});
        let conf = read(conf, &host_local()).unwrap();
        assert!(conf.gateway && conf.masquerade);
        assert_eq!(conf.mtu, Some(1450));
    }

    #[test]
    fn who_may_speak_for_others() {
        let anti_spoof = |conf| read(conf, &host_local()).unwrap().anti_spoof;
        assert!(!anti_spoof(json!({"promiscMode": true})));
        assert!(!anti_spoof(json!({"macspoofchk": false})));
        assert!(anti_spoof(json!({"macspoofchk": true, "promiscMode": true})));
    }
}
