//! ADD.

crate::conformance!(all:
    the_interface_is_there_as_the_result_says,
    it_forwards_before_the_result,
    a_name_that_is_taken_is_an_error,
    a_second_add_is_an_error_and_harms_nothing,
    one_container_has_several_interfaces,
    each_interface_may_have_a_default_route,
    containers_are_added_at_the_same_time,
    a_hardware_address_is_honoured,
);
mod own {
    crate::conformance!(own_ipam, "host-local and bridge read addresses from other keys":
        addresses_are_honoured);
    use super::cases;
}
mod ours {
    crate::conformance!(ours, "it is about the daemon":
        without_the_daemon_it_fails_at_once);
    use super::cases;
}

mod cases {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use podswitch_tests::{Netns, ping};
    use serde_json::{Value, json};

    use crate::Ground;
    use crate::ground::{addresses, kernel};

    pub fn the_interface_is_there_as_the_result_says(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        let interfaces = result["interfaces"].as_array().expect("a list");
        let inside = interfaces.iter().find(|i| i["name"] == "eth0").expect("the container's");
        assert_eq!(inside["sandbox"], container.path());
        let link = kernel(&container, "eth0").expect("the interface");
        assert_eq!(inside["mac"], link["address"]);
        assert_eq!(link["operstate"], "UP");
        let told: HashSet<String> = result["ips"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|ip| ip["address"].as_str().expect("an address").to_owned())
            .collect();
        assert_eq!(told, addresses(&container, "eth0").into_iter().collect());
        for route in result["routes"].as_array().expect("a list") {
            let dst = route["dst"].as_str().expect("a prefix");
            let family = if dst.contains(':') { "-6" } else { "-4" };
            assert!(container.ip(&format!("{family} route show {dst}")).contains("eth0"), "{dst}");
        }
        // The node's end, too, is told as it is.
        let outside = interfaces.iter().filter(|i| i.get("sandbox").is_none());
        for interface in outside {
            let name = interface["name"].as_str().expect("a name");
            let link = kernel(&ground.node, name).expect("the interface");
            assert_eq!(interface["mac"], link["address"], "{name}");
        }
        ground.del(&container);
    }

    pub fn it_forwards_before_the_result(ground: &mut Ground) {
        let (one, other) = (ground.container("c1"), ground.container("c2"));
        let result = ground.add(&one);
        for ip in result["ips"].as_array().expect("a list") {
            ping(&one, ip["gateway"].as_str().expect("a gateway"));
        }
        let result = ground.add(&other);
        for ip in result["ips"].as_array().expect("a list") {
            let address = ip["address"].as_str().expect("an address");
            ping(&one, address.split('/').next().expect("an address"));
        }
        ground.del(&one);
        ground.del(&other);
    }

    pub fn a_name_that_is_taken_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        container.ip("link add eth0 type veth peer name other0");
        let before = kernel(&container, "eth0");
        ground.run("ADD", &container, &ground.conf()).error();
        assert_eq!(kernel(&container, "eth0"), before);
        container.ip("link del eth0");
        ground.del(&container);
    }

    pub fn a_second_add_is_an_error_and_harms_nothing(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        let (before, allocated) = (addresses(&container, "eth0"), ground.allocated());
        ground.run("ADD", &container, &ground.conf()).error();
        assert_eq!(addresses(&container, "eth0"), before);
        assert_eq!(ground.allocated(), allocated, "the address is still the container's");
        ping(&container, result["ips"][0]["gateway"].as_str().expect("a gateway"));
        ground.del(&container);
    }

    pub fn one_container_has_several_interfaces(ground: &mut Ground) {
        let container = ground.container("c1");
        let call = |command, ifname| {
            // One default route is enough.
            let mut conf = ground.conf();
            conf["isDefaultGateway"] = json!(false);
            if ground.delegates() {
                conf["ipam"]["routes"] = json!([]);
            }
            ground.call(command, &container, &conf).env("CNI_IFNAME", ifname)
        };
        call("ADD", "eth0").run(&ground.node).result();
        call("ADD", "net1").run(&ground.node).result();
        assert_ne!(addresses(&container, "eth0"), addresses(&container, "net1"));
        call("DEL", "eth0").run(&ground.node).silence();
        assert_eq!(kernel(&container, "eth0"), None);
        assert!(kernel(&container, "net1").is_some(), "the other one stays");
        call("DEL", "net1").run(&ground.node).silence();
    }

    pub fn each_interface_may_have_a_default_route(ground: &mut Ground) {
        let container = ground.container("c1");
        let call = |command, ifname, conf: Value| {
            ground.call(command, &container, &conf).env("CNI_IFNAME", ifname).run(&ground.node)
        };
        let results = ["eth0", "net1"].map(|ifname| call("ADD", ifname, ground.conf()).result());
        for (ifname, result) in ["eth0", "net1"].into_iter().zip(&results) {
            let routes = container.ip(&format!("route show default dev {ifname}"));
            assert!(routes.contains("10.244.1.1"), "{ifname}: {routes}");
            call("CHECK", ifname, ground.after(result)).silence();
        }
        call("DEL", "eth0", ground.conf()).silence();
        ping(&container, "10.244.1.1");
        call("DEL", "net1", ground.conf()).silence();
    }

    pub fn containers_are_added_at_the_same_time(ground: &mut Ground) {
        const COUNT: usize = 20;
        let containers: Vec<Netns> =
            (0..COUNT).map(|n| ground.container(&format!("c{n}"))).collect();
        let start = |command| {
            let calls = containers.iter().map(|c| ground.call(command, c, &ground.conf()));
            let running: Vec<_> = calls.map(|call| call.start(&ground.node)).collect();
            running.into_iter().map(|r| r.end()).collect::<Vec<_>>()
        };
        let results: Vec<_> = start("ADD").iter().map(|said| said.result()).collect();
        let distinct: HashSet<String> =
            results.iter().map(|r| r["ips"][0]["address"].to_string()).collect();
        assert_eq!(distinct.len(), COUNT);
        start("DEL").iter().for_each(|said| said.silence());
    }

    pub fn a_hardware_address_is_honoured(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["runtimeConfig"] = json!({"mac": "c2:11:22:33:44:55"});
        let result = ground.run("ADD", &container, &conf).result();
        assert_eq!(kernel(&container, "eth0").expect("eth0")["address"], "c2:11:22:33:44:55");
        assert!(result["interfaces"].to_string().contains("c2:11:22:33:44:55"));
        ping(&container, result["ips"][0]["gateway"].as_str().expect("a gateway"));
        ground.del(&container);
    }

    pub fn addresses_are_honoured(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["runtimeConfig"] = json!({"ips": ["10.244.1.77/24"]});
        ground.run("ADD", &container, &conf).result();
        assert!(addresses(&container, "eth0").contains(&"10.244.1.77/24".to_owned()));
        let other = ground.container("c2");
        ground.run("ADD", &other, &conf).error();
        ground.del(&other);
        ground.del(&container);
    }

    pub fn without_the_daemon_it_fails_at_once(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.daemon.take().expect("a daemon").finish();
        let socket = ground.lab.folder().join("node.sock");
        let start = Instant::now();
        let call = ground.call("ADD", &container, &ground.conf());
        let call = call.env("PODSWITCH_SOCKET", socket.to_str().expect("ASCII"));
        let text = call.run(&ground.node).fails_with(11);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(text.contains("systemctl start podswitch"), "{text}");
        assert_eq!(kernel(&container, "eth0"), None);
    }
}
