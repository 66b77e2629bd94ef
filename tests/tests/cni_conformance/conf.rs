//! Section 1, the network configuration, and the errors of it.

crate::conformance!(all:
    garbage_is_a_decoding_failure,
    a_network_has_a_name,
    versions_that_are_not_spoken_are_refused,
    other_keys_may_be_there,
);
mod ours {
    crate::conformance!(ours, "bridge takes any values of these keys":
        what_is_unsupported_is_named_with_its_value, wrong_types_are_decoding_failures);
    use super::cases;
}

mod cases {
    use serde_json::json;

    use crate::Ground;
    use crate::ground::kernel;

    pub fn garbage_is_a_decoding_failure(ground: &mut Ground) {
        let container = ground.container("c1");
        for input in ["", "{", "garbage", "[]", "{\"name\":\"n\",}", "\u{0}"] {
            for command in ["ADD", "DEL", "CHECK"] {
                let call = ground.call(command, &container, &json!({})).input(input.as_bytes());
                call.run(&ground.node).fails_with(6);
            }
        }
    }

    pub fn a_network_has_a_name(ground: &mut Ground) {
        let container = ground.container("c1");
        for name in ["", "-n", "a/b", "a b", "../n"] {
            let mut conf = ground.conf();
            conf["name"] = name.into();
            ground.run("ADD", &container, &conf).fails_with(7);
        }
        let mut conf = ground.conf();
        conf.as_object_mut().expect("an object").remove("name");
        ground.run("ADD", &container, &conf).fails_with(7);
        assert_eq!(kernel(&container, "eth0"), None);
    }

    pub fn versions_that_are_not_spoken_are_refused(ground: &mut Ground) {
        let container = ground.container("c1");
        for version in ["9.9.9", "0.9.0", "1.5.0"] {
            for command in ["ADD", "DEL"] {
                ground.run(command, &container, &ground.conf_in(version)).fails_with(1);
            }
        }
    }

    pub fn other_keys_may_be_there(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["keyA"] = json!(["some more", "plugin specific", "configuration"]);
        conf["args"] = json!({"cni": {"labels": [{"key": "app", "value": "web"}]}});
        conf["cni.dev/anything"] = json!(true);
        ground.run("ADD", &container, &conf).result();
        ground.run("DEL", &container, &conf).silence();
    }

    pub fn what_is_unsupported_is_named_with_its_value(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["vlanTrunk"] = json!([{"id": 7}]);
        let text = ground.run("ADD", &container, &conf).fails_with(2);
        assert!(text.contains("vlanTrunk") && text.contains("id"), "{text}");
        // What ADD refuses must not keep the runtime from cleaning up.
        ground.run("DEL", &container, &conf).silence();
    }

    pub fn wrong_types_are_decoding_failures(ground: &mut Ground) {
        let container = ground.container("c1");
        for (key, value) in [("isGateway", json!("yes")), ("mtu", json!([])), ("name", json!(5))] {
            let mut conf = ground.conf();
            conf[key] = value;
            let text = ground.run("ADD", &container, &conf).fails_with(6);
            assert!(text.contains(key), "{text}");
        }
    }
}
