//! Section 5: results and errors in the form of each version.

crate::conformance!(all: each_version_has_its_form, errors_are_structures);
mod ours {
    crate::conformance!(ours, "Debian's plugins write fields of other versions, and none in errors":
        nothing_of_a_later_version_is_there, errors_have_the_version);
    use super::cases;
}

mod cases {
    use serde_json::{Value, json};

    use crate::Ground;

    /// Whether an object has all of these keys.
    fn has(object: &Value, keys: &[&str]) -> bool {
        keys.iter().all(|k| object.get(*k).is_some())
    }

    pub fn each_version_has_its_form(ground: &mut Ground) {
        let container = ground.container("c1");
        for version in ground.versions() {
            let result = ground.run("ADD", &container, &ground.conf_in(version)).result();
            assert_eq!(result["cniVersion"], *version);
            let interfaces = result["interfaces"].as_array().expect("a list");
            for interface in interfaces {
                assert!(has(interface, &["name", "mac"]), "{interface}");
            }
            let ips = result["ips"].as_array().expect("a list");
            assert!(!ips.is_empty());
            for ip in ips {
                let (address, length) =
                    ip["address"].as_str().and_then(|a| a.split_once('/')).expect("CIDR");
                let address: std::net::IpAddr = address.parse().expect("an address");
                length.parse::<u8>().expect("a length");
                let index = ip["interface"].as_u64().expect("an index");
                let interface = &interfaces[usize::try_from(index).expect("small")];
                assert_eq!(
                    interface["sandbox"],
                    container.path(),
                    "the address is the container's"
                );
                ip["gateway"].as_str().expect("a gateway").parse::<std::net::IpAddr>().expect("ip");
                match *version {
                    "0.3.1" | "0.4.0" => {
                        assert_eq!(ip["version"], if address.is_ipv4() { "4" } else { "6" });
                    }
                    _ => assert_eq!(ip.get("version"), None),
                }
            }
            for route in result["routes"].as_array().expect("a list") {
                assert!(route["dst"].as_str().expect("CIDR").contains('/'));
            }
            ground.del(&container);
        }
    }

    pub fn nothing_of_a_later_version_is_there(ground: &mut Ground) {
        let container = ground.container("c1");
        for version in ground.versions().iter().filter(|v| **v != "1.1.0") {
            let result = ground.run("ADD", &container, &ground.conf_in(version)).result();
            for interface in result["interfaces"].as_array().expect("a list") {
                assert_eq!(interface.get("mtu"), None, "{interface}");
            }
            for route in result["routes"].as_array().expect("a list") {
                for key in ["mtu", "advmss", "priority", "table", "scope"] {
                    assert_eq!(route.get(key), None, "{route}");
                }
            }
            ground.del(&container);
        }
    }

    pub fn errors_are_structures(ground: &mut Ground) {
        let container = ground.container("c1");
        let said = ground.call("ADD", &container, &ground.conf()).without("CNI_NETNS");
        let error = said.run(&ground.node).error();
        assert!(!error["msg"].as_str().expect("a message").is_empty());
        let said = ground.call("ADD", &container, &json!({})).input(b"{");
        said.run(&ground.node).error();
    }

    pub fn errors_have_the_version(ground: &mut Ground) {
        let container = ground.container("c1");
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let mut conf = ground.conf_in(version);
            conf["vlan"] = json!(5000);
            let error = ground.run("ADD", &container, &conf).error();
            assert_eq!(error["cniVersion"], version);
            assert!(error["details"].as_str().expect("a sentence").contains("vlan = 5000"));
            conf["name"] = json!("-");
            assert_eq!(ground.run("ADD", &container, &conf).error()["cniVersion"], version);
        }
    }
}
