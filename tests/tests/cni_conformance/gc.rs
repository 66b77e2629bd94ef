//! GC, which is there from 1.1.0 on: Debian's plugins do not have it, nor does bridge at all.

crate::conformance!(own_ipam, "host-local of Debian ends at 1.0.0":
    exactly_what_is_not_valid_is_removed,
    other_networks_are_left_alone,
    without_a_list_nothing_is_removed,
    the_path_is_required,
    it_is_there_from_1_1_0_on,
    the_daemon_is_missing,
);

mod cases {
    use serde_json::{Value, json};

    use crate::Ground;
    use crate::ground::{attachments, kernel};

    /// The configuration with these containers as those that are left.
    fn leaving(ground: &Ground, containers: &[&str]) -> Value {
        let mut conf = ground.conf();
        let list: Vec<Value> =
            containers.iter().map(|c| json!({"containerID": c, "ifname": "eth0"})).collect();
        conf["cni.dev/valid-attachments"] = list.into();
        conf
    }

    fn left(ground: &Ground) -> Vec<String> {
        let daemon = ground.daemon.as_ref().expect("a daemon");
        let mut names: Vec<String> =
            attachments(daemon).into_iter().map(|a| a.container_id).collect();
        names.sort();
        names
    }

    pub fn exactly_what_is_not_valid_is_removed(ground: &mut Ground) {
        let containers: Vec<_> = ["c1", "c2", "c3"].map(|n| ground.container(n)).into();
        for container in &containers {
            ground.add(container);
        }
        let names: Vec<&str> = containers.iter().map(|c| c.name()).collect();
        ground.bare("GC", &leaving(ground, &names)).run(&ground.node).silence();
        assert_eq!(left(ground), names, "all are valid");
        // Another interface of a container that is valid is not.
        let mut conf = ground.conf();
        conf["isDefaultGateway"] = json!(false);
        let extra = ground.call("ADD", &containers[0], &conf).env("CNI_IFNAME", "net1");
        extra.run(&ground.node).result();
        ground.bare("GC", &leaving(ground, &names[..2])).run(&ground.node).silence();
        assert_eq!(left(ground), names[..2]);
        assert_eq!(kernel(&containers[0], "net1"), None);
        assert_eq!(kernel(&containers[2], "eth0"), None);
        assert!(kernel(&containers[0], "eth0").is_some());
        ground.bare("GC", &leaving(ground, &[])).run(&ground.node).silence();
        assert!(left(ground).is_empty());
    }

    pub fn other_networks_are_left_alone(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        let mut conf = leaving(ground, &[]);
        conf["name"] = json!("another");
        ground.bare("GC", &conf).run(&ground.node).silence();
        assert_eq!(left(ground), [container.name()]);
        ground.del(&container);
    }

    pub fn without_a_list_nothing_is_removed(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        ground.bare("GC", &ground.conf()).run(&ground.node).fails_with(7);
        assert_eq!(left(ground), [container.name()]);
        ground.del(&container);
    }

    pub fn the_path_is_required(ground: &mut Ground) {
        let call = ground.bare("GC", &leaving(ground, &[])).without("CNI_PATH");
        assert!(call.run(&ground.node).fails_with(4).contains("CNI_PATH"));
    }

    pub fn it_is_there_from_1_1_0_on(ground: &mut Ground) {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let mut conf = leaving(ground, &[]);
            conf["cniVersion"] = version.into();
            ground.bare("GC", &conf).run(&ground.node).fails_with(1);
        }
    }

    pub fn the_daemon_is_missing(ground: &mut Ground) {
        let call = ground.bare("GC", &leaving(ground, &[]));
        let call = call.env("PODSWITCH_SOCKET", "/nonexistent/podswitch.sock");
        call.run(&ground.node).fails_with(11);
    }
}
