//! Chaining: `prevResult`, and plugins after ours.

crate::conformance!(all: a_later_plugin_may_change_the_interface);
mod ours {
    crate::conformance!(ours, "bridge leaves out what came before it":
        what_came_before_is_in_the_result, what_came_before_must_be_a_result);
    use super::cases;
}

mod cases {
    use std::path::Path;

    use podswitch_tests::cni::{Call, REFERENCE};
    use podswitch_tests::ping;
    use serde_json::json;

    use crate::Ground;
    use crate::ground::kernel;

    pub fn what_came_before_is_in_the_result(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["prevResult"] = json!({
            "cniVersion": ground.newest(),
            "interfaces": [{"name": "net7", "mac": "02:00:00:00:00:07", "sandbox": "/elsewhere"}],
            "ips": [{"address": "192.0.2.7/24", "interface": 0}],
            "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let before = conf["prevResult"].clone();
        let result = ground.run("ADD", &container, &conf).result();
        assert_eq!(result["interfaces"][0], before["interfaces"][0]);
        assert_eq!(result["ips"][0], before["ips"][0]);
        assert_eq!(result["routes"][0], before["routes"][0]);
        assert_eq!(result["dns"], before["dns"]);
        let index = result["ips"][1]["interface"].as_u64().expect("an index");
        let index = usize::try_from(index).expect("small");
        assert_eq!(result["interfaces"][index]["name"], "eth0");
        if ground.newest() != "0.3.1" {
            ground.run("CHECK", &container, &ground.after(&result)).silence();
        }
        ground.run("DEL", &container, &ground.after(&result)).silence();
    }

    pub fn what_came_before_must_be_a_result(ground: &mut Ground) {
        let container = ground.container("c1");
        for before in [json!({"ips": "x"}), json!({"interfaces": {}}), json!([])] {
            let mut conf = ground.conf();
            conf["prevResult"] = before;
            let text = ground.run("ADD", &container, &conf).fails_with(6);
            assert!(text.contains("prevResult"), "{text}");
            assert_eq!(kernel(&container, "eth0"), None);
        }
    }

    pub fn a_later_plugin_may_change_the_interface(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        // The reference `tuning` plugin, in a runtime's place.
        let conf = json!({
            "cniVersion": "1.0.0", "name": crate::ground::NETWORK, "type": "tuning", "mtu": 1400,
            "sysctl": {"net.ipv4.conf.eth0.arp_announce": "2"},
            "prevResult": result, "dataDir": ground.lab.folder().display().to_string(),
        });
        let mut conf = conf;
        conf["prevResult"]["cniVersion"] = json!("1.0.0");
        let tuning = Call::new(&Path::new(REFERENCE).join("tuning"), "ADD", &conf)
            .env("CNI_CONTAINERID", container.name())
            .env("CNI_NETNS", container.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", REFERENCE);
        let tuned = tuning.run(&ground.node).result();
        assert_eq!(kernel(&container, "eth0").expect("eth0")["mtu"], 1400);
        ping(&container, result["ips"][0]["gateway"].as_str().expect("a gateway"));
        ground.run("CHECK", &container, &ground.after(&tuned)).silence();
        ground.run("DEL", &container, &ground.after(&tuned)).silence();
    }
}
