//! DEL.

crate::conformance!(all:
    the_interface_is_gone_and_the_address_is_free,
    it_may_be_called_again_and_for_nothing,
    the_namespace_may_be_gone,
    the_namespace_may_be_left_out,
    with_and_without_a_previous_result,
    a_failed_add_is_followed_by_it,
);
mod ours {
    crate::conformance!(ours, "it is about the daemon":
        without_the_daemon_it_succeeds_and_the_daemon_does_the_rest);
    use super::cases;
}

mod cases {
    use std::time::Duration;

    use podswitch_tests::{Daemon, wait_until};
    use serde_json::json;

    use crate::Ground;
    use crate::ground::{NODE, attachments, kernel};

    pub fn the_interface_is_gone_and_the_address_is_free(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        assert!(!ground.allocated().is_empty());
        let links = ground.node.links();
        ground.del(&container);
        assert_eq!(kernel(&container, "eth0"), None);
        assert!(ground.node.links().len() < links.len(), "the node's end is gone, too");
        assert!(ground.allocated().is_empty());
    }

    pub fn it_may_be_called_again_and_for_nothing(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.del(&container);
        ground.add(&container);
        ground.del(&container);
        ground.del(&container);
    }

    pub fn the_namespace_may_be_gone(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        let call = ground.call("DEL", &container, &ground.conf());
        drop(container);
        call.run(&ground.node).silence();
        assert!(ground.allocated().is_empty());
        call.run(&ground.node).silence();
    }

    pub fn the_namespace_may_be_left_out(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        let call = ground.call("DEL", &container, &ground.conf()).without("CNI_NETNS");
        drop(container);
        call.run(&ground.node).silence();
        assert!(ground.allocated().is_empty());
    }

    pub fn with_and_without_a_previous_result(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        ground.run("DEL", &container, &ground.after(&result)).silence();
        let mut conf = ground.conf();
        conf["prevResult"] = json!(null);
        ground.run("DEL", &container, &conf).silence();
    }

    pub fn a_failed_add_is_followed_by_it(ground: &mut Ground) {
        let container = ground.container("c1");
        let mut conf = ground.conf();
        conf["ipam"] = json!({"type": "no-such-plugin"});
        ground.run("ADD", &container, &conf).error();
        assert_eq!(ground.allocated(), Vec::<String>::new());
        ground.del(&container);
        assert_eq!(kernel(&container, "eth0"), None);
    }

    pub fn without_the_daemon_it_succeeds_and_the_daemon_does_the_rest(ground: &mut Ground) {
        let (gone, left) = (ground.container("c1"), ground.container("c2"));
        ground.add(&gone);
        ground.add(&left);
        let del = ground.call("DEL", &gone, &ground.conf());
        let del_left = ground.call("DEL", &left, &ground.conf());
        ground.daemon.take().expect("a daemon").crash();
        del.run(&ground.node).silence();
        assert_eq!(kernel(&gone, "eth0"), None, "removed without the daemon");
        assert!(kernel(&left, "eth0").is_some());
        let config = if ground.delegates() { "[switch]\nworkers = 1\n" } else { NODE };
        let daemon = Daemon::start(&ground.lab, &ground.node, config);
        let names: Vec<String> = attachments(&daemon).into_iter().map(|a| a.container_id).collect();
        assert_eq!(names, [left.name()], "the note is carried out before anybody is served");
        let notes = ground.lab.folder().join("node.sock.pending");
        wait_until("notes are removed", Duration::from_secs(3), || {
            std::fs::read_dir(&notes).map_or(true, |mut d| d.next().is_none())
        });
        del_left.run(&ground.node).silence();
        assert!(ground.allocated().is_empty());
        // It found what the one before it had left.
        daemon.finish_leaving(&["lo"]);
    }
}
