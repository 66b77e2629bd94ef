//! Section 2, "Parameters", and the errors of them.

crate::conformance!(all:
    what_is_required_and_missing_is_named,
    container_ids_are_checked,
    interface_names_are_checked,
    an_unknown_command_is_an_error,
    extra_arguments_may_be_there,
    a_namespace_that_is_none_is_an_error,
);
mod ours {
    crate::conformance!(ours, "libcni's skeleton prints its version and ends with 0":
        no_command_is_an_error);
    use super::cases;
}

mod cases {
    use crate::Ground;
    use crate::ground::kernel;

    pub fn what_is_required_and_missing_is_named(ground: &mut Ground) {
        let container = ground.container("c1");
        for (command, required) in [
            ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
            ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
            ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ] {
            for name in required {
                let call = ground.call(command, &container, &ground.conf());
                let text = call.without(name).run(&ground.node).fails_with(4);
                assert!(text.contains(name), "{command} without {name}: {text}");
                let call = ground.call(command, &container, &ground.conf());
                call.env(name, "").run(&ground.node).fails_with(4);
            }
        }
        assert_eq!(kernel(&container, "eth0"), None);
    }

    pub fn container_ids_are_checked(ground: &mut Ground) {
        let container = ground.container("c1");
        for id in ["-a", "_a", ".", "a/b", "a b", "a:b", "a;b", "ä"] {
            for command in ["ADD", "DEL"] {
                let call = ground.call(command, &container, &ground.conf());
                call.env("CNI_CONTAINERID", id).run(&ground.node).fails_with(4);
            }
        }
        for id in ["a", "0", "Zz_.-9"] {
            let add = ground.call("ADD", &container, &ground.conf()).env("CNI_CONTAINERID", id);
            add.run(&ground.node).result();
            let del = ground.call("DEL", &container, &ground.conf()).env("CNI_CONTAINERID", id);
            del.run(&ground.node).silence();
        }
    }

    pub fn interface_names_are_checked(ground: &mut Ground) {
        let container = ground.container("c1");
        for name in [".", "..", "a/b", "a:b", "a b", "a\tb", "a\nb", "0123456789abcdef"] {
            for command in ["ADD", "DEL"] {
                let call = ground.call(command, &container, &ground.conf());
                call.env("CNI_IFNAME", name).run(&ground.node).fails_with(4);
            }
        }
        for name in ["e", "0123456789abcde", "net-1.5"] {
            let add = ground.call("ADD", &container, &ground.conf()).env("CNI_IFNAME", name);
            add.run(&ground.node).result();
            assert!(kernel(&container, name).is_some(), "{name}");
            let del = ground.call("DEL", &container, &ground.conf()).env("CNI_IFNAME", name);
            del.run(&ground.node).silence();
        }
    }

    pub fn an_unknown_command_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        for command in ["REMOVE", "add", "ADD ", "ADDDEL"] {
            ground.run(command, &container, &ground.conf()).fails_with(4);
        }
    }

    pub fn no_command_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        let call = ground.call("ADD", &container, &ground.conf());
        let text = call.without("CNI_COMMAND").run(&ground.node).fails_with(4);
        assert!(text.contains("CNI_COMMAND"), "{text}");
    }

    pub fn extra_arguments_may_be_there(ground: &mut Ground) {
        let container = ground.container("c1");
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;ABC=123";
        let add = ground.call("ADD", &container, &ground.conf()).env("CNI_ARGS", args);
        add.run(&ground.node).result();
        let del = ground.call("DEL", &container, &ground.conf()).env("CNI_ARGS", args);
        del.run(&ground.node).silence();
    }

    pub fn a_namespace_that_is_none_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        let file = ground.lab.write("file", "");
        for path in ["/nonexistent", file.to_str().expect("ASCII"), "/proc/self/ns/mnt"] {
            let call = ground.call("ADD", &container, &ground.conf()).env("CNI_NETNS", path);
            call.run(&ground.node).error();
            // As a runtime does after a failure, with nothing to be found there.
            ground.del(&container);
        }
    }
}
