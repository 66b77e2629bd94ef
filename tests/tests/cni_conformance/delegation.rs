//! Section 4: delegated plugins, played by a script that writes down what it is given.

crate::conformance!(delegating:
    it_gets_the_same_environment_and_configuration,
    its_complaints_are_passed_on,
    a_plugin_that_is_missing_is_an_error,
    its_errors_are_ours,
    what_it_allocated_is_released_when_a_later_step_fails,
);
mod ours {
    crate::conformance!(ours_delegating, "bridge does not undo a delegate's failure, and has no GC":
        its_failed_add_is_followed_by_its_del, gc_and_status_are_passed_on, a_lingering_one_is_waited_for);
    use super::cases;
}

mod cases {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use podswitch_tests::Netns;
    use serde_json::{Value, json};

    use crate::ground::kernel;
    use crate::{Ground, Subject};

    /// Writes the script; `body` says what it does for each `$CNI_COMMAND`.
    fn script(ground: &Ground, body: &str) {
        let folder = ground.lab.folder().display();
        let text = format!(
            "#!/bin/sh\ncat > {folder}/input.$CNI_COMMAND\nenv | grep ^CNI_ | sort > \
             {folder}/env.$CNI_COMMAND\necho $CNI_COMMAND >> {folder}/commands\n\
             case $CNI_COMMAND in\n{body}\n*) ;;\nesac\n"
        );
        let path = ground.lab.write("fake-ipam", &text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("a script of ours");
    }

    /// What the script was executed for since it was last asked.
    fn commands(ground: &Ground) -> String {
        let path = ground.lab.folder().join("commands");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // Not there yet is as good as empty.
        let _ = std::fs::remove_file(path);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn conf(ground: &Ground) -> Value {
        let mut conf = ground.conf();
        conf["ipam"] = json!({"type": "fake-ipam", "key": [1, "two", {"three": 3.5}]});
        conf
    }

    const GOOD: &str = r#"ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.5/24","gateway":"10.9.0.1"}],"dns":{"nameservers":["10.9.0.53"]}}';;"#;

    fn container(ground: &Ground) -> Netns {
        ground.container("c1")
    }

    pub fn it_gets_the_same_environment_and_configuration(ground: &mut Ground) {
        let container = container(ground);
        script(ground, GOOD);
        let mut conf = conf(ground);
        let mut result = Value::Null;
        for command in ["ADD", "CHECK", "DEL"] {
            if command != "ADD" {
                conf["prevResult"] = result.clone();
            }
            let call = ground.call(command, &container, &conf);
            let call = call.env("CNI_ARGS", "IgnoreUnknown=1;FOO=BAR");
            let said = call.run(&ground.node);
            if command == "ADD" {
                result = said.result();
                assert_eq!(result["ips"][0]["address"], "10.9.0.5/24");
                // Debian's bridge leaves it out.
                if ground.subject != Subject::Reference {
                    assert_eq!(result["dns"]["nameservers"][0], "10.9.0.53");
                }
            } else {
                said.silence();
            }
            let file = |kind| {
                let path = ground.lab.folder().join(format!("{kind}.{command}"));
                std::fs::read_to_string(path).expect("the script wrote it")
            };
            assert_eq!(file("input"), conf.to_string(), "byte for byte");
            let mut expected: Vec<String> = call
                .variables()
                .iter()
                .filter(|(name, _)| name.starts_with("CNI_"))
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            expected.sort();
            let env = file("env");
            assert_eq!(env.lines().collect::<Vec<_>>(), expected);
        }
        assert_eq!(commands(ground), "ADD CHECK DEL");
    }

    pub fn its_complaints_are_passed_on(ground: &mut Ground) {
        let container = container(ground);
        script(ground, &format!("ADD) echo 'mind the gap' >&2;;\n{}", GOOD.replace("ADD)", "X)")));
        let said = ground.run("ADD", &container, &conf(ground));
        said.error();
        assert!(said.stderr.contains("mind the gap"), "{said:#?}");
        ground.run("DEL", &container, &conf(ground)).silence();
    }

    pub fn a_plugin_that_is_missing_is_an_error(ground: &mut Ground) {
        let container = container(ground);
        for command in ["ADD", "DEL"] {
            let said = ground.run(command, &container, &conf(ground));
            assert!(said.error().to_string().contains("fake-ipam"), "{said:#?}");
        }
        assert_eq!(ground.run("DEL", &container, &ground.conf()).code, 0);
        assert_eq!(kernel(&container, "eth0"), None);
    }

    pub fn its_errors_are_ours(ground: &mut Ground) {
        let container = container(ground);
        let error = r#"echo '{"cniVersion":"1.0.0","code":117,"msg":"no such luck","details":"none"}'; exit 1;;"#;
        script(ground, GOOD);
        let result = ground.run("ADD", &container, &conf(ground)).result();
        script(ground, &format!("DEL|CHECK) {error}"));
        let mut after = conf(ground);
        after["prevResult"] = result;
        for command in ["CHECK", "DEL"] {
            let said = ground.run(command, &container, &after);
            assert!(said.error().to_string().contains("no such luck"), "{command}: {said:#?}");
        }
        script(ground, &format!("ADD) {error}"));
        // Last: bridge cannot use a bridge that it made for a container which then failed.
        ground.run("DEL", &container, &conf(ground)).silence();
        let said = ground.run("ADD", &container, &conf(ground));
        assert!(said.error().to_string().contains("no such luck"), "{said:#?}");
        ground.run("DEL", &container, &conf(ground)).silence();
    }

    pub fn what_it_allocated_is_released_when_a_later_step_fails(ground: &mut Ground) {
        let container = container(ground);
        // A result without an address is none of an IPAM plugin's.
        script(ground, r#"ADD) echo '{"cniVersion":"1.0.0","ips":[]}';;"#);
        ground.run("ADD", &container, &conf(ground)).error();
        assert_eq!(commands(ground), "ADD DEL");
        ground.run("DEL", &container, &conf(ground)).silence();
    }

    pub fn its_failed_add_is_followed_by_its_del(ground: &mut Ground) {
        let container = container(ground);
        for failure in ["exit 1", "echo garbage", "kill -9 $$", "echo '{\"code\":7}'; exit 3"] {
            script(ground, &format!("ADD) {failure};;"));
            ground.run("ADD", &container, &conf(ground)).error();
            assert_eq!(commands(ground), "ADD DEL", "{failure}");
            assert_eq!(kernel(&container, "eth0"), None);
        }
        script(ground, r#"ADD) echo '{"code":117,"msg":"no such luck"}'; exit 1;;"#);
        ground.run("ADD", &container, &conf(ground)).fails_with(117);
    }

    pub fn gc_and_status_are_passed_on(ground: &mut Ground) {
        script(ground, "");
        let mut conf = conf(ground);
        conf["cniVersion"] = json!("1.1.0");
        conf["cni.dev/valid-attachments"] = json!([]);
        for command in ["GC", "STATUS"] {
            ground.bare(command, &conf).run(&ground.node).silence();
            assert_eq!(commands(ground), command);
        }
        script(ground, r#"GC|STATUS) echo '{"code":50,"msg":"no such luck"}'; exit 1;;"#);
        for command in ["GC", "STATUS"] {
            ground.bare(command, &conf).run(&ground.node).fails_with(50);
        }
    }

    pub fn a_lingering_one_is_waited_for(ground: &mut Ground) {
        let container = container(ground);
        // It closes its output and lingers; what it said counts.
        script(ground, &GOOD.replace(";;", "; exec >&-; sleep 0.3;;"));
        let start = Instant::now();
        ground.run("ADD", &container, &conf(ground)).result();
        assert!(start.elapsed() < Duration::from_secs(5));
        ground.run("DEL", &container, &conf(ground)).silence();
    }
}
